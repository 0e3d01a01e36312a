//! The server's side of an MQTT connection, fed with anything in pieces of any size: it never panics, and a packet
//! that it takes in whole it takes in pieces too. The first packet chooses between MQTT 3.1.1 and MQTT 5.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use wire::mqtt::{Event, FiveLimits, Limits, Server};

static LIMITS: Limits = Limits {
    packet_bytes_max: 300_000,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(1_767),
    five: FiveLimits {
        packet_bytes_max: 262_144,
        receive_max: 16,
        topic_alias_max: 10,
        keep_alive_max: 1_140,
    },
};

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = events(&[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(usize::from(piece).max(1)).collect();
    assert_eq!(whole, events(&pieces));
});

/// What the machine says of the bytes, an admitted client assumed.
fn events(pieces: &[&[u8]]) -> Vec<String> {
    let now = Instant::now();
    let mut server = Server::new(&LIMITS, now);
    let mut events = Vec::new();
    for piece in pieces {
        server.handle_bytes(piece, now);
        loop {
            match server.poll_event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    match &event {
                        Event::Connect(_) | Event::ConnectFive(_) => server.accept(false, now),
                        Event::Publish(publish) => {
                            publish.packet_id.into_iter().for_each(|id| server.puback(id));
                        }
                        _ => {}
                    }
                }
                Err(violation) => {
                    events.push(violation.to_string());
                    return events;
                }
            }
        }
    }
    events
}
