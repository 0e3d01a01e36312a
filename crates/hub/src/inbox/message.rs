//! A device-bound message: what a service sends, and what rests of it.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{MESSAGE_BYTES_MAX, QUEUE_MAX, TIME_TO_LIVE, TIME_TO_LIVE_MAX};
use crate::error::{HubError, HubErrorCode};
use crate::telemetry::{PropertyValue, SystemProperty};
use crate::twin::time_text;

/// What the sender of a message wants to hear of its fate (`iothub-ack`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ack {
    /// Nothing.
    #[default]
    None,
    /// When it is completed.
    Positive,
    /// When it is lost.
    Negative,
    /// Both.
    Full,
}

impl Ack {
    /// Reads the value of `iothub-ack`; one that nobody knows means none (`docs/protocol/amqp.md` §9.1).
    pub fn parse(text: &str) -> Self {
        match text.to_ascii_lowercase().as_str() {
            "positive" => Self::Positive,
            "negative" => Self::Negative,
            "full" => Self::Full,
            _ => Self::None,
        }
    }

    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Full => "full",
        }
    }
}

/// A message as a service sends it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Submission {
    /// System properties, each at most once; not `to` and expiry, which stand elsewhere. Ack as its sender wrote it, where
    /// it did.
    pub system: Vec<(SystemProperty, String)>,
    /// Application properties.
    pub application: Vec<(String, PropertyValue)>,
    /// The payload.
    pub body: Bytes,
    /// When it expires; [`TIME_TO_LIVE`] from now when absent. One that is past expires at once.
    pub expires: Option<Timestamp>,
    /// What the sender wants to hear.
    pub ack: Ack,
    /// Who sends it: the policy that admitted it, or the operator.
    pub sender: String,
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEnqueued {
    /// It is larger than a message may be.
    #[error("a device-bound message of {bytes} bytes is over the limit of {MESSAGE_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// As many wait as may.
    #[error("{QUEUE_MAX} messages wait for it already")]
    QueueFull,
    /// One of its texts has the character U+0000, which MQTT forbids [MQTT-1.5.3-2].
    #[error("the property `{0}` has the character U+0000, which no protocol of devices carries in a text")]
    Nul(String),
    /// It would wait for too long.
    #[error("it expires in more than {} days", TIME_TO_LIVE_MAX.as_secs() / 86_400)]
    ExpiresTooLate,
    /// The device or module is not registered, or the store failed.
    #[error("{}", .0.message)]
    Hub(HubError),
}

impl From<HubError> for NotEnqueued {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl Submission {
    /// When it expires, for one that comes now.
    pub(super) fn expiry(&self, now: Timestamp) -> Result<Timestamp, NotEnqueued> {
        let after = |length: std::time::Duration| {
            let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
            now.checked_add(length).unwrap_or(Timestamp::MAX)
        };
        match self.expires {
            None => Ok(after(TIME_TO_LIVE)),
            Some(expires) if expires > after(TIME_TO_LIVE_MAX) => Err(NotEnqueued::ExpiresTooLate),
            Some(expires) => Ok(expires),
        }
    }

    /// Its size as the limit counts it (`docs/protocol/limits.md` §1.1).
    pub fn metered_bytes(&self) -> usize {
        let system: usize = self.system.iter().map(|(_, value)| value.len()).sum();
        let application: usize =
            self.application.iter().map(|(name, value)| name.len() + value.metered_bytes()).sum();
        self.body.len() + system + application
    }

    /// Names the property that no device can be sent.
    pub(super) fn check_texts(&self) -> Result<(), NotEnqueued> {
        let has_nul = |text: &str| text.contains('\0');
        let system = self.system.iter().filter(|(_, value)| has_nul(value));
        let mut system = system.map(|(property, _)| property.names().amqp.to_owned());
        let mut application = self.application.iter().filter(|(name, value)| {
            has_nul(name) || matches!(value, PropertyValue::Text(text) if has_nul(text))
        });
        match system.next().or_else(|| application.next().map(|(name, _)| name.replace('\0', "␀"))) {
            Some(name) => Err(NotEnqueued::Nul(name)),
            None => Ok(()),
        }
    }

    /// Its id.
    pub(super) fn message_id(&self) -> Option<String> {
        let id = self.system.iter().find(|(property, _)| *property == SystemProperty::MessageId);
        id.map(|(_, value)| value.clone())
    }
}

/// What a receiver gets of a message, as it rests. Application properties are text: two of the three protocols that devices
/// speak carry nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Content {
    /// System properties, expiry and ack included where the sender set them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub system: Vec<(SystemProperty, String)>,
    /// Application properties; `None` is null.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub application: Vec<(String, Option<String>)>,
    /// The payload.
    #[serde(with = "base64_text")]
    pub body: Bytes,
}

impl From<&Submission> for Content {
    fn from(submission: &Submission) -> Self {
        let text = |(name, value): &(String, PropertyValue)| {
            (name.clone(), value.to_text().map(|text| text.to_string()))
        };
        let mut system = submission.system.clone();
        // What the hub would do anyway is not in the message.
        system.extend(submission.expires.map(|expires| (SystemProperty::Expiry, time_text(expires))));
        let is_written = system.iter().any(|(property, _)| *property == SystemProperty::Ack);
        let ack = Some(submission.ack).filter(|ack| *ack != Ack::None && !is_written);
        system.extend(ack.map(|ack| (SystemProperty::Ack, ack.as_str().to_owned())));
        Self {
            system,
            application: submission.application.iter().map(text).collect(),
            body: submission.body.clone(),
        }
    }
}

impl From<NotEnqueued> for HubError {
    fn from(error: NotEnqueued) -> Self {
        let code = match &error {
            NotEnqueued::TooLarge { .. } => HubErrorCode::MessageTooLarge,
            NotEnqueued::QueueFull => HubErrorCode::DeviceMaximumQueueDepthExceeded,
            NotEnqueued::ExpiresTooLate | NotEnqueued::Nul(_) => HubErrorCode::ArgumentInvalid,
            NotEnqueued::Hub(inner) => return inner.clone(),
        };
        Self::new(code, error.to_string())
    }
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD.decode(text.as_bytes()).map(Bytes::from).map_err(D::Error::custom)
    }
}
