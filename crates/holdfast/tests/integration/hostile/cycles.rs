//! Many connections one after the other, and what they leave in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::{Device, EventReader};
use tokio::task::JoinSet;

use super::start;
use crate::support::{Hub, Rest, setting};

const KEY: &str = "Y3ljbGUgY3ljbGUgY3ljbGUgY3ljbGU=";
const AT_ONCE: u64 = 8;
/// What the second half may leave behind.
const GROWTH_MAX: u64 = 2 * 1024 * 1024;

/// `HOLDFAST_CYCLES` is how many.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connecting_and_going_leaves_nothing_in_memory() {
    let (hub, _place) = start();
    let rest = Rest::new(&hub);
    let registered = tokio::task::spawn_blocking(move || {
        (0..AT_ONCE).for_each(|number| rest.register(&device(number), KEY));
    });
    registered.await.unwrap();
    let cycles = setting("HOLDFAST_CYCLES", 20_000);
    let begun = Instant::now();
    let hub = Arc::new(hub);
    run(&hub, cycles / 2).await;
    let first = hub.resident();
    run(&hub, cycles / 2).await;
    let second = hub.resident();
    println!(
        "figure: {cycles} connections in {:.1?}; resident: {} KiB after the first half, {} KiB after the second",
        begun.elapsed(),
        first / 1024,
        second / 1024,
    );
    assert!(second <= first + GROWTH_MAX, "the second half left {} bytes behind", second - first);
    Arc::into_inner(hub).unwrap().kill();
}

async fn run(hub: &Arc<Hub>, cycles: u64) {
    let next = Arc::new(AtomicU64::new(0));
    let mut clients = JoinSet::new();
    for number in 0..AT_ONCE {
        let (hub, next) = (hub.clone(), next.clone());
        clients.spawn(async move {
            let options = hub.device(&device(number), KEY);
            while next.fetch_add(1, Ordering::SeqCst) < cycles {
                let cycle = next.load(Ordering::SeqCst);
                if cycle % 50 == 0 {
                    EventReader::connect(&hub.reader()).await.unwrap().close().await;
                    continue;
                }
                let connected = Device::connect(&options).await.unwrap();
                // One in four breaks off, as a loss of power does.
                if cycle % 4 != 0 {
                    connected.disconnect().await;
                }
            }
        });
    }
    clients.join_all().await;
}

fn device(number: u64) -> String {
    format!("visitor-{number}")
}
