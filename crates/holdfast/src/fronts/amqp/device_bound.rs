//! What goes to a device, from the hub's words into AMQP's: its messages and the calls of its methods
//! (`docs/protocol/amqp.md` §6.2, §6.4).

use bytes::Bytes;
use hub::identity::Identity;
use hub::inbox::{Content, Delivery, LockToken};
use hub::method::{CallId, MethodAnswer, MethodError};
use hub::properties::Place;
use hub::telemetry::SystemProperty;
use wire::amqp::codec::ValueRef;
use wire::amqp::message::{MapWriter, Message, MessageId, MessageWriter, Properties};
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
        write_named(map, content, Place::Annotation);
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
            match value {
                Some(value) => map.string(name, value),
                None => map.value_ref(name, ValueRef::Null),
            }
        }
        write_named(map, content, Place::Application);
    });
    w.data(&content.body);
}

/// Writes the system properties that stand here.
fn write_named(map: &mut MapWriter<'_, '_>, content: &Content, place: Place) {
    for (property, value) in &content.system {
        let names = property.names();
        if names.place == place {
            map.string(names.amqp, value);
        }
    }
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

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use hub::inbox::{Ack, Entry};
    use hub::ports::clock::Random;
    use jiff::Timestamp;

    use super::*;

    struct Counting;
    impl Random for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.iter_mut().zip(0..).for_each(|(byte, number)| *byte = number);
        }
    }

    fn encoded(write: impl FnOnce(&mut MessageWriter<'_>)) -> Bytes {
        let mut bytes = BytesMut::new();
        write(&mut MessageWriter::new(&mut bytes));
        bytes.freeze()
    }

    fn answer(id: Option<MessageId<'_>>, status: impl FnOnce(&mut MessageWriter<'_>), body: &[u8]) -> Bytes {
        encoded(|w| {
            w.properties(&Properties { correlation_id: id, ..Properties::default() });
            status(w);
            w.data(body);
        })
    }

    fn status(w: &mut MessageWriter<'_>) {
        w.application_properties(|map| map.int(METHOD_STATUS, -7));
    }

    #[test]
    fn a_tag_is_the_lock_token_in_the_byte_order_of_dotnet() {
        let token = LockToken(uuid::uuid!("00112233-4455-6677-8899-aabbccddeeff"));
        let expected = *b"\x33\x22\x11\x00\x55\x44\x77\x66\x88\x99\xaa\xbb\xcc\xdd\xee\xff";
        assert_eq!(tag(token).as_bytes(), expected);
    }

    #[test]
    fn a_message_says_what_its_service_said_and_the_types_are_those_that_dotnet_reads() {
        let entry = Entry {
            sender: String::new(),
            deliveries: 1,
            delivered: None,
            sequence: 7,
            message_id: None,
            enqueued: Timestamp::from_second(1_900_000_000).expect("a time"),
            expires: Timestamp::from_second(1_900_003_600).expect("a time"),
            ack: Ack::Full,
            abandoned: 300,
            lock: None,
            number: None,
            has_deadline: false,
        };
        let content = Content {
            system: vec![
                (SystemProperty::MessageId, "m".to_owned()),
                (SystemProperty::UserId, "u".to_owned()),
                (SystemProperty::Ack, "full".to_owned()),
            ],
            application: vec![("color".to_owned(), Some("red".to_owned())), ("null".to_owned(), None)],
            body: Bytes::from_static(b"body"),
        };
        let delivery = Delivery { entry, token: LockToken(uuid::Uuid::nil()), again: false, content };
        let identity = Identity::parse("d/m").expect("legal");
        let bytes = encoded(|w| write_message(w, &identity, &delivery));
        let message = Message::parse(&bytes).expect("a message");
        let annotation = |name| message.message_annotations.get(name);
        assert_eq!(annotation("x-opt-sequence-number"), Some(ValueRef::Ulong(7)));
        assert_eq!(annotation("iothub-enqueuedtime"), Some(ValueRef::Timestamp(1_900_000_000_000)));
        assert_eq!(annotation("iothub-deliverycount"), Some(ValueRef::Ubyte(255)));
        assert_eq!(
            message.properties,
            Properties {
                message_id: Some(MessageId::String("m")),
                user_id: Some(b"u"),
                to: Some("/devices/d/modules/m/messages/deviceBound"),
                absolute_expiry_time: Some(1_900_003_600_000),
                ..Properties::default()
            }
        );
        assert_eq!(message.application_properties.get("color"), Some(ValueRef::String("red")));
        assert_eq!(message.application_properties.get("null"), Some(ValueRef::Null));
        assert_eq!(message.application_properties.get("iothub-ack"), Some(ValueRef::String("full")));
        assert_eq!(body(&bytes, message.body), Ok(Bytes::from_static(b"body")));
    }

    #[test]
    fn an_answer_is_known_by_the_id_of_its_call_in_whatever_type_it_comes_back() {
        let call = CallId::new(&Counting);
        let text = call.to_string().to_uppercase();
        let same =
            [MessageId::Uuid(*call.as_bytes()), MessageId::String(&text), MessageId::Binary(call.as_bytes())];
        for id in same {
            let bytes = answer(Some(id), status, b"[1]");
            let answer = CallAnswer::read(&bytes).expect("an answer");
            assert!(answer.answers(call), "{id:?}");
            let judged = answer.judge().expect("JSON");
            assert_eq!((judged.status, &judged.payload[..]), (-7, &b"[1]"[..]));
        }
        for id in [MessageId::Uuid([0; 16]), MessageId::String("x"), MessageId::Ulong(0)] {
            let bytes = answer(Some(id), status, b"");
            assert!(!CallAnswer::read(&bytes).expect("an answer").answers(call), "{id:?}");
        }
    }

    #[test]
    fn an_answer_without_id_or_status_says_so() {
        let read = |bytes: Bytes| CallAnswer::read(&bytes).map(|_| ()).expect_err("no answer");
        assert_eq!(read(answer(None, status, b"")), UnreadableAnswer::NoId);
        let id = Some(MessageId::Ulong(1));
        assert_eq!(read(answer(id, |_| {}, b"")), UnreadableAnswer::NoStatus);
        let text =
            |w: &mut MessageWriter<'_>| w.application_properties(|map| map.string(METHOD_STATUS, "200"));
        assert_eq!(read(answer(id, text, b"")), UnreadableAnswer::NoStatus);
        assert!(matches!(read(Bytes::from_static(b"\x00")), UnreadableAnswer::Unreadable(_)));
    }
}
