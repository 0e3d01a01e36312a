//! What unmodified clients sent to a server of this machine, replayed byte by byte.

use super::*;
use crate::amqp::codec::ValueRef;
use crate::amqp::message::{Body, MessageId};

const UAMQP: &[u8] = include_bytes!("recorded/uamqp.bin");
const PYAMQP: &[u8] = include_bytes!("recorded/pyamqp.bin");
const RHEA: &[u8] = include_bytes!("recorded/rhea.bin");

/// Replays a client against a server that says yes to everything but the address `refuse`.
fn replay(stream: &[u8]) -> Vec<Event> {
    let now = Instant::now();
    let config = Config {
        sasl_mechanisms: ["EXTERNAL", "MSSBCBS", "ANONYMOUS"].map(Symbol::from_static).to_vec(),
        ..Config::default()
    };
    let mut server = Connection::server(Arc::new(config), now);
    let mut events = Vec::new();
    for byte in stream {
        assert!(server.wants_input(), "after {events:?}");
        server.handle_bytes(&[*byte], now);
        while let Some(event) = server.poll_event() {
            match &event {
                Event::SaslInit(_) => server.sasl_outcome(SaslCode::Ok, None, now).unwrap(),
                Event::Open(_) => server.accept_open(&OpenOptions::default(), now).unwrap(),
                Event::Attach { link, attach } => {
                    let address = |target: &Target| target.address.clone().unwrap_or_default();
                    if attach.target.as_ref().map(address).is_some_and(|to| to.ends_with("refuse")) {
                        let error = Error::new(condition::NOT_FOUND, "no such entity");
                        server.refuse_attach(*link, error).unwrap();
                    } else {
                        let credit = CreditPolicy::TopUp(100);
                        let answer = AttachAnswer { credit, ..AttachAnswer::default() };
                        server.accept_attach(*link, answer).unwrap();
                    }
                }
                Event::Delivery(delivery) if !delivery.settled => {
                    server.settle(delivery.id, DeliveryState::Accepted).unwrap();
                }
                _ => {}
            }
            events.push(event);
        }
        server.take_output();
    }
    events
}

fn attached_addresses(events: &[Event]) -> Vec<(Role, String)> {
    let address = |event: &Event| match event {
        Event::Attach { attach, .. } => {
            let address = match attach.role {
                Role::Sender => attach.target.as_ref()?.address.clone()?,
                Role::Receiver => attach.source.as_ref()?.address.clone()?,
            };
            Some((attach.role, address))
        }
        _ => None,
    };
    events.iter().filter_map(address).collect()
}

fn deliveries(events: &[Event]) -> Vec<&Delivery> {
    fn delivery(event: &Event) -> Option<&Delivery> {
        match event {
            Event::Delivery(delivery) => Some(delivery),
            _ => None,
        }
    }
    events.iter().filter_map(delivery).collect()
}

#[test]
fn uamqp_puts_a_token_and_takes_a_refusal() {
    let events = replay(UAMQP);
    let Event::SaslInit(init) = &events[0] else { panic!("{:?}", events[0]) };
    assert_eq!((init.mechanism.as_str(), &init.initial_response), ("MSSBCBS", &None));
    let Event::Open(open) = &events[1] else { panic!("{:?}", events[1]) };
    assert_eq!((open.hostname.as_deref(), open.max_frame_size), (Some("localhost"), 65_536));
    let cbs = || "$cbs".to_owned();
    let refused = "amqps://localhost/refuse".to_owned();
    let expected = [(Role::Sender, cbs()), (Role::Receiver, cbs()), (Role::Sender, refused)];
    assert_eq!(attached_addresses(&events), expected);
    let put_token = Message::parse(&deliveries(&events)[0].message).unwrap();
    assert_eq!(put_token.properties.message_id, Some(MessageId::Ulong(0)));
    assert!(matches!(put_token.body, Body::Value(ValueRef::String(_))));
    assert_eq!(events.last(), Some(&Event::Closed(CloseReason::ByPeer(None))));
}

#[test]
fn pyamqp_asks_its_questions_and_detaches_after_its_end() {
    let events = replay(PYAMQP);
    let Event::SaslInit(init) = &events[0] else { panic!("{:?}", events[0]) };
    assert_eq!(init.mechanism, "ANONYMOUS");
    let addresses = attached_addresses(&events).into_iter().map(|(_, address)| address);
    assert_eq!(addresses.collect::<Vec<_>>(), ["$cbs", "$cbs", "$management", "$management"]);
    let deliveries = deliveries(&events);
    let put_token = Message::parse(&deliveries[0].message).unwrap();
    assert!(matches!(put_token.properties.message_id, Some(MessageId::Uuid(_))));
    let read = Message::parse(&deliveries[1].message).unwrap();
    assert_eq!(read.application_properties.get("operation"), Some(ValueRef::String("READ")));
    assert_eq!(events.last(), Some(&Event::Closed(CloseReason::ByPeer(None))));
}

#[test]
fn rhea_begins_without_sasl_and_settles_what_it_never_got() {
    let events = replay(RHEA);
    assert!(matches!(&events[0], Event::Open(open) if open.hostname.is_none()));
    let Event::Attach { attach, .. } = &events[2] else { panic!("{:?}", events[2]) };
    let source = attach.source.as_ref().unwrap();
    let filter = source.filter.get("apache.org:selector-filter:string").unwrap();
    assert_eq!(filter.undescribed().as_text(), Some("amqp.annotation.x-opt-offset > '-1'"));
    assert!(matches!(events[3], Event::Sendable { credit: 1_000, .. }), "{:?}", events[3]);
    assert!(matches!(&events[4], Event::Attach { attach, .. } if attach.role == Role::Sender));
    assert_eq!(events.len(), 5);
}
