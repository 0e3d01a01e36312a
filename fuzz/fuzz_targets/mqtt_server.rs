//! The server's side of an MQTT connection, fed with anything in pieces of any size: it never panics, and a packet
//! that it takes in whole it takes in pieces too.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use wire::mqtt::{Event, Limits, Server};

const LIMITS: Limits = Limits {
    packet_bytes_max: 300_000,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(1_767),
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
    let mut server = Server::new(LIMITS, now);
    let mut events = Vec::new();
    for piece in pieces {
        server.handle_bytes(piece, now);
        loop {
            match server.poll_event() {
                Ok(None) => break,
                Ok(Some(event)) => {
                    events.push(format!("{event:?}"));
                    if let Event::Connect(connect) = &event {
                        server.accept(connect, false, now);
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
