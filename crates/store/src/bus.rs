//! The bus of one process: a map.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::identity::Identity;
use hub::ports::BoxFuture;
use hub::ports::bus::{Bus, Ending, Epoch, Holder};
use tokio::sync::oneshot;

/// Shards of the map, so that connects on different cores seldom meet.
const SHARDS: usize = 16;

type Shard = HashMap<Identity, (Epoch, Arc<dyn Holder>)>;

/// Who is connected to this process.
#[derive(Default)]
pub struct MemoryBus {
    shards: [Mutex<Shard>; SHARDS],
    epochs: AtomicU64,
    /// Who waits for a connection that takes calls of methods.
    waiting: Mutex<HashMap<Identity, Vec<oneshot::Sender<()>>>>,
    /// How many wait; a connection that comes while nobody does takes no lock.
    waits: AtomicUsize,
}

impl MemoryBus {
    /// A bus with nobody on it.
    pub fn new() -> Self {
        Self::default()
    }

    fn shard(&self, identity: &Identity) -> MutexGuard<'_, Shard> {
        let at = hub::telemetry::partition_of(&identity.device, SHARDS as u16);
        self.shards[usize::from(at)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Identity, Vec<oneshot::Sender<()>>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among those who wait; it is free again when this is dropped.
struct Waiting<'a> {
    bus: &'a MemoryBus,
    identity: &'a Identity,
    /// Resolves when a connection is announced. Gone before the place is.
    announced: Option<oneshot::Receiver<()>>,
}

impl<'a> Waiting<'a> {
    fn new(bus: &'a MemoryBus, identity: &'a Identity) -> Self {
        let (sender, receiver) = oneshot::channel();
        bus.waits.fetch_add(1, Ordering::SeqCst);
        bus.waiting().entry(identity.clone()).or_default().push(sender);
        Self { bus, identity, announced: Some(receiver) }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.announced = None;
        let mut waiting = self.bus.waiting();
        if let Some(senders) = waiting.get_mut(self.identity) {
            senders.retain(|sender| !sender.is_closed());
            if senders.is_empty() {
                waiting.remove(self.identity);
            }
        }
        self.bus.waits.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Bus for MemoryBus {
    fn claim(&self, holder: Arc<dyn Holder>) -> Epoch {
        let identity = holder.grant().identity().clone();
        let mut shard = self.shard(&identity);
        let epoch = Epoch(self.epochs.fetch_add(1, Ordering::Relaxed) + 1);
        if let Some((_, older)) = shard.insert(identity, (epoch, holder)) {
            older.end(Ending::TakenOver);
        }
        epoch
    }

    fn release(&self, identity: &Identity, epoch: Epoch) -> bool {
        let mut shard = self.shard(identity);
        let current = shard.get(identity).is_some_and(|(held, _)| *held == epoch);
        if current {
            shard.remove(identity);
        }
        current
    }

    fn holder(&self, identity: &Identity) -> Option<Arc<dyn Holder>> {
        self.shard(identity).get(identity).map(|(_, holder)| holder.clone())
    }

    fn holders(&self) -> Vec<Arc<dyn Holder>> {
        let shard = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().map(|(_, holder)| holder.clone()).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(shard).collect()
    }

    fn connected(&self) -> u64 {
        let count = |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).len() as u64;
        self.shards.iter().map(count).sum()
    }

    fn callable(&self, identity: Identity) -> BoxFuture<'_, Arc<dyn Holder>> {
        Box::pin(async move {
            loop {
                // Before the look, so that a connection that comes in between is not missed.
                let mut waiting = Waiting::new(self, &identity);
                if let Some(holder) = self.holder(&identity).filter(|holder| holder.takes_calls()) {
                    return holder;
                }
                if let Some(announced) = waiting.announced.take() {
                    let _ = announced.await;
                }
            }
        })
    }

    fn takes_calls(&self, identity: &Identity) {
        if self.waits.load(Ordering::SeqCst) > 0
            && let Some(senders) = self.waiting().remove(identity)
        {
            for sender in senders {
                let _ = sender.send(());
            }
        }
    }
}
