//! Any bytes as the stream of a client: the server never panics, its output stays in proportion to
//! the input, and it holds no more than its limits allow. The caller says yes to everything.
#![no_main]

use std::sync::Arc;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use wire::amqp::connection::{AttachAnswer, Config, Connection, CreditPolicy, Event, OpenOptions, SendOptions};
use wire::amqp::message::Message;
use wire::amqp::performative::{DeliveryState, Role};
use wire::amqp::sasl::SaslCode;

fuzz_target!(|input: &[u8]| {
    // The first byte cuts the rest into reads; the header is given, so that the fuzzer need not
    // find it.
    let Some((&cut, stream)) = input.split_first() else {
        return;
    };
    let now = Instant::now();
    let config = Config { sessions_max: 4, links_max: 16, unsettled_max: 64, ..Config::default() };
    let mut server = Connection::server(Arc::new(config), now);
    server.handle_bytes(if cut & 1 == 0 { b"AMQP\x00\x01\x00\x00" } else { b"AMQP\x03\x01\x00\x00" }, now);
    answer(&mut server, now);
    let mut clock = now;
    for read in stream.chunks(1 + usize::from(cut)) {
        clock += Duration::from_secs(1);
        server.handle_bytes(read, clock);
        answer(&mut server, clock);
        server.handle_timeout(clock);
        assert!(server.pending_output_len() < 1 << 20);
        let _ = server.take_output();
        answer(&mut server, clock);
    }
    server.handle_transport_end();
    answer(&mut server, clock);
    assert!(server.is_closed() && server.next_timeout().is_none());
});

fn answer(server: &mut Connection, now: Instant) {
    while let Some(event) = server.poll_event() {
        // Commands may come too late for what the peer did meanwhile; they then say so.
        match event {
            Event::SaslInit(_) => {
                let _ = server.sasl_outcome(SaslCode::Ok, None, now);
            }
            Event::Open(_) => {
                let _ = server.accept_open(&OpenOptions::default(), now);
            }
            Event::Attach { link, attach } => {
                let credit = CreditPolicy::TopUp(8);
                let _ = server.accept_attach(link, AttachAnswer { credit, ..AttachAnswer::default() });
                if attach.role == Role::Receiver {
                    let _ = server.send(link, SendOptions::default(), |message| message.data(&[0; 700]));
                }
            }
            Event::Sendable { link, .. } => {
                let _ = server.send(link, SendOptions::default(), |message| message.data(&[0; 700]));
            }
            Event::DrainRequested { link, .. } => {
                let _ = server.drained(link);
            }
            Event::Delivery(delivery) => {
                let _ = Message::parse(&delivery.message);
                let _ = server.settle(delivery.id, DeliveryState::Accepted);
            }
            Event::Disposition { delivery, settled: false, .. } => {
                let _ = server.settle(delivery, DeliveryState::Accepted);
            }
            _ => {}
        }
    }
}
