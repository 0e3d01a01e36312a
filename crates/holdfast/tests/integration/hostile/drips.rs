//! Clients that connect and say nothing, or say everything slowly.

use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::{DOORS, LATENCY_MAX, bytes, start};
use crate::support::{Tls, Witness};

/// Connections of each kind and door.
const EACH: usize = 40;
/// Between two bytes of a drip.
const DRIP: Duration = Duration::from_millis(700);
/// After which the hub must have given each of them up: 15 s for a handshake, 30 s for a credential at any door.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(40);
/// A request whose head never ends.
const HEAD: &[u8] = b"POST /devices/d1/messages/events?api-version=2021-04-12 HTTP/1.1\r\nX-Slow: 1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_slow_clients_are_given_up_and_hold_up_nobody() {
    let (hub, _place) = start();
    let witness = Witness::start(&hub).await;
    let tls = Tls::new(&hub);
    let mut slow = JoinSet::new();
    for door in DOORS {
        let address = hub.address(door);
        for number in 0..EACH {
            slow.spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                ("half-open connection", door, until_closed(stream, Vec::new(), GIVEN_UP_AFTER).await)
            });
            slow.spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let mut hello = bytes::client_hello([3, 3]);
                // Some stop half-way.
                hello.truncate(if number % 2 == 0 { 5 + number } else { hello.len() - 1 });
                ("slow handshake", door, until_closed(stream, hello, GIVEN_UP_AFTER).await)
            });
        }
    }
    for number in 0..EACH {
        let (address, tls) = (hub.address("mqtt"), tls.clone());
        slow.spawn(async move {
            let stream = tls.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
            let connect = bytes::connect("d1", "localhost/d1", &"x".repeat(200));
            let bytes = if number % 2 == 0 { connect } else { Vec::new() };
            ("slow CONNECT", "mqtt", until_closed(stream, bytes, GIVEN_UP_AFTER).await)
        });
    }
    for (kind, door, bytes) in [
        ("slow head", "https", HEAD.to_vec()),
        ("slow SASL", "amqp", b"AMQP\x03\x01\x00\x00\x00\x00\x00\xff\x02\x01\x00\x00\x00\x53\x41".to_vec()),
    ] {
        for _ in 0..EACH {
            let (address, tls, bytes) = (hub.address(door), tls.clone(), bytes.clone());
            slow.spawn(async move {
                let stream = tls.connect(TcpStream::connect(address).await.unwrap()).await.unwrap();
                (kind, door, until_closed(stream, bytes, GIVEN_UP_AFTER).await)
            });
        }
    }
    // Whoever behaves still gets in at once.
    let begun = Instant::now();
    tls.connect(TcpStream::connect(hub.address("mqtt")).await.unwrap()).await.unwrap();
    assert!(begun.elapsed() < LATENCY_MAX, "a handshake took {:?}", begun.elapsed());

    let held = slow.join_all().await;
    for kind in ["half-open connection", "slow handshake", "slow CONNECT", "slow head", "slow SASL"] {
        let times: Vec<_> = held.iter().filter(|(of, _, _)| *of == kind).map(|(_, _, held)| held).collect();
        println!("figure: {}: {} held for {:.1?} at most", kind, times.len(), times.iter().max().unwrap());
    }
    witness.testify(LATENCY_MAX).await;
    let causes = super::causes(&hub).await;
    assert!(causes.contains("tls-failed"), "{causes:?}");
    hub.kill();
}

/// Sends the bytes one by one, then nothing, until the hub closes; gives how long that took.
async fn until_closed(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    bytes: Vec<u8>,
    at_most: Duration,
) -> Duration {
    let begun = Instant::now();
    let (mut read, mut write) = tokio::io::split(stream);
    let drip = async {
        for byte in bytes {
            if write.write_all(&[byte]).await.is_err() || write.flush().await.is_err() {
                break;
            }
            tokio::time::sleep(DRIP).await;
        }
        std::future::pending::<()>().await;
    };
    let closed = async {
        let mut answer = [0; 1024];
        while let Ok(1..) = read.read(&mut answer).await {}
    };
    let either = async {
        tokio::select! {
            () = drip => {}
            () = closed => {}
        }
    };
    assert!(tokio::time::timeout(at_most, either).await.is_ok(), "the hub never gives up");
    begun.elapsed()
}
