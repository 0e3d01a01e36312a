//! A registry in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hub::audit::Hash;
use hub::audit::evidence::{Block, Head, Inclusion, Kept};
use hub::decision::{Decision, DecisionFilter, Numbered};
use hub::identity::DeviceId;
use hub::ports::BoxFuture;
use hub::ports::audit::AuditLog;
use hub::ports::registry::{Change, Committed, Registry, StoreError, Versioned, Watcher};
use hub::record::{Key, Kind, Record, Status};

use super::ledger::Ledger;
use crate::sqlite::device_of;

/// A registry without a file.
pub struct MemoryRegistry {
    state: Mutex<State>,
    watchers: Mutex<Vec<Watcher>>,
    decisions_max: u64,
}

#[derive(Default)]
struct State {
    records: BTreeMap<Key, Versioned>,
    ledger: Ledger,
}

impl MemoryRegistry {
    /// An empty registry that keeps at least so many decisions beside those about changes.
    pub fn new(decisions_max: u64) -> Self {
        Self { state: Mutex::default(), watchers: Mutex::default(), decisions_max }
    }

    fn commit_now(&self, change: Change) -> Result<Vec<u64>, StoreError> {
        // Held until the watchers are told, so that they are told in the order of the commits.
        let watchers = lock(&self.watchers);
        let mut state = lock(&self.state);
        for write in &change.writes {
            if state.records.get(&write.key).map(|found| found.version) != write.replaces {
                return Err(StoreError::Stale(write.key.clone()));
            }
        }
        let mut versions = Vec::with_capacity(change.writes.len());
        let mut keys = Vec::with_capacity(change.writes.len());
        for write in change.writes {
            match write.record {
                Some(record) => {
                    let version = write.replaces.unwrap_or_default() + 1;
                    state.records.insert(write.key.clone(), Versioned { version, record });
                    versions.push(version);
                }
                None => {
                    state.records.remove(&write.key);
                    versions.push(0);
                }
            }
            keys.push(write.key);
        }
        state.record(change.decision, self.decisions_max)?;
        drop(state);
        if !keys.is_empty() {
            let committed =
                Committed { keys: &keys, announces: change.announces.as_ref(), events: &change.events };
            watchers.iter().for_each(|watcher| watcher(committed));
        }
        Ok(versions)
    }

    fn list_now(&self, kind: Kind, after: Option<&Key>, limit: usize) -> Vec<(Key, Versioned)> {
        lock(&self.state)
            .records
            .iter()
            .filter(|(key, _)| key.kind() == kind && after.is_none_or(|after| *key > after))
            .take(limit)
            .map(|(key, record)| (key.clone(), record.clone()))
            .collect()
    }

    fn decisions_now(&self, filter: &DecisionFilter) -> Vec<Numbered<Decision>> {
        let wanted = |(number, decision): &(&u64, &Decision)| {
            filter.before.is_none_or(|before| **number < before)
                && filter.device.as_deref().is_none_or(|device| device_of(decision) == Some(device))
                && filter.address.is_none_or(|address| decision.origin.address == Some(address))
                && (!filter.refused_only || decision.refusal.is_some())
                && filter.admits(decision)
        };
        lock(&self.state)
            .ledger
            .bodies
            .iter()
            .rev()
            .map(|(number, (decision, _))| (number, decision))
            .filter(wanted)
            .take(filter.limit)
            .map(|(number, decision)| Numbered { number: *number, record: decision.clone() })
            .collect()
    }
}

impl State {
    fn record(
        &mut self,
        decisions: impl IntoIterator<Item = Decision>,
        bounded_max: u64,
    ) -> Result<(), StoreError> {
        decisions.into_iter().try_for_each(|decision| self.ledger.append(decision))?;
        self.ledger.retain(bounded_max)
    }
}

impl AuditLog for MemoryRegistry {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        ready(Ok(lock(&self.state).ledger.head()))
    }

    fn blocks(&self, first: u64, count: usize) -> BoxFuture<'_, Result<Vec<Block>, StoreError>> {
        ready(Ok(lock(&self.state).ledger.blocks(first, count)))
    }

    fn checkpoints(&self, above: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        ready(Ok(lock(&self.state).ledger.checkpoints(above, limit)))
    }

    fn keep_checkpoint(&self, checkpoint: Kept) -> BoxFuture<'_, Result<(), StoreError>> {
        lock(&self.state).ledger.keep_checkpoint(checkpoint);
        ready(Ok(()))
    }

    fn inclusion(&self, number: u64, size: u64) -> BoxFuture<'_, Result<Option<Inclusion>, StoreError>> {
        ready(Ok(lock(&self.state).ledger.inclusion(number, size)))
    }

    fn consistency(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Option<Vec<Hash>>, StoreError>> {
        ready(Ok(lock(&self.state).ledger.consistency(old, new)))
    }
}

impl Registry for MemoryRegistry {
    fn load(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        ready(Ok(lock(&self.state).records.get(&key).cloned()))
    }

    fn load_many(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Versioned>>, StoreError>> {
        let state = lock(&self.state);
        ready(Ok(keys.iter().map(|key| state.records.get(key).cloned()).collect()))
    }

    fn list(
        &self,
        kind: Kind,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        ready(Ok(self.list_now(kind, after.as_ref(), limit)))
    }

    fn list_of(
        &self,
        kind: Kind,
        device: DeviceId,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        let mut records = self.list_now(kind, None, usize::MAX);
        records.retain(|(key, _)| key.parts().0 == device.as_str());
        ready(Ok(records))
    }

    fn children(
        &self,
        scope: String,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        let mut records = self.list_now(Kind::Device, after.map(Key::Device).as_ref(), usize::MAX);
        records.retain(|(_, stored)| {
            matches!(&stored.record, Record::Device(device) if device.parent_scope() == Some(&scope))
        });
        records.truncate(limit);
        ready(Ok(records))
    }

    fn count_disabled(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        let disabled = |stored: &&Versioned| matches!(&stored.record, Record::Device(device) if device.status == Status::Disabled);
        ready(Ok(lock(&self.state).records.values().filter(disabled).count() as u64))
    }

    fn count(&self, kind: Kind) -> BoxFuture<'_, Result<u64, StoreError>> {
        ready(Ok(lock(&self.state).records.keys().filter(|key| key.kind() == kind).count() as u64))
    }

    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        ready(self.commit_now(change))
    }

    fn note(&self, records: Vec<(Key, Record)>) -> BoxFuture<'_, Result<(), StoreError>> {
        let mut state = lock(&self.state);
        for (key, record) in records {
            let version = state.records.get(&key).map_or(0, |found| found.version) + 1;
            state.records.insert(key, Versioned { version, record });
        }
        ready(Ok(()))
    }

    fn record(&self, decisions: Vec<Box<Decision>>) -> BoxFuture<'_, Result<(), StoreError>> {
        ready(lock(&self.state).record(decisions.into_iter().map(|decision| *decision), self.decisions_max))
    }

    fn decisions(
        &self,
        filter: DecisionFilter,
    ) -> BoxFuture<'_, Result<Vec<Numbered<Decision>>, StoreError>> {
        ready(Ok(self.decisions_now(&filter)))
    }

    fn watch(&self, watcher: Watcher) {
        lock(&self.watchers).push(watcher);
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
