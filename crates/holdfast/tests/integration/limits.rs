//! Bounds of `docs/limits.md` that nobody comes to over an SDK.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sim::{Device, QoS};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{Hub, HubOptions, Rest, Shim};

const KEY: &str = "d3JpdGVyIHdyaXRlciB3cml0ZXIgd3JpdGVyIHdyaXQ=";

/// Messages of a connection that wait for the disk.
const WAITING_MAX: usize = 256;

/// One sync makes durable what waits for it, and then others may wait for the next one: so many syncs are needed for what a device sent
/// at once. Without the bound everything but the first message would wait for the second one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_messages_of_a_connection_wait_for_the_disk_as_may_be() {
    const SENT: usize = 1_200;
    const SYNC: Duration = Duration::from_millis(150);
    let place = tempfile::tempdir().unwrap();
    let (shim, log) = (Shim::new(place.path()), place.path().join("hub.log"));
    let hub = Hub::start(shim.data(), &log, &shim.hub_options_with_syncs_of(SYNC));
    let rest = Rest::new(&hub);
    tokio::task::spawn_blocking(move || rest.register("writer", KEY)).await.unwrap();
    let mut device = Device::connect(&hub.device("writer", KEY)).await.unwrap();
    for _ in 0..SENT {
        device
            .enqueue("devices/writer/messages/events/", Bytes::from_static(b"x"), QoS::AtLeastOnce)
            .unwrap();
    }
    let begun = Instant::now();
    for _ in 0..SENT {
        device.next_acknowledged().await.unwrap();
    }
    let took = begun.elapsed();
    // However late an acknowledgement is read here, so many syncs take so long.
    let syncs = SENT.div_ceil(WAITING_MAX) as u32;
    assert!(
        took >= SYNC * (syncs - 1),
        "{SENT} messages took {took:?}: more than {WAITING_MAX} waited for one sync"
    );
    println!("figure: {SENT} messages that were sent at once took {took:.1?}, with syncs of {SYNC:?}");
    device.disconnect().await;
    hub.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_hello_that_promises_too_much_is_refused_before_it_comes() {
    let place = tempfile::tempdir().unwrap();
    let hub = Hub::start(&place.path().join("data"), &place.path().join("hub.log"), &HubOptions::default());
    for door in ["https", "mqtt", "amqp"] {
        // The handshake itself would end after 15 s.
        assert!(ends_within(Duration::from_secs(5), hub.address(door), 0x1_0000).await, "{door}");
        assert!(!ends_within(Duration::from_millis(300), hub.address(door), 0xFFFF).await, "{door}");
    }
    hub.kill();
}

/// Whether a door closes a connection of which no more than the first bytes of a ClientHello of this length have come.
async fn ends_within(limit: Duration, door: SocketAddr, length: u32) -> bool {
    let mut stream = TcpStream::connect(door).await.unwrap();
    let [_, length @ ..] = length.to_be_bytes();
    let mut record = [&[0x16, 3, 1, 0, 100, 1][..], &length].concat();
    record.resize(105, 3);
    stream.write_all(&record).await.unwrap();
    timeout(limit, stream.read_to_end(&mut Vec::new())).await.is_ok()
}
