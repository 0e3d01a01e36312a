//! The bus of one process: a map.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::identity::Identity;
use hub::ports::bus::{Bus, Ending, Epoch, Holder};

/// Shards of the map, so that connects on different cores seldom meet.
const SHARDS: usize = 16;

type Shard = HashMap<Identity, (Epoch, Arc<dyn Holder>)>;

/// Who is connected to this process.
#[derive(Default)]
pub struct MemoryBus {
    shards: [Mutex<Shard>; SHARDS],
    epochs: AtomicU64,
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
}
