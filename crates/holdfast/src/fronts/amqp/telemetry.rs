//! A message of a device, from AMQP's words into the hub's (`docs/protocol/amqp.md` §6.1).

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use hub::properties::Properties;
use hub::telemetry::{Message, Millis, PropertyValue, Sender, SystemProperty};
use jiff::Timestamp;
use wire::amqp::codec::{DecodeError, ValueRef};
use wire::amqp::message::{Body, Message as Encoded, MessageId};

/// Messages in one batch. The link's limit of its bytes alone would let in hundreds of thousands of empty ones.
const BATCH_MESSAGES_MAX: usize = 16_384;

/// Why a message cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("it is not encoded as a message: {0}")]
    Encoding(#[from] DecodeError),
    #[error("its body is neither data nor one binary or text value")]
    Body,
    #[error("the application property `{0}` is of a type that a message does not carry")]
    Property(String),
    #[error("it is a batch, and its body is no data")]
    NoBatch,
    #[error("it is a batch of {0} messages, and at most {BATCH_MESSAGES_MAX} are taken at once")]
    BatchTooLong(usize),
}

/// Reads one message. Its texts and its body stay where they came in.
pub(super) fn message(
    encoded: &Bytes,
    sender: &Arc<Sender>,
    enqueued: Millis,
) -> Result<Message, Unreadable> {
    translate(encoded, &Encoded::parse(encoded)?, sender, enqueued)
}

/// Reads a batch: each data section is a complete message, and what surrounds them is nothing to the hub.
pub(super) fn batch(
    encoded: &Bytes,
    sender: &Arc<Sender>,
    enqueued: Millis,
) -> Result<Vec<Message>, Unreadable> {
    let Body::Data(sections) = Encoded::parse(encoded)?.body else { return Err(Unreadable::NoBatch) };
    if sections.count() > BATCH_MESSAGES_MAX {
        return Err(Unreadable::BatchTooLong(sections.count()));
    }
    sections.messages().map(|message| translate(encoded, &message?, sender, enqueued)).collect()
}

fn translate(
    encoded: &Bytes,
    message: &Encoded<'_>,
    sender: &Arc<Sender>,
    enqueued: Millis,
) -> Result<Message, Unreadable> {
    let (system, application, body) = parts(encoded, message)?;
    Ok(Message { enqueued, sender: sender.clone(), system, application, body })
}

type Parts = (Vec<(SystemProperty, ByteString)>, Vec<(ByteString, PropertyValue)>, Bytes);

/// The system properties, application properties and body of a message.
pub(super) fn parts(encoded: &Bytes, message: &Encoded<'_>) -> Result<Parts, Unreadable> {
    let kept = Kept(encoded);
    let mut properties = Properties::default();
    for (property, value) in kept.properties(message) {
        properties.set(property, value);
    }
    for entry in message.message_annotations.iter() {
        let (key, value) = entry?;
        if let Some(property) = key.as_text().and_then(SystemProperty::of_annotation)
            && let Some(text) = value.as_text()
        {
            properties.set(property, kept.text(text));
        }
    }
    for entry in message.application_properties.iter() {
        let (key, value) = entry?;
        let name =
            key.as_text().ok_or(DecodeError::WrongType { expected: "a text as name of a property" })?;
        let value = kept.value(value).ok_or_else(|| Unreadable::Property(name.to_owned()))?;
        properties.add(kept.text(name), value);
    }
    let body = body(encoded, message.body)?;
    let (system, application) = properties.into_parts();
    Ok((system, application, body))
}

/// The bytes that a message came in: what is read out of them keeps them, and is not copied.
struct Kept<'a>(&'a Bytes);

impl Kept<'_> {
    fn text(&self, text: &str) -> ByteString {
        // It was checked to be UTF-8 when it was read.
        ByteString::try_from(self.0.slice_ref(text.as_bytes())).unwrap_or_default()
    }

    fn id(&self, id: MessageId<'_>) -> ByteString {
        match id {
            MessageId::String(text) => self.text(text),
            id @ (MessageId::Ulong(_) | MessageId::Uuid(_) | MessageId::Binary(_)) => id.to_string().into(),
        }
    }

    fn properties(&self, message: &Encoded<'_>) -> Vec<(SystemProperty, ByteString)> {
        let properties = &message.properties;
        let expiry = properties.absolute_expiry_time.and_then(|time| Timestamp::from_millisecond(time).ok());
        // `to` only repeats the address of the link.
        let all = [
            (SystemProperty::MessageId, properties.message_id.map(|id| self.id(id))),
            (SystemProperty::CorrelationId, properties.correlation_id.map(|id| self.id(id))),
            (
                SystemProperty::UserId,
                properties.user_id.map(|id| match std::str::from_utf8(id) {
                    Ok(text) => self.text(text),
                    Err(_) => String::from_utf8_lossy(id).as_ref().into(),
                }),
            ),
            (SystemProperty::ContentType, properties.content_type.map(|text| self.text(text))),
            (SystemProperty::ContentEncoding, properties.content_encoding.map(|text| self.text(text))),
            (SystemProperty::Expiry, expiry.map(|time| time.to_string().into())),
        ];
        all.into_iter().filter_map(|(property, value)| Some((property, value?))).collect()
    }

    /// The standard admits simple values only (OASIS part 3, section 3.2.5). Those that events do not carry as they are
    /// become texts.
    fn value(&self, value: ValueRef<'_>) -> Option<PropertyValue> {
        Some(match value {
            ValueRef::String(text) | ValueRef::Symbol(text) => PropertyValue::Text(self.text(text)),
            ValueRef::Null => PropertyValue::Null,
            ValueRef::Bool(value) => PropertyValue::Bool(value),
            ValueRef::Float(value) => PropertyValue::Double(value.into()),
            ValueRef::Double(value) => PropertyValue::Double(value),
            ValueRef::Timestamp(value) => PropertyValue::Timestamp(value),
            ValueRef::Binary(bytes) => PropertyValue::Binary(self.0.slice_ref(bytes)),
            ValueRef::Char(value) => PropertyValue::Text(value.to_string().into()),
            ValueRef::Uuid(uuid) => PropertyValue::Text(MessageId::Uuid(uuid).to_string().into()),
            ValueRef::Ulong(value) if value > i64::MAX as u64 => {
                PropertyValue::Text(value.to_string().into())
            }
            ValueRef::Ubyte(_)
            | ValueRef::Ushort(_)
            | ValueRef::Uint(_)
            | ValueRef::Ulong(_)
            | ValueRef::Byte(_)
            | ValueRef::Short(_)
            | ValueRef::Int(_)
            | ValueRef::Long(_) => PropertyValue::Long(value.as_i64()?),
            ValueRef::Decimal32(_)
            | ValueRef::Decimal64(_)
            | ValueRef::Decimal128(_)
            | ValueRef::List(_)
            | ValueRef::Map(_)
            | ValueRef::Array(_)
            | ValueRef::Described(_) => return None,
        })
    }
}

/// The payload of a message; where it is one piece it stays where it came in.
pub(super) fn body(encoded: &Bytes, body: Body<'_>) -> Result<Bytes, Unreadable> {
    match body {
        Body::Empty => Ok(Bytes::new()),
        Body::Data(sections) => Ok(match sections.single() {
            Some(section) => encoded.slice_ref(section),
            None => sections.concatenated().into_owned().into(),
        }),
        Body::Value(ValueRef::Binary(bytes)) => Ok(encoded.slice_ref(bytes)),
        Body::Value(ValueRef::String(text)) => Ok(encoded.slice_ref(text.as_bytes())),
        Body::Value(_) | Body::Sequence(_) => Err(Unreadable::Body),
    }
}

#[cfg(test)]
#[path = "telemetry_tests.rs"]
mod tests;
