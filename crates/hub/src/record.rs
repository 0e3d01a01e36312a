//! What the registry keeps: the records and their keys. The serialised form of everything here rests on disk:
//! add members with a default, never rename or reuse one.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use crate::access::{Policy, PolicyName};
use crate::activity::{Activity, PolicyUse};
use crate::finding::{AppliedFix, Finding};
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::inbox::{Content, Deadline, Queue};
use crate::key_quality::KeyQuality;
use crate::ports::secrets::Fingerprint;
use crate::positions::GroupPositions;
use crate::record_reading::AuthenticationText;
use crate::service_bound::{Feedback, FeedbackKey, Lane, Number, Waiting};
use crate::settings::HubSettings;
use crate::twin::Twin;
use crate::upload::{Account, Blob, BlobName, Duty, DutyFacts, UploadId, Uploads};

/// The key of a record.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A device.
    Device(DeviceId),
    /// A module on a device.
    Module(DeviceId, ModuleId),
    /// A shared access policy.
    Policy(PolicyName),
    /// A certificate authority, by the name its owner gave it.
    Authority(String),
    /// The MQTT session of an identity.
    Session(Identity),
    /// A consumer group of the built-in endpoint, in lower case.
    ConsumerGroup(String),
    /// The settings of the running hub.
    Settings,
    /// The last use of an identity.
    Activity(Identity),
    /// The use of a policy.
    PolicyUse(PolicyName),
    /// A finding, by its id.
    Finding(String),
    /// A fix that was made, by its id.
    AppliedFix(String),
    /// The queue of device-bound messages of an identity.
    Inbox(Identity),
    /// The content of one of them, by its number in the queue.
    InboxMessage(Identity, u64),
    /// The twin of an identity.
    Twin(Identity),
    /// That a device-bound message expires whose sender wants to hear of it.
    InboxDeadline(Box<Deadline>),
    /// What became of a device-bound message.
    Feedback(Box<FeedbackKey>),
    /// A message to services.
    ServiceBound(Lane, Number),
    /// The uploads of a device.
    Uploads(DeviceId),
    /// A file that a device uploaded.
    Blob(DeviceId, BlobName),
    /// That what an upload left is to be removed.
    Duty(Box<Duty>),
    /// The account that devices write files to.
    UploadAccount,
    /// How far the readers of a consumer group have come; the group in lower case.
    ReadPositions(String),
}

impl Key {
    /// The kind of record under this key.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Device(_) => Kind::Device,
            Self::Module(..) => Kind::Module,
            Self::Policy(_) => Kind::Policy,
            Self::Authority(_) => Kind::Authority,
            Self::Session(_) => Kind::Session,
            Self::ConsumerGroup(_) => Kind::ConsumerGroup,
            Self::Settings => Kind::Settings,
            Self::Activity(_) => Kind::Activity,
            Self::PolicyUse(_) => Kind::PolicyUse,
            Self::Finding(_) => Kind::Finding,
            Self::AppliedFix(_) => Kind::AppliedFix,
            Self::Inbox(_) => Kind::Inbox,
            Self::InboxMessage(..) => Kind::InboxMessage,
            Self::Twin(_) => Kind::Twin,
            Self::InboxDeadline(_) => Kind::InboxDeadline,
            Self::Feedback(_) => Kind::Feedback,
            Self::ServiceBound(lane, _) => lane.kind(),
            Self::Uploads(_) => Kind::Uploads,
            Self::Blob(..) => Kind::Blob,
            Self::Duty(_) => Kind::Duty,
            Self::UploadAccount => Kind::UploadAccount,
            Self::ReadPositions(_) => Kind::ReadPositions,
        }
    }

    /// The key as two texts, an owner and a name within it, such that the pairs of one kind sort as the keys do.
    /// [`Key::from_parts`] reads them back.
    pub fn parts(&self) -> (&str, Cow<'_, str>) {
        match self {
            Self::Device(device) | Self::Uploads(device) => (device.as_str(), Cow::default()),
            Self::Module(device, module) => (device.as_str(), module.as_str().into()),
            Self::Blob(device, name) => (device.as_str(), name.as_str().into()),
            Self::Duty(duty) => (HUB, format!("{:020} {} {}", duty.time, duty.device, duty.upload.0).into()),
            Self::Policy(name) | Self::PolicyUse(name) => (name.as_str(), Cow::default()),
            Self::Authority(name)
            | Self::ConsumerGroup(name)
            | Self::ReadPositions(name)
            | Self::Finding(name)
            | Self::AppliedFix(name) => (name, Cow::default()),
            Self::Settings => ("", Cow::default()),
            Self::UploadAccount => (HUB, Cow::default()),
            Self::Session(identity)
            | Self::Activity(identity)
            | Self::Twin(identity)
            | Self::Inbox(identity) => (identity.device.as_str(), module_text(identity).into()),
            // A blank comes before all that an id may have, and the digits are as many for every number.
            Self::InboxMessage(identity, sequence) => {
                (identity.device.as_str(), format!("{} {sequence:020}", module_text(identity)).into())
            }
            Self::InboxDeadline(deadline) => {
                let Deadline { time, identity, sequence } = &**deadline;
                let module = module_text(identity);
                (HUB, format!("{time:020} {} {module} {sequence:020}", identity.device).into())
            }
            Self::Feedback(key) => {
                let FeedbackKey { identity, generation, sequence } = &**key;
                let name = format!("{} {generation} {sequence:020}", module_text(identity));
                (identity.device.as_str(), name.into())
            }
            Self::ServiceBound(_, number) => (HUB, format!("{:020}", number.0).into()),
        }
    }

    /// The key of a kind whose parts these are, or `None` when they are not the parts of such a key.
    pub fn from_parts(kind: Kind, owner: &str, name: &str) -> Option<Self> {
        Some(match kind {
            Kind::Device => Self::Device(DeviceId::parse(owner).ok()?),
            Kind::Module => Self::Module(DeviceId::parse(owner).ok()?, ModuleId::parse(name).ok()?),
            Kind::Policy => Self::Policy(PolicyName::parse(owner).ok()?),
            Kind::Authority => Self::Authority(owner.to_owned()),
            Kind::Session => Self::Session(identity(owner, name)?),
            Kind::ConsumerGroup => Self::ConsumerGroup(owner.to_owned()),
            Kind::Settings => Self::Settings,
            Kind::Activity => Self::Activity(identity(owner, name)?),
            Kind::PolicyUse => Self::PolicyUse(PolicyName::parse(owner).ok()?),
            Kind::Finding => Self::Finding(owner.to_owned()),
            Kind::AppliedFix => Self::AppliedFix(owner.to_owned()),
            Kind::Twin => Self::Twin(identity(owner, name)?),
            Kind::Inbox => Self::Inbox(identity(owner, name)?),
            Kind::InboxMessage => {
                let (module, sequence) = name.rsplit_once(' ')?;
                Self::InboxMessage(identity(owner, module)?, sequence.parse().ok()?)
            }
            Kind::InboxDeadline => {
                let mut parts = name.split(' ');
                let time = parts.next()?.parse().ok()?;
                let identity = identity(parts.next()?, parts.next()?)?;
                let sequence = parts.next()?.parse().ok()?;
                Self::InboxDeadline(Box::new(Deadline { time, identity, sequence }))
            }
            Kind::Feedback => {
                let mut parts = name.split(' ');
                let identity = identity(owner, parts.next()?)?;
                let generation = parts.next()?.to_owned();
                let sequence = parts.next()?.parse().ok()?;
                Self::Feedback(Box::new(FeedbackKey { identity, generation, sequence }))
            }
            Kind::UploadAccount => Self::UploadAccount,
            Kind::ReadPositions => Self::ReadPositions(owner.to_owned()),
            Kind::Uploads => Self::Uploads(DeviceId::parse(owner).ok()?),
            Kind::Blob => Self::Blob(DeviceId::parse(owner).ok()?, BlobName::parse(name).ok()?),
            Kind::Duty => {
                let mut parts = name.split(' ');
                let time = parts.next()?.parse().ok()?;
                let device = DeviceId::parse(parts.next()?).ok()?;
                Self::Duty(Box::new(Duty { time, device, upload: UploadId(parts.next()?.to_owned()) }))
            }
            Kind::FeedbackMessage => Self::ServiceBound(Lane::Feedback, Number(name.parse().ok()?)),
            Kind::FileNotification => Self::ServiceBound(Lane::FileNotifications, Number(name.parse().ok()?)),
        })
    }
}

/// The owner of what belongs to no device.
const HUB: &str = "hub";

impl Lane {
    /// The kind of its records.
    pub(crate) fn kind(self) -> Kind {
        match self {
            Self::Feedback => Kind::FeedbackMessage,
            Self::FileNotifications => Kind::FileNotification,
        }
    }
}

fn module_text(identity: &Identity) -> &str {
    identity.module.as_ref().map(ModuleId::as_str).unwrap_or_default()
}

fn identity(device: &str, module: &str) -> Option<Identity> {
    let device = DeviceId::parse(device).ok()?;
    Some(match module {
        "" => Identity::device(device),
        module => Identity::module(device, ModuleId::parse(module).ok()?),
    })
}

/// The kinds of records. The number is the one that rests on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Kind {
    /// Devices.
    Device = 1,
    /// Modules.
    Module = 2,
    /// Shared access policies.
    Policy = 3,
    /// Certificate authorities.
    Authority = 4,
    /// MQTT sessions.
    Session = 5,
    /// Consumer groups.
    ConsumerGroup = 6,
    /// The settings of the running hub.
    Settings = 7,
    /// The last use of identities.
    Activity = 8,
    /// The use of policies.
    PolicyUse = 9,
    /// Findings.
    Finding = 10,
    /// Fixes that were made.
    AppliedFix = 11,
    /// Twins.
    Twin = 12,
    /// Queues of device-bound messages.
    Inbox = 13,
    /// The contents of device-bound messages.
    InboxMessage = 14,
    /// When device-bound messages expire whose senders want to hear of it.
    InboxDeadline = 15,
    /// What became of device-bound messages.
    Feedback = 16,
    /// Messages of feedback to services.
    FeedbackMessage = 17,
    /// Notices of files to services.
    FileNotification = 18,
    /// Uploads of devices.
    Uploads = 19,
    /// Files that devices uploaded.
    Blob = 20,
    /// What uploads left that is to be removed.
    Duty = 21,
    /// The account that devices write files to.
    UploadAccount = 22,
    /// How far the readers of consumer groups have come.
    ReadPositions = 23,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 23] = [
        Self::Device,
        Self::Module,
        Self::Policy,
        Self::Authority,
        Self::Session,
        Self::ConsumerGroup,
        Self::Settings,
        Self::Activity,
        Self::PolicyUse,
        Self::Finding,
        Self::AppliedFix,
        Self::Twin,
        Self::Inbox,
        Self::InboxMessage,
        Self::InboxDeadline,
        Self::Feedback,
        Self::FeedbackMessage,
        Self::FileNotification,
        Self::Uploads,
        Self::Blob,
        Self::Duty,
        Self::UploadAccount,
        Self::ReadPositions,
    ];
}

/// A record of the registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "camelCase")]
pub enum Record {
    /// A device.
    Device(Device),
    /// A module.
    Module(Module),
    /// A shared access policy.
    Policy(Policy),
    /// A certificate authority.
    Authority(Authority),
    /// An MQTT session.
    Session(Session),
    /// A consumer group.
    ConsumerGroup(ConsumerGroup),
    /// The settings of the running hub.
    Settings(HubSettings),
    /// The last use of an identity.
    Activity(Activity),
    /// The use of a policy.
    PolicyUse(PolicyUse),
    /// A finding.
    Finding(Box<Finding>),
    /// A fix that was made.
    AppliedFix(Box<AppliedFix>),
    /// A twin.
    Twin(Box<Twin>),
    /// A queue of device-bound messages.
    Inbox(Box<Queue>),
    /// The content of a device-bound message.
    InboxMessage(Box<Content>),
    /// That a device-bound message expires.
    InboxDeadline,
    /// What became of a device-bound message.
    Feedback(Feedback),
    /// A message to services.
    ServiceBound(Box<Waiting>),
    /// The uploads of a device.
    Uploads(Box<Uploads>),
    /// A file that a device uploaded.
    Blob(Box<Blob>),
    /// That what an upload left is to be removed.
    Duty(DutyFacts),
    /// The account that devices write files to.
    UploadAccount(Box<Account>),
    /// How far the readers of a consumer group have come.
    ReadPositions(GroupPositions),
}

impl Record {
    /// The record as JSON text, as it rests.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        json_text(self)
    }

    /// Reads the JSON text of a record whose kind is known. Reading an enum by its tag would copy every member first, in
    /// search of the tag.
    pub fn from_json(kind: Kind, text: &str) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Device => Self::Device(serde_json::from_str(text)?),
            Kind::Module => Self::Module(serde_json::from_str(text)?),
            Kind::Policy => Self::Policy(serde_json::from_str(text)?),
            Kind::Authority => Self::Authority(serde_json::from_str(text)?),
            Kind::Session => Self::Session(serde_json::from_str(text)?),
            Kind::ConsumerGroup => Self::ConsumerGroup(serde_json::from_str(text)?),
            // They refuse members that they do not know, as the tag is one.
            Kind::Settings => serde_json::from_str(text)?,
            Kind::Activity => Self::Activity(serde_json::from_str(text)?),
            Kind::PolicyUse => Self::PolicyUse(serde_json::from_str(text)?),
            Kind::Finding => Self::Finding(serde_json::from_str(text)?),
            Kind::AppliedFix => Self::AppliedFix(serde_json::from_str(text)?),
            Kind::Twin => Self::Twin(serde_json::from_str(text)?),
            Kind::Inbox => Self::Inbox(serde_json::from_str(text)?),
            Kind::InboxMessage => Self::InboxMessage(serde_json::from_str(text)?),
            Kind::InboxDeadline => Self::InboxDeadline,
            Kind::Feedback => Self::Feedback(serde_json::from_str(text)?),
            Kind::Uploads => Self::Uploads(serde_json::from_str(text)?),
            Kind::Blob => Self::Blob(serde_json::from_str(text)?),
            Kind::Duty => Self::Duty(serde_json::from_str(text)?),
            Kind::UploadAccount => Self::UploadAccount(serde_json::from_str(text)?),
            Kind::ReadPositions => Self::ReadPositions(serde_json::from_str(text)?),
            Kind::FeedbackMessage | Kind::FileNotification => Self::ServiceBound(serde_json::from_str(text)?),
        })
    }
}

/// What most records and decisions take as text, in bytes.
const TEXT_BYTES: usize = 1_024;

/// JSON text, for which memory is mostly asked once.
pub(crate) fn json_text(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = Vec::with_capacity(TEXT_BYTES);
    serde_json::to_writer(&mut text, value)?;
    String::from_utf8(text).map_err(serde::ser::Error::custom)
}

/// A device identity (`docs/protocol/service-rest.md` §3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub id: DeviceId,
    /// Differs each time an id is deleted and made again.
    pub generation: String,
    /// Changes with every change of the identity; opaque, without quotes.
    pub etag: String,
    /// Whether it may connect.
    pub status: Status,
    /// Why it has this status, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_reason: Option<String>,
    /// When the status changed last; `None` while it never did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_updated: Option<Timestamp>,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// Whether it is an edge device.
    #[serde(default)]
    pub edge: bool,
    /// The scope of an edge device, or the parent's scope of a leaf.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_scope: Option<String>,
    /// The scopes of its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_scopes: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
}

/// A module identity (`docs/protocol/service-rest.md` §3.3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Module {
    /// Its device.
    pub device: DeviceId,
    /// Its id.
    pub id: ModuleId,
    /// Differs each time an id is deleted and made again.
    pub generation: String,
    /// Changes with every change of the identity; opaque, without quotes.
    pub etag: String,
    /// Who manages it, as its owner wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_by: Option<String>,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// When it was made.
    pub created: Timestamp,
}

/// Whether an identity may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// It may.
    Enabled,
    /// It may not.
    Disabled,
}

/// How an identity proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase", try_from = "AuthenticationText")]
pub enum Authentication {
    /// By a token signed with one of two symmetric keys.
    Sas {
        /// The primary key.
        primary: SealedKey,
        /// The secondary key.
        secondary: SealedKey,
    },
    /// By a certificate with one of two registered thumbprints.
    SelfSigned {
        /// The primary thumbprint.
        primary: Option<Thumbprint>,
        /// The secondary thumbprint.
        secondary: Option<Thumbprint>,
    },
    /// By a certificate under a verified certificate authority, whose common name is the device id.
    CertificateAuthority,
    /// Not at all: it cannot connect by itself.
    None,
}

/// A symmetric key, sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SealedKey {
    /// The ciphertext of the key's text, in base64.
    pub sealed: String,
    /// By which it is compared and named.
    pub fingerprint: Fingerprint,
    /// When it was set.
    pub set: Timestamp,
    /// What was found out of it then; `None` for one that is older than that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Box<KeyQuality>>,
}

/// Which of two keys, thumbprints or slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Slot {
    /// The primary one.
    Primary,
    /// The secondary one.
    Secondary,
}

/// The SHA-1 or SHA-256 digest of a certificate, in upper-case hexadecimal digits as Azure shows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Thumbprint(String);

impl Thumbprint {
    /// Reads 40 (SHA-1) or 64 (SHA-256) hexadecimal digits of any case.
    pub fn parse(text: &str) -> Result<Self, ThumbprintError> {
        if !matches!(text.len(), 40 | 64) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ThumbprintError);
        }
        Ok(Self(text.to_ascii_uppercase()))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = ThumbprintError;
    fn try_from(text: String) -> Result<Self, ThumbprintError> {
        Self::parse(&text)
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> String {
        thumbprint.0
    }
}

/// A text that is no thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is 40 (SHA-1) or 64 (SHA-256) hexadecimal digits without separators")]
pub struct ThumbprintError;

/// A certificate authority that devices' certificates may chain to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// The name its owner gave it.
    pub name: String,
    /// The certificate, DER in base64.
    pub certificate: String,
    /// The subject, for people.
    pub subject: String,
    /// Its SHA-256 thumbprint.
    pub thumbprint: Thumbprint,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// Whether possession of its key was proved, or declared by the operator.
    pub verified: bool,
    /// The code that a proof-of-possession certificate must carry as common name, while one is awaited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification_code: Option<String>,
    /// The newest certificate revocation lists of this issuer, one for each scope, DER in base64.
    #[serde(
        default,
        alias = "revocationList",
        deserialize_with = "one_or_several",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub revocation_lists: Vec<String>,
    /// When it was added.
    pub created: Timestamp,
}

/// Reads texts, or the one that earlier builds wrote.
fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    })
}

/// What an MQTT session must remember while nobody is connected (`docs/protocol/device-mqtt.md` §2.7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The generation of the identity whose session it is; a session of an older one counts for nothing.
    pub generation: String,
    /// The subscriptions, in the order they were made.
    pub subscriptions: Vec<Subscription>,
}

/// One subscription of a [`Session`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// The topic filter.
    pub filter: String,
    /// The granted quality of service, 0 or 1.
    pub qos: u8,
}

/// A consumer group of the built-in endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerGroup {
    /// The name in the case in which it was made.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_back_as_they_were_written() {
        let settings = HubSettings { max_token_lifetime: Some(86_400), ..HubSettings::default() };
        let record = Record::Settings(settings);
        let text = serde_json::to_string(&record).expect("written");
        assert_eq!(Record::from_json(Kind::Settings, &text).expect("read"), record);
    }
}
