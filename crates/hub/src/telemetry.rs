//! Telemetry: what a device sends, its limits, and the partition it goes to
//! (`docs/protocol/limits.md` §1, `docs/protocol/event-hubs-endpoint.md` §7).

use std::collections::HashSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use bytestring::ByteString;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
pub use crate::limits::TELEMETRY_MESSAGE_BYTES_MAX as MESSAGE_BYTES_MAX;
use crate::twin::time_text;

/// The interface id of a security agent's messages.
const SECURITY_INTERFACE: &str = "urn:azureiot:Security:SecurityAgent:1";

/// A time in milliseconds since 1970 UTC, the resolution of the protocols.
pub type Millis = i64;

/// One message from a device to the cloud, as the hub took it.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// When the hub received it (`iothub-enqueuedtime`).
    pub enqueued: Millis,
    /// The stamps of the connection that sent it, shared by all its messages.
    pub sender: Arc<Sender>,
    /// System properties in the order they came; each at most once.
    pub system: Vec<(SystemProperty, ByteString)>,
    /// Application properties in the order they came; each name at most once.
    pub application: Vec<(ByteString, PropertyValue)>,
    /// The payload, untouched.
    pub body: Bytes,
}

impl Message {
    /// Whether it is a message of a security agent, which is for the guard and not for readers of the stream
    /// (`docs/protocol/device-mqtt.md` §4.2).
    pub fn is_security(&self) -> bool {
        self.system.iter().any(|(property, value)| {
            *property == SystemProperty::InterfaceId && value.eq_ignore_ascii_case(SECURITY_INTERFACE)
        })
    }

    /// The size that the limit speaks of (`docs/protocol/limits.md` §1.1).
    pub fn metered_bytes(&self) -> usize {
        let system: usize = self.system.iter().map(|(_, value)| value.len()).sum();
        let application: usize =
            self.application.iter().map(|(name, value)| name.len() + value.metered_bytes()).sum();
        self.body.len() + system + application
    }
}

/// What the hub knows of the sender and stamps on its messages; a device cannot set any of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sender {
    /// The device or module that sent it.
    pub identity: Identity,
    /// The generation of the identity (`iothub-connection-auth-generation-id`); empty in the hub's own events.
    pub generation: String,
    /// How the connection was authenticated (`iothub-connection-auth-method`), as the JSON text of the wire;
    /// empty in the hub's own events.
    pub auth_method: String,
    /// What kind of event it is.
    pub source: Source,
    /// The model id that the connection announced (`dt-dataschema`).
    pub model_id: Option<String>,
}

/// What an event in the stream is (`iothub-message-source`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A message that a device or module sent.
    Telemetry,
    /// The hub's, of a twin that changed.
    TwinChange,
    /// The hub's, of an identity that was made or removed.
    DeviceLifecycle,
    /// The hub's, of a connection that began or ended.
    DeviceConnectionState,
}

impl Source {
    /// The spelling on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Telemetry => "Telemetry",
            Self::TwinChange => "twinChangeEvents",
            Self::DeviceLifecycle => "deviceLifecycleEvents",
            Self::DeviceConnectionState => "deviceConnectionStateEvents",
        }
    }
}

/// A system property that a device may set. The number is the one that rests on disk: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SystemProperty {
    /// `message-id`.
    MessageId = 1,
    /// `correlation-id`.
    CorrelationId = 2,
    /// `user-id`.
    UserId = 3,
    /// `to`.
    To = 4,
    /// `content-type`.
    ContentType = 5,
    /// `content-encoding`.
    ContentEncoding = 6,
    /// `absolute-expiry-time`, ISO 8601.
    Expiry = 7,
    /// `iothub-creation-time-utc`.
    CreationTime = 8,
    /// `iothub-outputname`: the output of a module.
    OutputName = 9,
    /// `iothub-interface-id`.
    InterfaceId = 10,
    /// `dt-subject`: the Plug and Play component.
    Subject = 11,
    /// `Diagnostic-Id`.
    DiagnosticId = 12,
    /// `Correlation-Context`.
    CorrelationContext = 13,
    /// `iothub-message-schema`.
    MessageSchema = 14,
    /// `iothub-operation`.
    Operation = 15,
    /// `iothub-ack`.
    Ack = 16,
}

impl SystemProperty {
    /// All of them, by the number on disk.
    pub const ALL: [Self; 16] = [
        Self::MessageId,
        Self::CorrelationId,
        Self::UserId,
        Self::To,
        Self::ContentType,
        Self::ContentEncoding,
        Self::Expiry,
        Self::CreationTime,
        Self::OutputName,
        Self::InterfaceId,
        Self::Subject,
        Self::DiagnosticId,
        Self::CorrelationContext,
        Self::MessageSchema,
        Self::Operation,
        Self::Ack,
    ];
}

/// The value of an application property. MQTT and HTTPS carry text only; AMQP types are kept as they came.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum PropertyValue {
    /// Text.
    Text(ByteString),
    /// No value.
    Null,
    /// A Boolean.
    Bool(bool),
    /// A signed integer of any width.
    Long(i64),
    /// A floating-point number of any width.
    Double(f64),
    /// A point in time.
    Timestamp(Millis),
    /// Bytes.
    Binary(Bytes),
}

impl PropertyValue {
    /// Its text, for protocols that carry nothing else; `None` for no value.
    pub fn to_text(&self) -> Option<ByteString> {
        Some(match self {
            Self::Text(text) => text.clone(),
            Self::Null => return None,
            Self::Bool(value) => value.to_string().into(),
            Self::Long(value) => value.to_string().into(),
            Self::Double(value) => value.to_string().into(),
            Self::Timestamp(millis) => Timestamp::from_millisecond(*millis)
                .map(time_text)
                .unwrap_or_else(|_| millis.to_string())
                .into(),
            Self::Binary(bytes) => STANDARD.encode(bytes).into(),
        })
    }

    /// The bytes that count towards the size of the message.
    pub fn metered_bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Long(_) | Self::Double(_) | Self::Timestamp(_) => 8,
        }
    }
}

/// So many names are compared with each other sooner than they are hashed.
const FEW: usize = 8;

/// Keeps the last property of each name. A message has room for some 20,000 of them, so each is looked at once.
pub fn keep_last(application: &mut Vec<(ByteString, PropertyValue)>) {
    if application.len() <= FEW {
        for at in (0..application.len()).rev() {
            let (name, _) = &application[at];
            if application[at + 1..].iter().any(|(later, _)| later == name) {
                application.remove(at);
            }
        }
        return;
    }
    let mut seen = HashSet::with_capacity(application.len());
    let mut last: Vec<bool> = application.iter().rev().map(|(name, _)| seen.insert(name.clone())).collect();
    application.retain(|_| last.pop() == Some(true));
}
