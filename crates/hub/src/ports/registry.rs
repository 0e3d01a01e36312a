//! The port that keeps the hub's records, each with a version, and the record of every decision.

use std::sync::Arc;

use super::BoxFuture;
use super::audit::AuditLog;
use crate::decision::{Decision, DecisionFilter, Numbered};
use crate::identity::DeviceId;
use crate::record::{Key, Kind, Record};
use crate::telemetry::Message;
use crate::twin::DesiredChange;

/// Versioned records, and the audit record that commits with each change of them.
pub trait Registry: AuditLog {
    /// Loads one record, or `None` when there is none.
    fn load(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>>;

    /// Loads records in the order of the keys and in one round trip: what a decision or an answer needs. Each is as it was
    /// committed last; two that change together may be one from before and one from after.
    fn load_many(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Versioned>>, StoreError>>;

    /// Lists the records of one kind in the order of their keys, after `after`, at most `limit`.
    fn list(
        &self,
        kind: Kind,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>>;

    /// All records of one kind that belong to a device, in the order of their keys: its modules, its sessions.
    fn list_of(
        &self,
        kind: Kind,
        device: DeviceId,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>>;

    /// The devices whose parent has this scope, in the order of their ids, after `after`, at most `limit`.
    fn children(
        &self,
        scope: String,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>>;

    /// How many devices are disabled.
    fn count_disabled(&self) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// How many records of a kind there are.
    fn count(&self, kind: Kind) -> BoxFuture<'_, Result<u64, StoreError>>;

    /// Applies all writes together with the decision that explains them, durably, or none of it:
    /// [`StoreError::Stale`] when any replaced version is gone. Returns the versions after the writes, in order
    /// (0 for a removed record).
    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Vec<u64>, StoreError>>;

    /// Notes records that no decision depends on and nobody waits to hear of, such as when an identity was used last:
    /// durably, all or none, the later one wins. No version has to be named, and no watcher is told.
    fn note(&self, records: Vec<(Key, Record)>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Appends decisions that change no record, durably and in order. Beyond the number that the adapter was set up to keep
    /// the bodies of the oldest are dropped ([`crate::audit::retention`]).
    fn record(&self, decisions: Vec<Box<Decision>>) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The decisions that a filter names, newest first.
    fn decisions(&self, filter: DecisionFilter)
    -> BoxFuture<'_, Result<Vec<Numbered<Decision>>, StoreError>>;

    /// Asks to be told of every committed change, from now on, on whichever node it was made, in the order of the commits.
    /// The watcher is called on the adapter's own thread after the commit and must return at once.
    fn watch(&self, watcher: Watcher);
}

/// Is told of a committed change.
pub type Watcher = Arc<dyn Fn(Committed<'_>) + Send + Sync>;

/// What watchers are told of a committed change.
#[derive(Debug, Clone, Copy)]
pub struct Committed<'a> {
    /// The keys that were written.
    pub keys: &'a [Key],
    /// What it announced.
    pub announces: Option<&'a Arc<DesiredChange>>,
    /// What goes into the stream of events.
    pub events: &'a [Message],
}

/// A record with the version that a write must name to replace it.
#[derive(Debug, Clone, PartialEq)]
pub struct Versioned {
    /// Rises with every write of this key; 1 after the first one.
    pub version: u64,
    /// The record.
    pub record: Record,
}

/// A set of writes that become true together.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// The writes, each key at most once.
    pub writes: Vec<Write>,
    /// Who did it and what it was; commits with the writes.
    pub decision: Option<Decision>,
    /// What a live connection is to be told of it.
    pub announces: Option<Arc<DesiredChange>>,
    /// What the stream of events is to be told of it.
    pub events: Vec<Message>,
}

/// One write of a [`Change`].
#[derive(Debug, Clone)]
pub struct Write {
    /// What is written.
    pub key: Key,
    /// The version that this write replaces; `None` when there must be no such record yet.
    pub replaces: Option<u64>,
    /// The new record; `None` removes it.
    pub record: Option<Record>,
}

/// Why the registry did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A record was changed since it was loaded: decide again on fresh values.
    #[error("the record {0:?} was changed in the meantime")]
    Stale(Key),
    /// No space is left; nothing of the change was kept.
    #[error("no space is left for the registry")]
    NoSpace,
    /// The database failed; nothing of the change was kept.
    #[error("the registry failed: {0}")]
    Failed(String),
}
