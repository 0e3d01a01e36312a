//! The event of every decision: who wanted what, from where, with which credential, and whether it was allowed.
//! The audit log, `holdfast why` and later the metrics and the posture engine read this one stream.

use std::borrow::Cow;
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::PolicyName;
use crate::backoff::Slowed;
use crate::deed::{ChangeKind, OperationName};
use crate::edge::Moved;
use crate::key_search::Clue;
use crate::ports::bus::Ending;
use crate::record::Slot;
use crate::refusal::Refusal;

/// One decision and the facts it was made on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Decision {
    /// When.
    pub time: Timestamp,
    /// What was decided about.
    pub act: Act,
    /// The device or module it concerns, `device` or `device/module`, as it was claimed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// Who acted, for what a service or an operator did: a policy, or `operator`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// From which parent to which a device went, for a change that moved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Box<Moved>>,
    /// Where it came from.
    #[serde(default)]
    pub origin: Origin,
    /// What was presented.
    #[serde(default)]
    pub facts: Facts,
    /// Why it was refused; `None` when it was allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
    /// How many decisions this record stands for: those of one source and cause beyond a number a minute are folded.
    #[serde(default = "one")]
    pub count: u64,
}

fn one() -> u64 {
    1
}

impl Decision {
    /// A decision about this, allowed, with nothing else known yet.
    pub fn new(time: Timestamp, act: Act) -> Self {
        Self {
            time,
            act,
            identity: None,
            actor: None,
            parent: None,
            origin: Origin::default(),
            facts: Facts::default(),
            refusal: None,
            count: 1,
        }
    }
}

/// What a decision is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Act {
    /// A TLS handshake, or what came in its place.
    Handshake,
    /// A device connection.
    Connect,
    /// The end of a device connection.
    Disconnect {
        /// Why it ended, in words.
        reason: String,
        /// Why the hub ended it, where it did. Records of earlier builds have the words only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ending: Option<Ending>,
    },
    /// A link of an AMQP connection.
    Link {
        /// Its address.
        address: String,
    },
    /// A token put on an open connection.
    Token,
    /// An operation of a device or service.
    Operation {
        /// Which one.
        name: OperationName,
    },
    /// A change of the registry; its record commits with it.
    Change {
        /// What was changed, in a word or two: `create device`.
        what: ChangeKind,
        /// The key of the record.
        target: String,
        /// Whether it is one that back ends make all day: it is kept as long as a connection is, and not for ever.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        routine: bool,
    },
    /// Records that were lost because too many came at once; `count` says how many.
    Gap,
    /// Retention dropped the bodies of old records of the audit log (`audit::retention`).
    Retention {
        /// The first number of the range.
        first: u64,
        /// The last number of the range.
        last: u64,
        /// The numbers in between whose bodies stay: records of changes, and of earlier retention.
        #[serde(default)]
        kept: Vec<u64>,
    },
}

impl Act {
    /// What it is called in records and tables: the `kind` of its JSON.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Connect => "connect",
            Self::Disconnect { .. } => "disconnect",
            Self::Link { .. } => "link",
            Self::Token => "token",
            Self::Operation { .. } => "operation",
            Self::Change { .. } => "change",
            Self::Gap => "gap",
            Self::Retention { .. } => "retention",
        }
    }
}

/// Where a decision's request came from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// The peer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The peer's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The door it knocked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<Door>,
}

/// The doors of the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Door {
    /// MQTT over TLS.
    #[serde(rename = "mqtt")]
    Mqtt,
    /// MQTT over WebSocket.
    #[serde(rename = "mqtt-ws")]
    MqttWs,
    /// AMQP over TLS.
    #[serde(rename = "amqp")]
    Amqp,
    /// AMQP over WebSocket.
    #[serde(rename = "amqp-ws")]
    AmqpWs,
    /// HTTPS.
    #[serde(rename = "https")]
    Https,
}

impl Door {
    /// The name in records and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mqtt => "mqtt",
            Self::MqttWs => "mqtt-ws",
            Self::Amqp => "amqp",
            Self::AmqpWs => "amqp-ws",
            Self::Https => "https",
        }
    }
}

/// What was presented. Texts of the peer are cut at [`TEXT_CHARS_MAX`]; no key, signature or token of what is stored is
/// in here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    /// The product string of the SDK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// The api-version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// `1.2` or `1.3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_version: Option<Cow<'static, str>>,
    /// The cipher suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cipher: Option<Cow<'static, str>>,
    /// The server name that the client asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The fields of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenFacts>,
    /// The policy whose key admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// The slot of the key or thumbprint that admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<Slot>,
    /// The gateway that came for the identity, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The certificates offered, leaf first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<CertificateFacts>,
    /// How the answer was slowed down, where there had been too many refusals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowed: Option<Slowed>,
    /// What a search for the mistake behind a wrong signature needs. It is taken out before anything is stored.
    #[serde(skip)]
    pub clue: Option<Box<Clue>>,
}

/// The longest text of a peer that is kept in a record, in characters.
pub const TEXT_CHARS_MAX: usize = 256;

/// A peer's text cut to what a record keeps.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => text[..end].to_owned(),
        None => text.to_owned(),
    }
}

/// The fields of a SAS token that are no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenFacts {
    /// The resource.
    pub sr: String,
    /// The end, seconds since 1970 UTC.
    pub se: i64,
    /// The policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skn: Option<String>,
}

/// What a record says of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFacts {
    /// The subject.
    pub subject: String,
    /// The issuer.
    pub issuer: String,
    /// SHA-256 of the certificate.
    pub thumbprint: String,
    /// SHA-256 of its public key.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub public_key: String,
    /// Its serial number, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// The beginning of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The end of its validity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Timestamp>,
}

/// Which decisions are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DecisionFilter {
    /// Only those about this device or one of its modules.
    pub device: Option<String>,
    /// Only those from this address.
    pub address: Option<IpAddr>,
    /// Only refusals.
    pub refused_only: bool,
    /// Only those whose act is of this kind, as [`Act::kind`] calls it.
    pub kind: Option<String>,
    /// Only those of this time or later.
    pub since: Option<Timestamp>,
    /// Only those before this time.
    pub until: Option<Timestamp>,
    /// Only those with a number below this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

impl DecisionFilter {
    /// Whether a decision passes what the filter asks of its time and kind; what it asks for besides, adapters search by.
    pub fn admits(&self, decision: &Decision) -> bool {
        self.kind.as_deref().is_none_or(|kind| decision.act.kind() == kind)
            && self.since.is_none_or(|since| decision.time >= since)
            && self.until.is_none_or(|until| decision.time < until)
    }
}

/// A record with its number in the order of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// Its number, from 1 on without a gap, never reused.
    pub number: u64,
    /// The record.
    #[serde(flatten)]
    pub record: T,
}
