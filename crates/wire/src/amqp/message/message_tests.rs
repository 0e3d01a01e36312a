use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::amqp::codec::Value;

fn written(write: impl FnOnce(&mut MessageWriter<'_>)) -> Vec<u8> {
    let mut out = BytesMut::new();
    write(&mut MessageWriter::new(&mut out));
    out.to_vec()
}

fn event() -> Vec<u8> {
    written(|message| {
        message.header(&Header { durable: true, ttl: Some(1_000), ..Header::default() });
        message.delivery_annotations(|entries| entries.long("last_enqueued_sequence_number", 9));
        message.message_annotations(|entries| {
            entries.long("x-opt-sequence-number", 5);
            entries.string("x-opt-offset", "4711");
            entries.timestamp("x-opt-enqueued-time", 1_700_000_000_000);
            entries.ubyte("count", 1);
            entries.ulong("big", u64::MAX);
        });
        message.properties(&Properties {
            message_id: Some(MessageId::Ulong(3)),
            user_id: Some(b"hub"),
            to: Some("/devices/d/messages/events"),
            correlation_id: Some(MessageId::Uuid([7; 16])),
            content_type: Some("application/json"),
            absolute_expiry_time: Some(5),
            group_sequence: Some(1),
            ..Properties::default()
        });
        message.application_properties(|entries| {
            entries.int("status-code", 200);
            entries.string("status-description", "OK");
            entries.bool("flag", true);
            entries.value("list", &Value::List(vec![Value::Null]));
        });
        message.data(b"{\"t\":21}");
    })
}

#[test]
fn every_section_reads_back() {
    let bytes = event();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.header.unwrap().ttl, Some(1_000));
    assert_eq!(message.delivery_annotations.len(), 1);
    let annotations = message.message_annotations;
    assert_eq!(annotations.get("x-opt-sequence-number"), Some(ValueRef::Long(5)));
    assert_eq!(annotations.get("x-opt-offset"), Some(ValueRef::String("4711")));
    assert_eq!(annotations.get("x-opt-enqueued-time"), Some(ValueRef::Timestamp(1_700_000_000_000)));
    assert!(matches!(annotations.iter().next(), Some(Ok((ValueRef::Symbol("x-opt-sequence-number"), _)))));
    assert_eq!(message.properties.message_id, Some(MessageId::Ulong(3)));
    assert_eq!(message.properties.correlation_id, Some(MessageId::Uuid([7; 16])));
    assert_eq!(message.properties.content_type, Some("application/json"));
    assert_eq!(message.properties.subject, None);
    let properties = message.application_properties;
    assert!(matches!(
        properties.iter().next(),
        Some(Ok((ValueRef::String("status-code"), ValueRef::Int(200))))
    ));
    assert_eq!(properties.len(), 4);
    assert_eq!(message.body.bytes().unwrap(), &b"{\"t\":21}"[..]);
    assert!(message.footer.is_empty());
}

#[test]
fn every_truncation_inside_a_section_is_an_error() {
    let bytes = written(|message| message.data(&[1; 300]));
    for end in 1..bytes.len() {
        assert!(Message::parse(&bytes[..end]).is_err(), "{end}");
    }
    for end in 0..event().len() {
        let _ = Message::parse(&event()[..end]);
    }
}

#[test]
fn sections_read_in_any_order() {
    // As the C client sends the messages of a batch: properties first, annotations before the body.
    let properties = written(|m| m.properties(&Properties { to: Some("t"), ..Properties::default() }));
    let application = written(|m| m.application_properties(|e| e.string("a", "b")));
    let annotations = written(|m| m.message_annotations(|e| e.string("dt-subject", "c")));
    let data = written(|m| m.data(b"x"));
    let bytes = [data, properties, application, annotations].concat();
    let message = Message::parse(&bytes).unwrap();
    assert_eq!(message.properties.to, Some("t"));
    assert_eq!(message.application_properties.get("a"), Some(ValueRef::String("b")));
    assert_eq!(message.message_annotations.get("dt-subject"), Some(ValueRef::String("c")));
    assert_eq!(message.body.bytes().unwrap(), &b"x"[..]);
}

#[test]
fn a_put_token_request_of_uamqp_reads() {
    let bytes = b"\x00\x53\x73\xc0\x03\x01\x53\x05\
        \x00\x53\x74\xc1\x17\x02\xa1\x09operation\xa1\x09put-token\
        \x00\x53\x77\xa1\x05token";
    let message = Message::parse(bytes).unwrap();
    assert_eq!(message.properties.message_id, Some(MessageId::Ulong(5)));
    assert_eq!(message.application_properties.get("operation"), Some(ValueRef::String("put-token")));
    assert_eq!(message.body, Body::Value(ValueRef::String("token")));
    assert_eq!(message.body.bytes().unwrap(), &b"token"[..]);
}

#[test]
fn the_messages_of_a_batch_read_one_by_one() {
    let bytes = written(|batch| {
        batch.message_annotations(|entries| entries.string("x-opt-partition-key", "k"));
        for n in 0..3u8 {
            batch.data_message(|message| {
                message.application_properties(|entries| entries.ubyte("n", n));
                message.data(&[n; 300]);
            });
        }
    });
    let batch = Message::parse(&bytes).unwrap();
    let Body::Data(sections) = batch.body else { panic!("{:?}", batch.body) };
    assert_eq!((sections.count(), sections.single()), (3, None));
    let messages: Result<Vec<_>, _> = sections.messages().collect();
    for (n, message) in (0u8..).zip(messages.unwrap()) {
        assert_eq!(message.application_properties.get("n"), Some(ValueRef::Ubyte(n)));
        assert_eq!(message.body.bytes().unwrap(), vec![n; 300]);
    }
    let broken = written(|batch| batch.data(b"\x00\x53\x75\xa0\x09x"));
    let Body::Data(sections) = Message::parse(&broken).unwrap().body else { panic!() };
    assert_eq!(sections.messages().next(), Some(Err(DecodeError::Truncated)));
}

#[test]
fn several_data_sections_are_one_body() {
    let bytes = written(|message| {
        message.data(b"ab");
        message.application_properties(|entries| entries.string("between", "them"));
        message.data(b"");
        message.data(b"c");
    });
    let Body::Data(sections) = Message::parse(&bytes).unwrap().body else { panic!() };
    assert_eq!(sections.iter().collect::<Vec<_>>(), [&b"ab"[..], b"", b"c"]);
    assert_eq!(sections.concatenated(), &b"abc"[..]);
}

#[test]
fn sections_without_members_are_left_out() {
    let bytes = written(|message| {
        message.delivery_annotations(|_| {});
        message.properties(&Properties::default());
        message.message_annotations(|_| {});
        message.application_properties(|_| {});
    });
    assert!(bytes.is_empty());
    assert_eq!(Message::parse(&bytes), Ok(Message::default()));
    assert_eq!(Message::default().body.bytes().unwrap(), &b""[..]);
}

#[test]
fn what_is_not_a_message_is_an_error() {
    let to = Properties { to: Some("a"), ..Properties::default() };
    let twice = written(|m| (0..2).for_each(|_| m.properties(&to)));
    assert_eq!(Message::parse(&twice), Err(DecodeError::RepeatedSection("properties")));
    let mixed = written(|m| {
        m.data(b"x");
        m.value(&Value::Null);
    });
    assert_eq!(Message::parse(&mixed), Err(DecodeError::MixedBody));
    let foreign = Message::parse(b"\x00\x53\x10\x45");
    assert!(matches!(foreign, Err(DecodeError::UnexpectedType { descriptor: 0x10, .. })));
    assert_eq!(Message::parse(b"\x40"), Err(DecodeError::WrongType { expected: "a described type" }));
}

#[test]
fn ids_show_as_text() {
    assert_eq!(MessageId::Ulong(7).to_string(), "7");
    assert_eq!(MessageId::Uuid([0xab; 16]).to_string(), "abababab-abab-abab-abab-abababababab");
    assert_eq!(MessageId::String("x y").to_string(), "x y");
    assert_eq!(MessageId::Binary(&[1, 0xff]).to_string(), "01ff");
}

proptest! {
    #[test]
    fn any_bytes_read_or_fail(code in 0x6eu8..0x7a, bytes: Vec<u8>) {
        let _ = Message::parse(&bytes);
        let section = [&[0, 0x53, code], &bytes[..]].concat();
        if let Ok(message) = Message::parse(&section) {
            let _ = message.body.bytes();
            message.message_annotations.iter().for_each(drop);
        }
    }
}
