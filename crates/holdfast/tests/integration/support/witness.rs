//! A well-behaved device that goes on publishing while something else happens to the hub.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sim::{Device, Message, QoS};
use tokio::task::JoinHandle;

use super::{Hub, Rest};

/// Between two messages.
const PAUSE: Duration = Duration::from_millis(10);
/// Messages that a statement rests on at least.
const MESSAGES_MIN: usize = 6;

/// The device, at work.
pub(crate) struct Witness {
    over: Arc<AtomicBool>,
    wanted: Arc<AtomicUsize>,
    task: JoinHandle<Vec<Duration>>,
}

impl Witness {
    /// Registers the device, connects it and lets it publish.
    pub(crate) async fn start(hub: &Hub) -> Self {
        Self::named(hub, "witness").await
    }

    /// The same under another name than that of an earlier one.
    pub(crate) async fn named(hub: &Hub, name: &'static str) -> Self {
        const KEY: &str = "d2l0bmVzcyB3aXRuZXNzIHdpdG5lc3M=";
        let rest = Rest::new(hub);
        tokio::task::spawn_blocking(move || rest.register(name, KEY)).await.unwrap();
        let mut device = Device::connect(&hub.device(name, KEY)).await.unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let wanted = Arc::new(AtomicUsize::new(MESSAGES_MIN));
        let (watched, least) = (over.clone(), wanted.clone());
        let task = tokio::spawn(async move {
            let mut latencies = Vec::new();
            // A few in any case, however soon the attack is over.
            while !watched.load(Ordering::SeqCst) || latencies.len() < least.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let message = Message { body: b"all is well"[..].into(), properties: &[] };
                device.publish(&message, QoS::AtLeastOnce).await.expect("the witness is not disturbed");
                latencies.push(begun.elapsed());
                tokio::time::sleep(PAUSE).await;
            }
            device.disconnect().await;
            latencies
        });
        Self { over, wanted, task }
    }

    /// Ends it after so many messages; gives the time within which 99 % of them were acknowledged.
    pub(crate) async fn p99_of(self, messages: usize) -> Duration {
        self.wanted.store(messages, Ordering::SeqCst);
        self.over.store(true, Ordering::SeqCst);
        let mut latencies = self.task.await.unwrap();
        latencies.sort();
        latencies[(latencies.len() - 1) * 99 / 100]
    }

    /// Ends it; its connection must have held, and each acknowledgement must have come within the bound.
    pub(crate) async fn testify(self, bound: Duration) {
        self.over.store(true, Ordering::SeqCst);
        let mut latencies = self.task.await.unwrap();
        latencies.sort();
        let at = |share: usize| latencies[(latencies.len() - 1) * share / 100];
        println!(
            "figure: the witness: {} messages, acknowledged in {:.1?} (median), {:.1?} (99 %), {:.1?} (longest)",
            latencies.len(),
            at(50),
            at(99),
            at(100),
        );
        assert!(at(100) < bound, "an acknowledgement took {:?}", at(100));
    }
}
