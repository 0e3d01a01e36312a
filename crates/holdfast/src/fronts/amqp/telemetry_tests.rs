use bytes::BytesMut;
use hub::identity::Identity;
use hub::telemetry::Source;
use wire::amqp::codec::{Symbol, Value};
use wire::amqp::message::{MessageWriter, Properties};

use super::*;

fn sender() -> Arc<Sender> {
    Arc::new(Sender {
        identity: Identity::parse("pump-1").expect("a legal id"),
        generation: "g".into(),
        auth_method: "{}".into(),
        source: Source::Telemetry,
        model_id: None,
    })
}

fn encoded(write: impl FnOnce(&mut MessageWriter<'_>)) -> Bytes {
    let mut buffer = BytesMut::new();
    write(&mut MessageWriter::new(&mut buffer));
    buffer.freeze()
}

fn read(write: impl FnOnce(&mut MessageWriter<'_>)) -> Result<Message, Unreadable> {
    message(&encoded(write), &sender(), 7)
}

fn text(value: &str) -> PropertyValue {
    PropertyValue::Text(value.into())
}

#[test]
fn a_message_is_read_with_its_properties() {
    let read = read(|w| {
        w.properties(&Properties {
            message_id: Some(MessageId::Uuid([0x11; 16])),
            correlation_id: Some(MessageId::Ulong(7)),
            user_id: Some(b"u-1"),
            to: Some("/devices/pump-1/messages/events"),
            content_type: Some("application/json"),
            content_encoding: Some("utf-8"),
            absolute_expiry_time: Some(1_800_000_000_000),
            ..Properties::default()
        });
        w.application_properties(|map| {
            map.string("room", "7");
            map.string("iothub-creation-time-utc", "2026-11-22T00:00:00Z");
            map.string("iothub-outputname", "out");
        });
        w.data(b"{}");
    })
    .expect("readable");
    let system: Vec<(SystemProperty, &str)> = read.system.iter().map(|(p, value)| (*p, &**value)).collect();
    assert_eq!(
        system,
        [
            (SystemProperty::MessageId, "11111111-1111-1111-1111-111111111111"),
            (SystemProperty::CorrelationId, "7"),
            (SystemProperty::UserId, "u-1"),
            (SystemProperty::ContentType, "application/json"),
            (SystemProperty::ContentEncoding, "utf-8"),
            (SystemProperty::Expiry, "2027-01-15T08:00:00Z"),
            (SystemProperty::CreationTime, "2026-11-22T00:00:00Z"),
            (SystemProperty::OutputName, "out"),
        ]
    );
    assert_eq!(read.application, [("room".into(), text("7"))]);
    assert_eq!((read.enqueued, &read.body[..]), (7, &b"{}"[..]));
}

#[test]
fn a_device_sets_its_own_annotations_and_none_of_the_hubs() {
    let read = read(|w| {
        w.message_annotations(|map| {
            map.string("iothub-interface-id", "urn:azureiot:Security:SecurityAgent:1");
            map.string("iothub-connection-device-id", "another");
            map.string("dt-subject", "engine");
        });
        w.data(b"");
    })
    .expect("readable");
    assert!(read.is_security());
    assert_eq!(read.system.len(), 2);
    assert_eq!(read.sender.identity.to_string(), "pump-1");
}

#[test]
fn application_properties_keep_their_types_and_the_last_of_a_name() {
    let read = read(|w| {
        w.application_properties(|map| {
            map.value("a", &Value::Ubyte(1));
            map.value("b", &Value::Ulong(u64::MAX));
            map.value("c", &Value::Float(0.5));
            map.value("d", &Value::Bool(true));
            map.value("e", &Value::Timestamp(5));
            map.value("f", &Value::Binary(vec![0, 255]));
            map.value("g", &Value::Symbol(Symbol::from("s")));
            map.value("h", &Value::Uuid([0; 16]));
            map.value("i", &Value::Null);
            map.string("a", "again");
        });
        w.data(b"");
    })
    .expect("readable");
    let expected: Vec<(ByteString, PropertyValue)> = vec![
        ("b".into(), text("18446744073709551615")),
        ("c".into(), PropertyValue::Double(0.5)),
        ("d".into(), PropertyValue::Bool(true)),
        ("e".into(), PropertyValue::Timestamp(5)),
        ("f".into(), PropertyValue::Binary(Bytes::from_static(&[0, 255]))),
        ("g".into(), text("s")),
        ("h".into(), text("00000000-0000-0000-0000-000000000000")),
        ("i".into(), PropertyValue::Null),
        ("a".into(), text("again")),
    ];
    assert_eq!(read.application, expected);
}

#[test]
fn what_no_message_carries_is_named() {
    let list = read(|w| {
        w.application_properties(|map| map.value("list", &Value::List(vec![Value::Null])));
        w.data(b"");
    });
    assert_eq!(list, Err(Unreadable::Property("list".into())));
    assert_eq!(read(|w| w.value(&Value::Int(1))), Err(Unreadable::Body));
    assert!(matches!(
        message(&Bytes::from_static(b"\0\x53\x70"), &sender(), 0),
        Err(Unreadable::Encoding(_))
    ));
}

#[test]
fn a_body_is_data_in_pieces_or_one_text_or_nothing() {
    let body = |write: fn(&mut MessageWriter<'_>)| read(write).expect("readable").body;
    assert_eq!(
        &body(|w| {
            w.data(b"ab");
            w.data(b"cd")
        })[..],
        b"abcd"
    );
    assert_eq!(&body(|w| w.value(&Value::String("text".into())))[..], b"text");
    assert_eq!(&body(|_| ())[..], b"");
}

#[test]
fn a_batch_is_read_in_whatever_order_the_sections_stand() {
    // As the C SDK writes them: properties, application properties, annotations, data.
    let inner = |number: &str| {
        encoded(|w| {
            w.properties(&Properties {
                message_id: Some(MessageId::String(number)),
                ..Properties::default()
            });
            w.application_properties(|map| map.string("number", number));
            w.message_annotations(|map| map.string("dt-subject", "engine"));
            w.data(number.as_bytes());
        })
    };
    let outer = encoded(|w| {
        w.data(&inner("1"));
        w.data(&inner("2"));
    });
    let messages = batch(&outer, &sender(), 0).expect("readable");
    let bodies: Vec<&[u8]> = messages.iter().map(|message| &message.body[..]).collect();
    assert_eq!(bodies, [b"1", b"2"]);
    assert!(messages.iter().all(|message| message.system.len() == 2 && message.application.len() == 1));
}

#[test]
fn a_batch_has_its_bounds() {
    assert_eq!(batch(&encoded(|w| w.value(&Value::Null)), &sender(), 0), Err(Unreadable::NoBatch));
    let many = encoded(|w| (0..=BATCH_MESSAGES_MAX).for_each(|_| w.data(b"")));
    assert_eq!(batch(&many, &sender(), 0), Err(Unreadable::BatchTooLong(BATCH_MESSAGES_MAX + 1)));
    let broken = encoded(|w| w.data(b"\0\x53"));
    assert!(matches!(batch(&broken, &sender(), 0), Err(Unreadable::Encoding(_))));
}
