//! Connections that never show a credential, of the kinds that make a hub hold most: what each takes, what all of them take, and
//! that nobody who behaves feels it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::{LATENCY_MAX, bytes, causes, start};
use crate::support::{Hub, HubOptions, Rest, Tls, Witness, setting};

/// What one connection without a credential may make the hub hold, TLS included.
const EACH_MAX: u64 = 64 * 1024;
/// What the hub may take while any number of them are open.
const ALL_MAX: u64 = 300 * 1024 * 1024;
/// Just under what one may send, and what the head of a request may be.
const SENT: usize = 47 * 1024;
const HEAD: usize = 31 * 1024;
/// The largest message of a WebSocket that is taken before admission.
const WEBSOCKET_MESSAGE: u16 = 32 * 1024;
/// Messages of a device before and beside them, and what other work on the machine may add to their time.
const MESSAGES: usize = 200;
const SLACK: Duration = Duration::from_millis(200);
/// Handshakes that are under way at a time.
const AT_ONCE: usize = 64;

/// The openings that make a hub hold most, each by the door at which it comes.
fn worst() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let filled = |begin: &[u8], length: usize| [begin, &vec![b'a'; length - begin.len()]].concat();
    let filler = |begin: &[u8]| filled(begin, SENT);
    // A frame of 64 KiB behind the headers and an open; the rest of it never comes.
    let open = b"AMQP\x00\x01\x00\x00\x00\x00\x00\x17\x02\x00\x00\x00\x00\x53\x10\xc0\x0a\x01\xa1\x07strange";
    // All but the last byte of the largest message, behind its header of 8 bytes with the mask.
    let upgrade = bytes::upgrade("mqtt");
    let length = WEBSOCKET_MESSAGE.to_be_bytes();
    let header = [&upgrade[..], &[0x82, 0xfe], &length, &[0; 4]].concat();
    let message = filled(&header, header.len() + usize::from(WEBSOCKET_MESSAGE) - 1);
    vec![
        ("nothing", "mqtt", Vec::new()),
        ("a CONNECT that never ends", "mqtt", filler(b"\x10\xff\xff\x02\x00\x04MQTT\x04\xc2\x00\x3c")),
        (
            "a frame that never ends",
            "amqp",
            filler(&[&open[..], b"\x00\x00\xff\xff\x02\x00\x00\x00"].concat()),
        ),
        ("a head that never ends", "https", filled(b"GET / HTTP/1.1\r\nX-Long: ", HEAD)),
        ("a WebSocket frame that never ends", "https", message),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_stranger_takes_little_whatever_it_sends() {
    let count = setting("HOLDFAST_STRANGERS_EACH", 300);
    for (kind, door, opening) in worst() {
        let (hub, _place) = start();
        let tls = Tls::new(&hub);
        // What the first connections make the allocator take is no growth.
        drop(open(&hub, &tls, door, &opening, AT_ONCE as u64).await);
        let before = hub.resident();
        let held = open(&hub, &tls, door, &opening, count).await;
        let each = hub.resident().saturating_sub(before) / count;
        println!("figure: strangers: {kind}: {} KiB each", each / 1024);
        assert_eq!(held.len() as u64, count, "{kind}: all of them are taken");
        assert!(each <= EACH_MAX, "{kind}: {each} bytes each");
        hub.kill();
    }
}

/// `HOLDFAST_STRANGERS` is how many there are in all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_strangers_together_take_a_bounded_part_and_hold_up_nobody() {
    let count = setting("HOLDFAST_STRANGERS", 4_000);
    let (hub, _place) = start();
    let before = Witness::named(&hub, "before").await.p99_of(MESSAGES).await;
    let witness = Witness::start(&hub).await;
    let tls = Tls::new(&hub);
    let (mut held, kinds) = (Vec::new(), worst());
    for (_, door, opening) in &kinds {
        held.push(open(&hub, &tls, door, opening, count / kinds.len() as u64).await);
    }
    let resident = hub.resident();
    println!("figure: strangers: {count} of all kinds leave the hub at {} MiB", resident / 1024 / 1024);
    assert!(resident <= ALL_MAX, "{resident} bytes");
    witness.testify(LATENCY_MAX).await;
    let beside = Witness::named(&hub, "beside").await.p99_of(MESSAGES).await;
    println!(
        "figure: strangers: 99 % acknowledged within {before:.1?} before they came, {beside:.1?} beside them"
    );
    assert!(beside <= before * 2 + SLACK, "{beside:?} beside strangers, {before:?} before");
    hub.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_sends_too_much_is_closed_and_named() {
    let (hub, _place) = start();
    let tls = Tls::new(&hub);
    for (kind, door, opening) in worst().into_iter().filter(|(_, _, opening)| !opening.is_empty()) {
        let stream = TcpStream::connect(hub.address(door)).await.unwrap();
        let mut stream = tls.connect(stream).await.unwrap();
        // The hub may close before it has taken everything.
        let _ = stream.write_all(&opening).await;
        let _ = stream.write_all(&vec![b'a'; 320 * 1024]).await;
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "{kind}: it is still open");
    }
    let causes = causes(&hub).await;
    assert!(causes.contains("not-admitted-within"), "{causes:?}");
    hub.kill();
}

/// Strangers that take all descriptors: the store has its own, and new clients take the place of the oldest stranger.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_that_take_all_descriptors_cost_no_sender_its_connection() {
    let place = tempfile::tempdir().unwrap();
    let options = HubOptions { shell: Some(r#"ulimit -n 400; exec "$@""#), ..HubOptions::default() };
    let hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &options);
    let witness = Witness::start(&hub).await;
    let mut held = Vec::new();
    for _ in 0..500 {
        // Not even a handshake.
        held.push(TcpStream::connect(hub.address("mqtt")).await.unwrap());
    }
    // An operator still gets in, and so does a device.
    let rest = Rest::new(&hub);
    let answer =
        tokio::task::spawn_blocking(move || rest.own("/holdfast/v1/why?limit=100").unwrap()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(hub.log().contains("file descriptors"), "the log says what happens");
    drop(Tls::new(&hub).connect(TcpStream::connect(hub.address("mqtt")).await.unwrap()).await.unwrap());
    witness.testify(LATENCY_MAX).await;
    drop(held);
    hub.kill();
}

/// Opens so many connections, from many addresses, and gives those that could be opened.
async fn open(hub: &Hub, tls: &Tls, door: &str, opening: &[u8], count: u64) -> Vec<TlsStream<TcpStream>> {
    let (address, opening) = (hub.address(door), Arc::<[u8]>::from(opening));
    let (places, mut opened) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for number in 0..count {
        let (places, tls, opening) = (places.clone(), tls.clone(), opening.clone());
        opened.spawn(async move {
            let _place = places.acquire().await;
            let mut stream = tls.connect(from(number, address).await?).await?;
            stream.write_all(&opening).await?;
            stream.flush().await?;
            Ok::<_, std::io::Error>(stream)
        });
    }
    opened.join_all().await.into_iter().filter_map(Result::ok).collect()
}

/// A connection from one of 200 addresses of this machine.
async fn from(number: u64, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let host = u8::try_from(number % 200).unwrap_or(0) + 1;
    socket.bind(SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 77, host)), 0))?;
    socket.connect(to).await
}
