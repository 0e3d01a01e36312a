//! The bus of one process: a map.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hub::identity::Identity;
use hub::placement::Placement;
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
        let at = Placement::Fnv1a.partition_of(&identity.device, SHARDS as u16);
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

    fn renew(&self, epoch: Epoch, holder: Arc<dyn Holder>) -> bool {
        let identity = holder.grant().identity().clone();
        let mut shard = self.shard(&identity);
        match shard.get_mut(&identity).filter(|(held, _)| *held == epoch) {
            Some((_, held)) => {
                *held = holder;
                true
            }
            None => false,
        }
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

    fn is_connected(&self, identity: &Identity) -> bool {
        self.shard(identity).contains_key(identity)
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

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::AtomicBool;
    use std::task::{Context, Poll, Waker};

    use hub::authenticate::{Basis, Grant};
    use hub::method::{Call, CallId};
    use hub::ports::secrets::Fingerprint;
    use hub::record::Slot;
    use hub::telemetry::{Sender, Source};
    use hub::twin::DesiredChange;

    use super::*;

    struct Connection {
        grant: Grant,
        callable: AtomicBool,
        endings: Mutex<Vec<Ending>>,
    }

    impl Holder for Connection {
        fn grant(&self) -> &Grant {
            &self.grant
        }
        fn end(&self, ending: Ending) {
            self.endings.lock().expect("not poisoned").push(ending);
        }
        fn desired_changed(&self, _: &Arc<DesiredChange>) {}
        fn inbox_changed(&self) {}
        fn takes_calls(&self) -> bool {
            self.callable.load(Ordering::SeqCst)
        }
        fn call(&self, _: Call) {}
        fn forget(&self, _: CallId) {}
    }

    fn connection(identity: &Identity, callable: bool) -> Arc<Connection> {
        let sender = Sender {
            identity: identity.clone(),
            generation: "1".to_owned(),
            auth_method: "{}".to_owned(),
            source: Source::Telemetry,
            model_id: None,
        };
        let basis = Basis::Key(Slot::Primary, Fingerprint([0; 16]));
        let grant = Grant { sender: Arc::new(sender), ends: None, basis, rechecks: 0 };
        Arc::new(Connection { grant, callable: callable.into(), endings: Mutex::default() })
    }

    fn identity(text: &str) -> Identity {
        Identity::parse(text).expect("an id")
    }

    fn is_there<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> bool {
        matches!(future.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(_))
    }

    #[test]
    fn a_call_waits_for_a_connection_that_takes_calls() {
        let (bus, pump) = (MemoryBus::new(), identity("pump"));
        let mut waiting = pin!(bus.callable(pump.clone()));
        assert!(!is_there(waiting.as_mut()));
        let device = connection(&pump, false);
        bus.claim(device.clone());
        bus.takes_calls(&identity("other"));
        assert!(!is_there(waiting.as_mut()), "it is connected, and takes no calls");
        device.callable.store(true, Ordering::SeqCst);
        bus.takes_calls(&pump);
        assert!(is_there(waiting.as_mut()));
        assert!(is_there(pin!(bus.callable(pump)).as_mut()), "one that is there is not waited for");
        assert!(bus.waiting().is_empty());
    }

    #[test]
    fn nothing_is_left_of_a_call_that_gave_up() {
        let (bus, pump) = (MemoryBus::new(), identity("pump"));
        {
            let (mut first, mut second) =
                (pin!(bus.callable(pump.clone())), pin!(bus.callable(pump.clone())));
            assert!(!is_there(first.as_mut()) && !is_there(second.as_mut()));
            assert_eq!(bus.waiting()[&pump].len(), 2);
        }
        assert!(bus.waiting().is_empty());
        assert_eq!(bus.waits.load(Ordering::SeqCst), 0);
    }

    fn plain() -> Arc<Connection> {
        connection(&identity("d1"), false)
    }

    fn endings(connection: &Connection) -> Vec<Ending> {
        connection.endings.lock().expect("not poisoned").clone()
    }

    #[test]
    fn a_renewal_keeps_the_place_and_ends_nobody() {
        let (bus, first, renewed) = (MemoryBus::new(), plain(), plain());
        let epoch = bus.claim(first.clone());
        assert!(bus.renew(epoch, renewed.clone()));
        assert_eq!((endings(&first), bus.connected()), (Vec::new(), 1));
        bus.claim(plain());
        assert_eq!((endings(&first), endings(&renewed)), (Vec::new(), vec![Ending::TakenOver]));
    }

    #[test]
    fn a_renewal_takes_nothing_back_from_a_newer_connection() {
        let (bus, newer, renewed) = (MemoryBus::new(), plain(), plain());
        let epoch = bus.claim(plain());
        bus.claim(newer.clone());
        assert!(!bus.renew(epoch, renewed));
        assert_eq!(endings(&newer), []);
    }
}
