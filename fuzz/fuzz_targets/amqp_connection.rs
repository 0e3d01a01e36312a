//! Any bytes as the stream of a peer: neither role panics, and the output stays in proportion to the
//! input. The caller says yes to everything. The streams in
//! `crates/wire/src/amqp/connection/tests/recorded`, with one byte in place of their header, are
//! good seeds.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use wire::amqp::codec::Symbol;
use wire::amqp::connection::{
    AttachAnswer, ClientOptions, Config, Connection, CreditPolicy, Event, OpenOptions, SendOptions,
};
use wire::amqp::message::Message;
use wire::amqp::performative::{Attach, DeliveryState, Role};
use wire::amqp::sasl::{SaslCode, SaslInit};

fuzz_target!(|input: &[u8]| {
    // The first byte says how the rest is cut into reads, which end we are, and whether there is
    // SASL; the header is given, so that the fuzzer need not find it.
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let now = Instant::now();
    let config = Config { sessions_max: 4, links_max: 16, unsettled_max: 64, ..Config::default() };
    let config = Arc::new(config);
    let (sasl, client) = (cut & 1 != 0, cut & 2 == 0);
    let mut connection = if client {
        let init = SaslInit { mechanism: Symbol::from("ANONYMOUS"), initial_response: None, hostname: None };
        let options = ClientOptions { sasl: sasl.then_some(init), ..ClientOptions::default() };
        Connection::client(config, options, now)
    } else {
        Connection::server(config, now)
    };
    connection.handle_bytes(if sasl { b"AMQP\x03\x01\x00\x00" } else { b"AMQP\x00\x01\x00\x00" }, now);
    answer(&mut connection, client, now);
    let mut clock = now;
    for read in stream.chunks(1 + usize::from(cut)) {
        clock += Duration::from_secs(1);
        connection.handle_bytes(read, clock);
        answer(&mut connection, client, clock);
        connection.handle_timeout(clock);
        assert!(connection.pending_output_len() < 1 << 20);
        let _ = connection.take_output();
        answer(&mut connection, client, clock);
    }
    connection.handle_transport_end();
    answer(&mut connection, client, clock);
    assert!(connection.is_closed() && connection.next_timeout().is_none());
});

fn answer(connection: &mut Connection, client: bool, now: Instant) {
    while let Some(event) = connection.poll_event() {
        // Commands may come too late for what the peer did meanwhile; they then say so.
        match event {
            Event::SaslInit(_) => {
                let _ = connection.sasl_outcome(SaslCode::Ok, None, now);
            }
            Event::Open(_) if client => {
                let Ok(session) = connection.begin() else { continue };
                for role in [Role::Sender, Role::Receiver] {
                    let _ = connection.attach(session, Attach::new("link", role), CreditPolicy::TopUp(8));
                }
            }
            Event::Open(_) => {
                let _ = connection.accept_open(&OpenOptions::default(), now);
            }
            Event::Attach { link, attach } => {
                let credit = CreditPolicy::TopUp(8);
                let _ = connection.accept_attach(link, AttachAnswer { credit, ..AttachAnswer::default() });
                if attach.role == Role::Receiver {
                    let _ = connection.send(link, SendOptions::default(), |message| message.data(&[0; 700]));
                }
            }
            Event::Sendable { link, .. } => {
                let _ = connection.send(link, SendOptions::default(), |message| message.data(&[0; 700]));
            }
            Event::DrainRequested { link, .. } => {
                let _ = connection.drained(link);
            }
            Event::Delivery(delivery) => {
                let _ = Message::parse(&delivery.message);
                let _ = connection.settle(delivery.id, DeliveryState::Accepted);
            }
            Event::Disposition { delivery, settled: false, .. } => {
                let _ = connection.settle(delivery, DeliveryState::Accepted);
            }
            _ => {}
        }
    }
}
