//! What goes to a device, from the hub's words into AMQP's: its messages and the calls of its methods
//! (`spec/amqp.md` §6.2, §6.4).

use bytes::Bytes;
use hub::identity::Identity;
use hub::inbox::{Delivery, LockToken};
use hub::method::{CallId, MethodAnswer, MethodError};
use hub::telemetry::SystemProperty;
use wire::amqp::codec::ValueRef;
use wire::amqp::message::{Message, MessageId, MessageWriter, Properties};
use wire::amqp::performative::DeliveryTag;

use super::telemetry::{Unreadable, body};

const METHOD_NAME: &str = "IoThub-methodname";
const METHOD_STATUS: &str = "IoThub-status";

/// The tag of the delivery of a message: its lock token in .NET's byte order, for .NET makes a GUID of it.
pub(super) fn tag(token: LockToken) -> DeliveryTag {
    DeliveryTag::from(token.0.to_bytes_le())
}

/// Writes a device-bound message.
pub(super) fn write_message(w: &mut MessageWriter<'_>, identity: &Identity, delivery: &Delivery) {
    let Delivery { entry, content, .. } = delivery;
    // .NET reads them in these types only.
    w.message_annotations(|map| {
        map.ulong("x-opt-sequence-number", entry.sequence);
        map.timestamp("iothub-enqueuedtime", entry.enqueued.as_millisecond());
        map.ubyte("iothub-deliverycount", u8::try_from(entry.delivery_count()).unwrap_or(u8::MAX));
    });
    let system = |wanted: SystemProperty| {
        content.system.iter().find(|(property, _)| *property == wanted).map(|(_, value)| value.as_str())
    };
    let to = match &identity.module {
        None => format!("/devices/{}/messages/deviceBound", identity.device),
        Some(module) => format!("/devices/{}/modules/{module}/messages/deviceBound", identity.device),
    };
    w.properties(&Properties {
        message_id: system(SystemProperty::MessageId).map(MessageId::String),
        user_id: system(SystemProperty::UserId).map(str::as_bytes),
        to: Some(&to),
        correlation_id: system(SystemProperty::CorrelationId).map(MessageId::String),
        content_type: system(SystemProperty::ContentType),
        content_encoding: system(SystemProperty::ContentEncoding),
        absolute_expiry_time: Some(entry.expires.as_millisecond()),
        ..Properties::default()
    });
    w.application_properties(|map| {
        for (name, value) in &content.application {
            map.string(name, value);
        }
        if let Some(ack) = system(SystemProperty::Ack) {
            map.string("iothub-ack", ack);
        }
    });
    w.data(&content.body);
}

/// Writes a call of a method. The C SDK takes no id but a UUID.
pub(super) fn write_call(w: &mut MessageWriter<'_>, id: CallId, name: &str, payload: &[u8]) {
    w.properties(&Properties {
        correlation_id: Some(MessageId::Uuid(*id.as_bytes())),
        ..Properties::default()
    });
    w.application_properties(|map| map.string(METHOD_NAME, name));
    w.data(payload);
}

/// A device's answer to a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CallAnswer<'a> {
    id: MessageId<'a>,
    status: i64,
    payload: Bytes,
}

/// Why an answer cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UnreadableAnswer {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("its correlation-id, which says what call it answers, is missing")]
    NoId,
    #[error("its application property `{METHOD_STATUS}` is missing or no integer")]
    NoStatus,
}

impl<'a> CallAnswer<'a> {
    /// Reads an answer.
    pub(super) fn read(encoded: &'a Bytes) -> Result<Self, UnreadableAnswer> {
        let message = Message::parse(encoded).map_err(Unreadable::from)?;
        let id = message.properties.correlation_id.ok_or(UnreadableAnswer::NoId)?;
        let status = message.application_properties.get(METHOD_STATUS).and_then(ValueRef::as_i64);
        let status = status.ok_or(UnreadableAnswer::NoStatus)?;
        Ok(Self { id, status, payload: body(encoded, message.body)? })
    }

    /// Whether it answers this call. The id comes back as it was sent, or as its text.
    pub(super) fn answers(&self, call: CallId) -> bool {
        match self.id {
            MessageId::Uuid(id) => id == *call.as_bytes(),
            MessageId::String(text) => call.to_string().eq_ignore_ascii_case(text),
            MessageId::Binary(id) => id == call.as_bytes(),
            MessageId::Ulong(_) => false,
        }
    }

    /// What the service gets of it.
    pub(super) fn judge(&self) -> Result<MethodAnswer, MethodError> {
        MethodAnswer::judge(self.status, self.payload.clone())
    }
}
