use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use wire::amqp::codec::ValueRef;
use wire::amqp::message::Message;

use crate::SimError;

/// An event as a back end reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The partition it was read from.
    pub partition: Arc<str>,
    /// Its place in the partition.
    pub sequence: i64,
    /// Its offset.
    pub offset: String,
    /// When the hub stored it, in milliseconds since 1970.
    pub enqueued_milliseconds: i64,
    /// The device that sent it.
    pub device: String,
    /// The module of the device that sent it, if one did.
    pub module: Option<String>,
    /// What kind of event it is: `Telemetry`, or one that the hub itself made, such as `twinChangeEvents`.
    pub source: String,
    /// The message id that the device gave it.
    pub message_id: Option<String>,
    /// The content type that the device gave it.
    pub content_type: Option<String>,
    /// The application properties; what is no text is left out.
    pub properties: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

impl Event {
    pub(super) fn parse(partition: &Arc<str>, encoded: &Bytes) -> Result<Self, SimError> {
        let message = Message::parse(encoded).map_err(|error| SimError::Amqp(error.to_string()))?;
        let annotation = |name: &str| message.message_annotations.get(name);
        let text = |name: &str| annotation(name).and_then(ValueRef::as_text).unwrap_or_default().to_owned();
        let sequence = annotation("x-opt-sequence-number").and_then(ValueRef::as_i64);
        let mut properties = Vec::new();
        for entry in message.application_properties.iter() {
            let (name, value) = entry.map_err(|error| SimError::Amqp(error.to_string()))?;
            if let (Some(name), Some(value)) = (name.as_text(), value.as_text()) {
                properties.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(Self {
            partition: partition.clone(),
            sequence: sequence.ok_or_else(|| SimError::Amqp("an event has no sequence number".to_owned()))?,
            offset: text("x-opt-offset"),
            enqueued_milliseconds: match annotation("x-opt-enqueued-time") {
                Some(ValueRef::Timestamp(time)) => time,
                _ => 0,
            },
            device: text("iothub-connection-device-id"),
            module: annotation("iothub-connection-module-id").and_then(ValueRef::as_text).map(str::to_owned),
            source: text("iothub-message-source"),
            message_id: message.properties.message_id.map(|id| id.to_string()),
            content_type: message.properties.content_type.map(str::to_owned),
            properties,
            body: match message.body.bytes() {
                Some(Cow::Borrowed(body)) => encoded.slice_ref(body),
                Some(Cow::Owned(body)) => body.into(),
                None => Bytes::new(),
            },
        })
    }
}
