//! Whatever comes over the wire: no panic, no disturbance of a device that behaves, and a record of what it was.

mod bytes;
mod cycles;
mod drips;
mod flood;
mod strangers;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Hub, HubOptions, Random, Rest, Tls, Witness, sas_token, setting};

/// How long an acknowledgement may take on a machine that also builds and tests.
const LATENCY_MAX: Duration = Duration::from_secs(2);
/// How long an attacker waits for an answer before it goes.
const WAIT: Duration = Duration::from_millis(300);

const DOORS: [&str; 3] = ["https", "mqtt", "amqp"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_place_of_a_handshake_is_named_and_harms_nobody() {
    let (hub, _place) = start();
    let witness = Witness::start(&hub).await;
    let mut attacks = JoinSet::new();
    let places = Arc::new(Semaphore::new(16));
    for door in DOORS {
        for bytes in bytes::before_tls(&mut random()) {
            attacks.spawn(attack(places.clone(), hub.address(door), None, bytes));
        }
    }
    let sent = attacks.join_all().await.len();
    println!("figure: {sent} openings that are no TLS");
    witness.testify(LATENCY_MAX).await;
    let causes = causes(&hub).await;
    for cause in ["plain-text", "tls-version", "tls-failed"] {
        assert!(causes.contains(cause), "`why` does not speak of {cause}, only of {causes:?}");
    }
    hub.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_behind_the_handshake_is_named_and_harms_nobody() {
    let (hub, _place) = start();
    let witness = Witness::start(&hub).await;
    let tls = Tls::new(&hub);
    let mut attacks = JoinSet::new();
    let places = Arc::new(Semaphore::new(16));
    let mut random = random();
    for door in DOORS {
        let own = match door {
            "https" => [bytes::http(), bytes::websocket()].concat(),
            "mqtt" => bytes::mqtt(),
            _ => bytes::amqp(),
        };
        let damaged: Vec<_> = own.iter().flat_map(|bytes| bytes::damaged(bytes, &mut random)).collect();
        for bytes in own.into_iter().chain(damaged).chain(bytes::noise(&mut random)) {
            attacks.spawn(attack(places.clone(), hub.address(door), Some(tls.clone()), bytes));
        }
    }
    let sent = attacks.join_all().await.len();
    println!("figure: {sent} streams of garbage behind the handshake");
    witness.testify(LATENCY_MAX).await;
    let causes = causes(&hub).await;
    assert!(causes.contains("protocol"), "`why` does not speak of it, only of {causes:?}");
    hub.kill();
}

/// One whose key was stolen, or whose program is broken: it is let in, and then does what it can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admitted_device_that_misbehaves_harms_nobody_else() {
    const KEY: &str = "dHJhaXRvciB0cmFpdG9yIHRyYWl0b3I=";
    let (hub, _place) = start();
    let witness = Witness::start(&hub).await;
    let rest = Rest::new(&hub);
    tokio::task::spawn_blocking(move || rest.register("traitor", KEY)).await.unwrap();
    let (tls, mut attacks) = (Tls::new(&hub), JoinSet::new());
    // One after the other: a second connection of the same device would end the first.
    let place = Arc::new(Semaphore::new(1));
    let host = hub.host();
    let token = sas_token(&format!("{host}/devices/traitor"), KEY, None);
    let connect = bytes::connect("traitor", &format!("{host}/traitor/?api-version=2021-04-12"), &token);
    for packets in bytes::mqtt_of_a_device("traitor") {
        let bytes = [&connect[..], &packets].concat();
        attacks.spawn(attack(place.clone(), hub.address("mqtt"), Some(tls.clone()), bytes));
    }
    let sent = attacks.join_all().await.len();
    println!("figure: {sent} attacks by an admitted device");
    witness.testify(Duration::from_millis(1_000)).await;
    let causes = causes(&hub).await;
    for cause in ["protocol", "topic"] {
        assert!(causes.contains(cause), "`why` does not speak of {cause}, only of {causes:?}");
    }
    assert!(!causes.contains("wrong-key") && !causes.contains("unknown-device"), "{causes:?}");
    hub.kill();
}

/// Sends bytes, takes what comes for a while, and goes.
async fn attack(places: Arc<Semaphore>, address: SocketAddr, tls: Option<Tls>, bytes: Vec<u8>) {
    let _place = places.acquire().await;
    let Ok(stream) = TcpStream::connect(address).await else { panic!("the hub does not accept any more") };
    match tls {
        None => pour(stream, &bytes).await,
        Some(tls) => pour(tls.connect(stream).await.unwrap(), &bytes).await,
    }
}

async fn pour(mut stream: impl AsyncRead + AsyncWrite + Unpin, bytes: &[u8]) {
    let talk = async {
        // The hub may close before it has taken everything.
        if stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok() {
            let mut answer = [0; 4096];
            while let Ok(1..) = stream.read(&mut answer).await {}
        }
    };
    let _ = tokio::time::timeout(WAIT, talk).await;
}

pub(crate) fn start() -> (Hub, TempDir) {
    let place = tempfile::tempdir().unwrap();
    let hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &HubOptions::default());
    (hub, place)
}

fn random() -> Random {
    let seed = setting("HOLDFAST_HOSTILE_SEED", u64::from(std::process::id()));
    println!("seed {seed}");
    Random(seed)
}

/// The causes that the operator is told.
async fn causes(hub: &Hub) -> BTreeSet<String> {
    let rest = Rest::new(hub);
    let answer = tokio::task::spawn_blocking(move || rest.own("/holdfast/v1/why?limit=1000").unwrap());
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let records = answer.body.as_array().unwrap();
    records.iter().map(|record| record["cause"].as_str().unwrap().to_owned()).collect()
}
