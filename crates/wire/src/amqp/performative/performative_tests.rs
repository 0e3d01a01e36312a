use bytes::BytesMut;
use proptest::prelude::*;

use super::*;
use crate::amqp::codec::{Described, Fields, Symbol, Value};

fn encoded(performative: &Performative) -> Vec<u8> {
    let mut out = BytesMut::new();
    performative.write(&mut Writer::new(&mut out));
    out.to_vec()
}

fn decoded(bytes: &[u8]) -> Result<Performative, DecodeError> {
    Performative::read(&mut Reader::new(bytes))
}

/// The performative writes these bytes and reads back from them; no prefix of them is one.
fn check(performative: &Performative, bytes: &[u8]) {
    assert_eq!(encoded(performative), bytes, "{performative:?}");
    check_round_trip(performative);
}

fn check_round_trip(performative: &Performative) {
    let bytes = encoded(performative);
    assert_eq!(decoded(&bytes).as_ref(), Ok(performative));
    for end in 0..bytes.len() {
        assert!(decoded(&bytes[..end]).is_err(), "{end} of {} bytes", bytes.len());
    }
}

/// Number of fields in the list of a performative.
fn fields_of(performative: &Performative) -> usize {
    let bytes = encoded(performative);
    match bytes[3] {
        0xc0 => usize::from(bytes[5]),
        0xd0 => usize::from(bytes[11]),
        other => panic!("{other:#x} is no list with fields"),
    }
}

fn symbols(names: &[&str]) -> Vec<Symbol> {
    names.iter().map(|name| Symbol::from(*name)).collect()
}

fn properties() -> Fields {
    [(Symbol::from("epoch"), Value::Long(5)), (Symbol::from("name"), "r1".into())].into_iter().collect()
}

fn error() -> Error {
    Error { info: properties(), ..Error::new(condition::STOLEN, "a newer receiver") }
}

fn source() -> Source {
    let filter = Value::Described(Box::new(Described {
        descriptor: Value::Ulong(77_567_109_365_764),
        value: "amqp.annotation.x-opt-offset > '-1'".into(),
    }));
    Source {
        expiry_policy: Some(Symbol::from("never")),
        filter: [(Symbol::from("apache.org:selector-filter:string"), filter)].into_iter().collect(),
        outcomes: symbols(&["amqp:accepted:list"]),
        default_outcome: Value::Described(Box::new(Described {
            descriptor: Value::Ulong(0x26),
            value: Value::List(vec![]),
        })),
        ..Source::new("hub/ConsumerGroups/$Default/Partitions/0")
    }
}

fn attach() -> Attach {
    Attach {
        handle: 3,
        source: Some(source()),
        target: Some(Target { expiry_policy: Some(Symbol::from("session-end")), ..Target::new("t") }),
        max_message_size: Some(1 << 20),
        properties: properties(),
        desired_capabilities: symbols(&["a:b", "c:d"]),
        ..Attach::new("link", Role::Receiver)
    }
}

#[test]
fn every_performative_writes_all_its_fields() {
    let count = |performative| fields_of(&performative);
    assert_eq!(count(Performative::Open(Box::default())), 10);
    assert_eq!(count(Performative::Begin(Begin::default())), 8);
    assert_eq!(count(Performative::Attach(Box::new(Attach::new("l", Role::Sender)))), 14);
    assert_eq!(count(Performative::Attach(Box::new(attach()))), 14);
    assert_eq!(count(Performative::Flow(Flow::default())), 11);
    assert_eq!(count(Performative::Transfer(Transfer::default())), 11);
    assert_eq!(count(disposition(None)), 6);
    assert_eq!(count(Performative::Detach(Detach { handle: 0, closed: true, error: None })), 3);
    assert_eq!(count(Performative::End(End::default())), 1);
    assert_eq!(count(Performative::Close(Close::default())), 1);
}

fn disposition(state: Option<DeliveryState>) -> Performative {
    Performative::Disposition(Disposition {
        role: Role::Receiver,
        first: 4,
        last: None,
        settled: true,
        state,
        batchable: false,
    })
}

#[test]
fn small_performatives_have_these_bytes() {
    check(&Performative::Close(Close::default()), b"\x00\x53\x18\xc0\x02\x01\x40");
    check(&Performative::End(End::default()), b"\x00\x53\x17\xc0\x02\x01\x40");
    let detach = Detach { handle: 1, closed: true, error: None };
    check(&Performative::Detach(detach), b"\x00\x53\x16\xc0\x05\x03\x52\x01\x41\x40");
    let accepted = disposition(Some(DeliveryState::Accepted));
    check(&accepted, b"\x00\x53\x15\xc0\x0b\x06\x41\x52\x04\x40\x41\x00\x53\x24\x45\x42");
    let begin = Begin {
        remote_channel: Some(0),
        next_outgoing_id: 1,
        incoming_window: 5_000,
        outgoing_window: 2_048,
        handle_max: 262_143,
        ..Begin::default()
    };
    let bytes = b"\x00\x53\x11\xc0\x18\x08\x60\x00\x00\x52\x01\x70\x00\x00\x13\x88\x70\x00\x00\x08\x00\
        \x70\x00\x03\xff\xff\x40\x40\x40";
    check(&Performative::Begin(begin), bytes);
    let transfer = Transfer {
        handle: 2,
        delivery_id: Some(0),
        delivery_tag: Some(DeliveryTag::from(1)),
        message_format: Some(0),
        settled: Some(true),
        ..Transfer::default()
    };
    let bytes =
        b"\x00\x53\x14\xc0\x12\x0b\x52\x02\x43\xa0\x04\x01\x00\x00\x00\x43\x41\x42\x40\x40\x42\x42\x42";
    check(&Performative::Transfer(transfer), bytes);
}

#[test]
fn full_performatives_round_trip() {
    check_round_trip(&Performative::Open(Box::new(Open {
        container_id: "c".repeat(300),
        hostname: Some("hub.example".into()),
        max_frame_size: 65_536,
        channel_max: 8_191,
        idle_time_out: Some(240_000),
        outgoing_locales: symbols(&["en-US"]),
        incoming_locales: symbols(&["en-US", "de"]),
        offered_capabilities: symbols(&["x"]),
        desired_capabilities: symbols(&["y"]),
        properties: properties(),
    })));
    check_round_trip(&Performative::Attach(Box::new(attach())));
    check_round_trip(&Performative::Flow(Flow {
        next_incoming_id: Some(1),
        incoming_window: 5_000,
        next_outgoing_id: 9,
        outgoing_window: u32::MAX,
        link: Some(LinkFlow {
            handle: 1,
            delivery_count: Some(7),
            link_credit: Some(100),
            available: Some(0),
            drain: true,
        }),
        echo: true,
        properties: properties(),
    }));
    check_round_trip(&Performative::Transfer(Transfer {
        handle: 1,
        delivery_id: Some(u32::MAX),
        delivery_tag: DeliveryTag::new(&[9; 32]),
        message_format: Some(0x8001_3700),
        settled: Some(false),
        more: true,
        rcv_settle_mode: Some(RcvSettleMode::Second),
        state: Some(DeliveryState::Rejected(Some(error()))),
        resume: true,
        aborted: true,
        batchable: true,
    }));
    check_round_trip(&Performative::Detach(Detach { handle: 1, closed: true, error: Some(error()) }));
    check_round_trip(&Performative::End(End { error: Some(error()) }));
    check_round_trip(&Performative::Close(Close { error: Some(error()) }));
    let declared = Value::Described(Box::new(Described {
        descriptor: Value::Ulong(0x33),
        value: Value::List(vec![Value::Binary(vec![1])]),
    }));
    for state in [
        DeliveryState::Received { section_number: 1, section_offset: 300 },
        DeliveryState::Accepted,
        DeliveryState::Rejected(None),
        DeliveryState::Rejected(Some(error())),
        DeliveryState::Released,
        DeliveryState::Modified {
            delivery_failed: true,
            undeliverable_here: false,
            message_annotations: properties(),
        },
        DeliveryState::Other(declared),
    ] {
        check_round_trip(&disposition(Some(state)));
    }
}

#[test]
fn missing_trailing_fields_take_their_defaults() {
    // As uamqp sends them: lists end after the last field that says something.
    let open = decoded(b"\x00\x53\x10\xc0\x04\x01\xa1\x01c").unwrap();
    let Performative::Open(open) = open else { panic!() };
    assert_eq!((open.max_frame_size, open.channel_max, open.idle_time_out), (u32::MAX, u16::MAX, None));
    let begin = decoded(b"\x00\x53\x11\xc0\x05\x04\x40\x43\x43\x43").unwrap();
    let Performative::Begin(begin) = begin else { panic!() };
    assert_eq!((begin.handle_max, begin.remote_channel), (u32::MAX, None));
    let close = decoded(b"\x00\x53\x18\x45").unwrap();
    assert_eq!(close, Performative::Close(Close::default()));
    let disposition = decoded(b"\x00\x53\x15\xc0\x03\x02\x41\x43").unwrap();
    let Performative::Disposition(disposition) = disposition else { panic!() };
    assert!(!disposition.settled && disposition.last.is_none() && disposition.state.is_none());
}

#[test]
fn wide_and_symbolic_descriptors_read_the_same() {
    let expected = Ok(Performative::Close(Close::default()));
    assert_eq!(decoded(b"\x00\x80\x00\x00\x00\x00\x00\x00\x00\x18\x45"), expected);
    assert_eq!(decoded(b"\x00\xa3\x0famqp:close:list\x45"), expected);
    assert!(matches!(decoded(b"\x00\xa3\x01x\x45"), Err(DecodeError::UnexpectedType { .. })));
}

#[test]
fn mandatory_fields_are_demanded() {
    let missing = |name| Err(DecodeError::MissingField(name));
    assert_eq!(decoded(b"\x00\x53\x10\x45"), missing("container-id"));
    assert_eq!(decoded(b"\x00\x53\x11\xc0\x02\x01\x40"), missing("next-outgoing-id"));
    assert_eq!(decoded(b"\x00\x53\x12\xc0\x04\x01\xa1\x01n"), missing("handle"));
    assert_eq!(decoded(b"\x00\x53\x14\x45"), missing("handle"));
    assert_eq!(decoded(b"\x00\x53\x15\x45"), missing("role"));
    assert_eq!(decoded(b"\x00\x53\x16\x45"), missing("handle"));
    assert_eq!(decoded(b"\x00\x53\x18\xc0\x05\x01\x00\x53\x1d\x45"), missing("condition"));
}

#[test]
fn undefined_field_values_are_refused() {
    let attach = decoded(b"\x00\x53\x12\xc0\x08\x04\xa1\x01n\x43\x41\x50\x03");
    assert_eq!(attach, Err(DecodeError::InvalidField("snd-settle-mode")));
    let tag = [&b"\x00\x53\x14\xc0\x26\x03\x43\x43\xa0\x21"[..], &[0; 33]].concat();
    assert_eq!(decoded(&tag), Err(DecodeError::InvalidField("delivery-tag")));
}

#[test]
fn a_coordinator_is_recognized() {
    let bytes = b"\x00\x53\x12\xc0\x0d\x07\xa1\x01n\x43\x42\x40\x40\x40\x00\x53\x30\x45";
    let Ok(Performative::Attach(attach)) = decoded(bytes) else { panic!("{:?}", decoded(bytes)) };
    assert!(attach.coordinator && attach.target.is_none());
}

#[test]
fn one_symbol_and_an_array_of_symbols_both_read() {
    let one = decoded(b"\x00\x53\x10\xc0\x0b\x06\xa1\x01c\x40\x40\x40\x40\xa3\x01x").unwrap();
    let many = decoded(b"\x00\x53\x10\xc0\x0e\x06\xa1\x01c\x40\x40\x40\x40\xe0\x04\x01\xa3\x01x").unwrap();
    assert_eq!(one, many);
}

proptest! {
    #[test]
    fn any_bytes_read_or_fail(code in 0x10u8..0x19, bytes: Vec<u8>) {
        let _ = decoded(&bytes);
        let frame = [&[0, 0x53, code, 0xd0, 0, 0, 0, bytes.len() as u8 + 4, 0, 0, 0, 14], &bytes[..]].concat();
        if let Ok(performative) = decoded(&frame) {
            // What reads also writes, and reads the same again.
            let again = encoded(&performative);
            let performative = decoded(&again).unwrap();
            prop_assert_eq!(encoded(&performative), again);
        }
    }
}
