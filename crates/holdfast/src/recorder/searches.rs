//! The search for the mistake behind a signature that does not verify, on the way of its decision to the registry. What it may
//! take is bounded, so that nobody makes the hub work by presenting wrong signatures: so many searches of one address and of
//! all together in a minute, and of the time a few hundredths of one processor, unless somebody waits for what is found.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hub::backoff::network;
use hub::decision::Decision;
use hub::key_search::{Clue, KeySearch};
use hub::limits::SEARCHES_PER_MINUTE as NEARBY;
use hub::refusal::Refusal;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::Item;

/// Refusals that may wait to be looked into; beyond it they are recorded as they are.
const WAITING_MAX: usize = 64;
/// Searches in a minute through the keys of the whole fleet.
const FLEET: (u32, u32) = (20, 120);
/// The minute.
const WINDOW: Duration = Duration::from_secs(60);
/// How many times as long as a search took the next one waits.
const REST: u32 = 99;
/// And no longer than this, for what was refused is counted after it was looked into.
const REST_MAX: Duration = Duration::from_millis(250);

/// Takes refusals that are to be looked into.
pub(super) struct Searches {
    queue: mpsc::Sender<Search>,
    nearby: Mutex<Allowance>,
    awaited: Arc<Awaited>,
}

/// Those who wait until what was taken is looked into. While there are any, the searcher does not rest.
#[derive(Default)]
struct Awaited {
    count: AtomicUsize,
    came: Notify,
}

/// One of those who wait; no more when it is dropped.
struct Waits<'a>(&'a Awaited);

impl Awaited {
    fn wait(&self) -> Waits<'_> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.came.notify_one();
        Waits(self)
    }

    fn is_anybody_waiting(&self) -> bool {
        self.count.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Search {
    For(Box<Decision>, Box<Clue>),
    /// Asks to be told when everything before it is handed on.
    Settle(oneshot::Sender<()>),
}

impl Searches {
    /// Starts to search; what was looked into goes on to `decisions`.
    pub(super) fn start(keys: KeySearch, decisions: mpsc::Sender<Item>) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        let awaited = Arc::new(Awaited::default());
        let fleet = Allowance::new(FLEET, Instant::now());
        let searcher = Searcher { keys, decisions, fleet, awaited: awaited.clone() };
        tokio::spawn(searcher.run(waiting));
        Self { queue, nearby: Mutex::new(Allowance::new(NEARBY, Instant::now())), awaited }
    }

    /// Takes a refusal, or gives it back where it is not to be looked into, and says so in it.
    pub(super) fn take(&self, decision: Box<Decision>, clue: Box<Clue>) -> Result<(), Box<Decision>> {
        let Ok(place) = self.queue.try_reserve() else { return Err(unsearched(decision)) };
        let mut nearby = self.nearby.lock().unwrap_or_else(PoisonError::into_inner);
        if !nearby.take(decision.origin.address, Instant::now()) {
            return Err(unsearched(decision));
        }
        place.send(Search::For(decision, clue));
        Ok(())
    }

    /// Returns once everything that was taken before is handed on.
    pub(super) async fn settle(&self) {
        // Whoever asked may give up meanwhile.
        let _waits = self.awaited.wait();
        let (done, settled) = oneshot::channel();
        if self.queue.send(Search::Settle(done)).await.is_ok() {
            let _ = settled.await;
        }
    }
}

/// Looks into one refusal after the other.
struct Searcher {
    keys: KeySearch,
    decisions: mpsc::Sender<Item>,
    fleet: Allowance,
    awaited: Arc<Awaited>,
}

impl Searcher {
    async fn run(mut self, mut waiting: mpsc::Receiver<Search>) {
        while let Some(item) = waiting.recv().await {
            let (decision, clue) = match item {
                Search::For(decision, clue) => (decision, clue),
                Search::Settle(done) => {
                    let _ = done.send(());
                    continue;
                }
            };
            let begun = Instant::now();
            let decision = self.look_into(decision, &clue).await;
            let took = begun.elapsed();
            if self.decisions.send(Item::Decision(decision)).await.is_err() {
                return;
            }
            if !self.awaited.is_anybody_waiting() {
                let _hurried = timeout((took * REST).min(REST_MAX), self.awaited.came.notified()).await;
            }
        }
    }

    /// First what is nearest to the client, then, as often as is allowed, the keys of the fleet.
    async fn look_into(&mut self, mut decision: Box<Decision>, clue: &Clue) -> Box<Decision> {
        let address = decision.origin.address;
        let mut found = self.keys.nearby(clue, address).await;
        if matches!(found, Ok(None)) && self.fleet.take(address, Instant::now()) {
            found = self.keys.fleet(clue).await;
        }
        match found {
            Ok(Some(refusal)) => decision.refusal = Some(refusal),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, "the mistake behind a signature was not looked for");
                return unsearched(decision);
            }
        }
        decision
    }
}

/// Says in a refusal that nobody looked for the key that signed.
fn unsearched(mut decision: Box<Decision>) -> Box<Decision> {
    if let Some(Refusal::WrongKey { unsearched, .. }) = &mut decision.refusal {
        *unsearched = true;
    }
    decision
}

/// How often something may be done in a minute, for one party and for all together.
struct Allowance {
    of_one: u32,
    in_all: u32,
    begun: Instant,
    taken: u32,
    taken_of: HashMap<Option<IpAddr>, u32>,
}

impl Allowance {
    fn new((of_one, in_all): (u32, u32), now: Instant) -> Self {
        Self { of_one, in_all, begun: now, taken: 0, taken_of: HashMap::new() }
    }

    /// Whether it may be done once more.
    fn take(&mut self, address: Option<IpAddr>, now: Instant) -> bool {
        if now.duration_since(self.begun) >= WINDOW {
            *self = Self::new((self.of_one, self.in_all), now);
        }
        if self.taken >= self.in_all {
            return false;
        }
        // No more parties than all may take are counted.
        let of = self.taken_of.entry(address.map(network)).or_default();
        if *of >= self.of_one {
            return false;
        }
        *of += 1;
        self.taken += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_up_is_not_waited_for() {
        let awaited = Awaited::default();
        let waits = awaited.wait();
        assert!(awaited.is_anybody_waiting());
        drop(waits);
        assert!(!awaited.is_anybody_waiting());
    }

    #[test]
    fn no_source_and_no_crowd_makes_the_hub_search_without_end() {
        let start = Instant::now();
        let mut fleet = Allowance::new((20, 120), start);
        let address = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        assert_eq!((0..100).filter(|_| fleet.take(address(1), start)).count(), 20);
        let others = (2..200).flat_map(|n| [n; 5]).filter(|n| fleet.take(address(*n), start)).count();
        assert_eq!(others, 100);
        assert!(fleet.take(address(1), start + WINDOW), "a new window begins anew");
        let host = |n: u16| Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]));
        let of_one_network = (0..100).filter(|n| fleet.take(host(*n), start + WINDOW)).count();
        assert_eq!(of_one_network, 20, "a host of IPv6 chooses its address");
    }
}
