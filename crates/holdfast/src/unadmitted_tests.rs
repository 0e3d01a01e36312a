use std::sync::mpsc::{Receiver, channel};

use hub::decision::Door;

use super::*;

const LIMITS: Limits = Limits {
    bytes_each: 1_000,
    bytes_all: 4 * CONNECTION_BYTES,
    bytes_per_network: 3 * CONNECTION_BYTES,
    lifetime: Duration::from_secs(30),
};

fn table() -> (Arc<Unadmitted>, Receiver<(Option<u16>, AdmissionBound)>) {
    let (closed, told) = channel();
    let on_closed = move |origin: Origin, bound| closed.send((origin.port, bound)).expect("the test listens");
    (Unadmitted::new(LIMITS, Box::new(on_closed)), told)
}

/// A connection from 192.0.2.`host`, told apart by its port.
fn origin(host: u8, port: u16) -> Origin {
    Origin { address: Some([192, 0, 2, host].into()), port: Some(port), door: Some(Door::Mqtt) }
}

#[test]
fn one_that_sends_too_much_is_closed() {
    let (table, told) = table();
    let admission = table.enter(&origin(1, 1), Instant::now());
    assert!(admission.received(1_000).is_ok());
    assert!(admission.received(1).is_err());
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Some(1), AdmissionBound::Bytes { bytes: 1_000 })]);
    assert!(admission.try_admit().is_err(), "it is too late for its credential");
}

#[test]
fn what_is_answered_counts_no_more() {
    let (table, _told) = table();
    let admission = table.enter(&origin(1, 1), Instant::now());
    for _ in 0..10 {
        assert!(admission.received(900).is_ok());
        admission.consumed();
    }
    assert_eq!(table.lock().bytes, CONNECTION_BYTES);
}

#[test]
fn an_admitted_one_may_send_what_it_likes_and_is_never_closed() {
    let (table, told) = table();
    let start = Instant::now();
    let admission = table.enter(&origin(1, 1), start);
    assert!(admission.try_admit().is_ok());
    assert!(admission.received(1 << 30).is_ok());
    table.close_late(start + Duration::from_secs(3_600));
    assert!(!table.close_oldest());
    assert_eq!(told.try_iter().count(), 0);
}

#[test]
fn the_oldest_of_a_network_makes_room_for_its_newest() {
    let (table, told) = table();
    let now = Instant::now();
    let _other = table.enter(&origin(2, 9), now);
    let held: Vec<_> = (1..=4).map(|port| table.enter(&origin(1, port), now)).collect();
    let bound = AdmissionBound::MemoryOfNetwork { bytes: LIMITS.bytes_per_network };
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Some(1), bound)]);
    assert!(held[0].try_admit().is_err());
    assert!(held[3].try_admit().is_ok());
}

#[test]
fn the_oldest_of_all_makes_room_when_many_networks_come() {
    let (table, told) = table();
    let now = Instant::now();
    let _held: Vec<_> = (1..=5_u8).map(|host| table.enter(&origin(host, host.into()), now)).collect();
    let bound = AdmissionBound::MemoryOfAll { bytes: LIMITS.bytes_all };
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Some(1), bound)]);
}

#[test]
fn one_that_takes_too_long_is_closed() {
    let (table, told) = table();
    let start = Instant::now();
    let _old = table.enter(&origin(1, 1), start);
    let young = table.enter(&origin(1, 2), start + Duration::from_secs(1));
    table.close_late(start + Duration::from_secs(29));
    assert_eq!(told.try_iter().count(), 0);
    table.close_late(start + Duration::from_secs(30));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(Some(1), AdmissionBound::Time { seconds: 30 })]);
    assert!(young.try_admit().is_ok());
}

#[test]
fn what_ends_by_itself_leaves_nothing_behind() {
    let (table, _told) = table();
    let held: Vec<_> = (1..=3).map(|port| table.enter(&origin(1, port), Instant::now())).collect();
    drop(held);
    let table = table.lock();
    assert_eq!((table.bytes, table.connections.len(), table.networks.len()), (0, 0, 0));
}

#[tokio::test]
async fn the_task_of_a_closed_connection_ends() {
    let (table, _told) = table();
    let admission = table.enter(&origin(1, 1), Instant::now());
    let task = tokio::spawn(std::future::pending::<()>());
    admission.served_by(task.abort_handle());
    assert!(table.close_oldest());
    assert!(task.await.is_err_and(|error| error.is_cancelled()));
    // A task that becomes known too late ends too.
    let late = tokio::spawn(std::future::pending::<()>());
    admission.served_by(late.abort_handle());
    assert!(late.await.is_err_and(|error| error.is_cancelled()));
}
