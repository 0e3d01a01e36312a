//! The server's side of an MQTT connection, fed with anything in pieces of any size: it never panics, and a packet
//! that it takes in whole it takes in pieces too. The first packet chooses between MQTT 3.1.1 and MQTT 5; in MQTT 5 what the
//! front reads of a CONNECT and a PUBLISH is read too, and no answer is larger than the client takes. That module is one of
//! the binary, which is no library to link.
#![no_main]

#[path = "../../crates/holdfast/src/fronts/mqtt/five/mod.rs"]
#[allow(dead_code)]
mod five;

use std::time::{Duration, Instant};

use hub::decision::Facts;
use libfuzzer_sys::fuzz_target;
use wire::mqtt::{Event, FiveLimits, Limits, Publish, Server};

use crate::five::connect;
use crate::five::filters::judge;
use crate::five::operation::Operation;

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

/// What the machine and the front say of the bytes, an admitted client assumed.
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
                    events.extend(answer(&mut server, event, now));
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

/// Answers as the front does, and gives what it reads.
fn answer(server: &mut Server, event: Event, now: Instant) -> Option<String> {
    server.output().clear();
    let read = match event {
        Event::Connect(_) => {
            server.accept(false, now);
            None
        }
        Event::ConnectFive(connect) => {
            let mut facts = Facts::default();
            let read = connect::read(&connect, &mut facts);
            server.accept(false, now);
            Some(format!("{read:?} {facts:?}"))
        }
        Event::Publish(publish) => on_publish(server, *publish),
        Event::Subscribe(id, filters) => {
            server.suback(id, filters.iter().map(|(filter, qos)| judge(filter).map(|()| *qos)).collect());
            None
        }
        Event::Unsubscribe(id, filters) => {
            server.unsuback(id, &vec![true; filters.len()]);
            None
        }
        Event::Reauthenticate(_) => {
            server.authenticated();
            None
        }
        Event::PubAck(_) | Event::PubRefused(..) | Event::Disconnect(_) => None,
    };
    assert!(server.output().len() as u64 <= server.send_bytes_max(), "more than the client takes");
    read
}

fn on_publish(server: &mut Server, publish: Publish) -> Option<String> {
    if !server.speaks_five() {
        publish.packet_id.into_iter().for_each(|id| server.puback(id));
        return None;
    }
    let read = Operation::read(&publish);
    match (&read, publish.packet_id) {
        (Ok(_), Some(id)) => server.puback(id),
        (Ok(_), None) => {}
        (Err(misuse), Some(id)) => {
            server.refuse_publish(id, misuse.outcome.of_publish(), misuse.outcome.properties());
        }
        (Err(misuse), None) => {
            let (reason, properties) = misuse.outcome.of_disconnect();
            server.disconnect(reason, properties);
        }
    }
    Some(format!("{read:?}"))
}
