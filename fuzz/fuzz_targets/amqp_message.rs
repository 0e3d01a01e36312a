//! Any bytes as a message: it parses or fails, and what parses can be iterated and written again.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use wire::amqp::codec::{Reader, ValueRef, Writer};
use wire::amqp::message::{Body, Message};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = Message::parse(bytes) {
        for map in [message.message_annotations, message.application_properties, message.footer] {
            map.iter().for_each(drop);
        }
        let _ = message.body.bytes();
        if let Body::Data(sections) = message.body {
            assert_eq!(sections.iter().count(), sections.count());
            sections.messages().for_each(drop);
        }
    }
    if let Ok(value) = Reader::new(bytes).value().and_then(ValueRef::to_value) {
        let mut written = BytesMut::new();
        Writer::new(&mut written).value(&value);
        let again = Reader::new(&written).value().and_then(ValueRef::to_value);
        // Compared as text: a float that is not a number is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("Ok({value:?})"));
    }
});
