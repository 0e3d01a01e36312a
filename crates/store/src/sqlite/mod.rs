//! The registry in one SQLite file.
//!
//! One thread writes. It takes all changes that wait into one transaction, each in a savepoint of its own, so that
//! one sync of the write-ahead log serves all of them and a stale one fails alone. Callers are answered, and watchers
//! told, after the commit. Reads go to a few connections of their own and see the last committed state.

mod audit;
mod belongings;
mod cache;
mod index_room;
mod ledger;
mod readers;
mod rows;
mod schema;
mod unreadable;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;

use hub::audit::Hash;
use hub::audit::evidence::{Block, Head, Inclusion, Kept};
use hub::audit::tree::Frontier;
use hub::belongings::Belongings;
use hub::decision::{Decision, DecisionFilter, Numbered};
use hub::identity::DeviceId;
use hub::ports::BoxFuture;
use hub::ports::audit::AuditLog;
use hub::ports::registry::{Change, Registry, StoreError, Versioned, Watcher};
use hub::record::{Key, Kind, Record};
use tokio::sync::{Semaphore, oneshot};

pub use audit::SqliteAudit;
use cache::Cache;
use readers::Readers;
pub(crate) use rows::device_of;
pub use schema::OpenError;
use unreadable::Unreadable;
pub use unreadable::UnreadableRecord;
use writer::{Job, Queued, Writer};

/// How the registry is set up.
#[derive(Debug, Clone)]
pub struct SqliteConfig {
    /// How many decisions that changed no record are kept at least; beyond that and
    /// [`STEP_RECORDS`](hub::audit::retention::STEP_RECORDS) more the oldest lose their bodies. Default 1,000,000.
    pub decisions_max: u64,
    /// How many reads run at once. Default 4.
    pub readers: usize,
    /// How many changes may wait; beyond that callers wait to be let in. Default 1,024.
    pub queue_max: usize,
    /// How large the file may grow; beyond that changes fail with [`StoreError::NoSpace`]. Default: no such bound.
    pub bytes_max: Option<u64>,
}

impl Default for SqliteConfig {
    fn default() -> Self {
        Self { decisions_max: 1_000_000, readers: 4, queue_max: 1024, bytes_max: None }
    }
}

/// The registry in one SQLite file.
pub struct SqliteRegistry {
    jobs: mpsc::Sender<Queued>,
    /// The places in front of the writer; closed when the registry is.
    places: Arc<Semaphore>,
    readers: Arc<Readers>,
    cache: Arc<Cache>,
    watchers: Watchers,
    edge: Edge,
    unreadable: Arc<Unreadable>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

type Watchers = Arc<Mutex<Vec<Watcher>>>;

/// The right edge of the audit log's tree, as it was committed last.
type Edge = Arc<Mutex<Frontier>>;

/// What the thread that writes shares with those who ask.
struct Shared {
    watchers: Watchers,
    edge: Edge,
    cache: Arc<Cache>,
}

impl SqliteRegistry {
    /// Opens the file, or makes it with mode 0600. After an unclean end its structure is checked first. Blocks.
    pub fn open(path: &Path, config: &SqliteConfig) -> Result<Self, OpenError> {
        let connection = schema::open_writer(path, config)?;
        let (jobs, waiting) = mpsc::channel();
        let watchers = writer::no_watchers();
        let (edge, cache) = (Edge::default(), Arc::new(Cache::default()));
        let shared = Shared { watchers: watchers.clone(), edge: edge.clone(), cache: cache.clone() };
        let writer = Writer::new(connection, waiting, shared, config.decisions_max)?;
        let thread = std::thread::Builder::new().name("registry".to_owned()).spawn(|| writer.run())?;
        let readers = Arc::new(Readers::new(path, config.readers));
        let places = Arc::new(Semaphore::new(config.queue_max.max(1)));
        let (unreadable, writer) = (Arc::default(), Mutex::new(Some(thread)));
        Ok(Self { jobs, places, readers, cache, watchers, edge, unreadable, writer })
    }

    /// Finishes what waits and closes the file. Blocks until that is done; later calls fail.
    pub fn close(&self) {
        self.places.close();
        // The thread is gone when it takes no message: nothing is left to close.
        let _ = self.jobs.send((Job::Close, None));
        self.readers.close();
        let thread = lock(&self.writer).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the registry's thread panicked");
        }
    }

    /// The records that were found to be unreadable; at most the first thousand.
    pub fn unreadable(&self) -> Vec<UnreadableRecord> {
        self.unreadable.all()
    }

    /// What the registry remembers of the files beside it; `None` before [`Self::remember`].
    pub fn belongings(&self) -> Result<Option<Belongings>, StoreError> {
        self.readers.read(belongings::read)
    }

    /// Remembers that, durably.
    pub async fn remember(&self, belongings: Belongings) -> Result<(), StoreError> {
        self.ask(|reply| Job::Remember(Box::new(belongings), reply)).await
    }

    /// Rows by their keys are read where the caller runs: from pages in memory one takes 2 to 3 µs, and handing it to another thread
    /// and back takes four times that.
    fn load_now(&self, keys: &[Key]) -> Result<Vec<Option<Versioned>>, StoreError> {
        self.cache.load(keys, |missing| {
            self.readers.read(|connection| rows::load_many(connection, &self.unreadable, missing))
        })
    }

    async fn ask<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job,
    ) -> Result<T, StoreError> {
        let closed = || StoreError::Failed("the registry is closed".to_owned());
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| closed())?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send((job(reply), Some(place))).map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

impl Drop for SqliteRegistry {
    fn drop(&mut self) {
        self.close();
    }
}

impl Registry for SqliteRegistry {
    fn load(&self, key: Key) -> BoxFuture<'_, Result<Option<Versioned>, StoreError>> {
        Box::pin(async move { Ok(self.load_now(&[key])?.pop().flatten()) })
    }

    fn load_many(&self, keys: Vec<Key>) -> BoxFuture<'_, Result<Vec<Option<Versioned>>, StoreError>> {
        Box::pin(async move { self.load_now(&keys) })
    }

    fn list(
        &self,
        kind: Kind,
        after: Option<Key>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        let unreadable = self.unreadable.clone();
        Box::pin(
            self.readers
                .run(move |connection| rows::list(connection, &unreadable, kind, after.as_ref(), limit)),
        )
    }

    fn list_of(
        &self,
        kind: Kind,
        device: DeviceId,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        let unreadable = self.unreadable.clone();
        Box::pin(self.readers.run(move |connection| rows::list_of(connection, &unreadable, kind, &device)))
    }

    fn children(
        &self,
        scope: String,
        after: Option<DeviceId>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Versioned)>, StoreError>> {
        let unreadable = self.unreadable.clone();
        Box::pin(
            self.readers.run(move |connection| {
                rows::children(connection, &unreadable, &scope, after.as_ref(), limit)
            }),
        )
    }

    fn count_disabled(&self) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.readers.run(rows::count_disabled))
    }

    fn count(&self, kind: Kind) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(self.readers.run(move |connection| rows::count(connection, kind)))
    }

    fn commit(&self, change: Change) -> BoxFuture<'_, Result<Vec<u64>, StoreError>> {
        Box::pin(self.ask(|reply| Job::Commit(Box::new(change), reply)))
    }

    fn note(&self, records: Vec<(Key, Record)>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(|reply| Job::Note(records, reply)))
    }

    fn record(&self, decisions: Vec<Box<Decision>>) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(|reply| Job::Record(decisions, reply)))
    }

    fn decisions(
        &self,
        filter: DecisionFilter,
    ) -> BoxFuture<'_, Result<Vec<Numbered<Decision>>, StoreError>> {
        Box::pin(self.readers.run(move |connection| rows::decisions(connection, &filter)))
    }

    fn watch(&self, watcher: Watcher) {
        lock(&self.watchers).push(watcher);
    }
}

impl AuditLog for SqliteRegistry {
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>> {
        let (size, root) = {
            let edge = lock(&self.edge);
            (edge.size(), edge.root())
        };
        Box::pin(
            self.readers.run(move |connection| Ok(Head { size, root, newest: audit::newest(connection)? })),
        )
    }

    fn blocks(&self, first: u64, count: usize) -> BoxFuture<'_, Result<Vec<Block>, StoreError>> {
        Box::pin(self.readers.run(move |connection| audit::blocks(connection, first, count)))
    }

    fn checkpoints(&self, above: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>> {
        Box::pin(self.readers.run(move |connection| audit::checkpoints(connection, above, limit)))
    }

    fn keep_checkpoint(&self, checkpoint: Kept) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.ask(|reply| Job::Keep(Box::new(checkpoint), reply)))
    }

    fn inclusion(&self, number: u64, size: u64) -> BoxFuture<'_, Result<Option<Inclusion>, StoreError>> {
        Box::pin(self.readers.run(move |connection| audit::inclusion(connection, number, size)))
    }

    fn consistency(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Option<Vec<Hash>>, StoreError>> {
        Box::pin(self.readers.run(move |connection| audit::consistency(connection, old, new)))
    }
}

/// Locks, whatever happened to the thread that held it last: nothing that is done under a lock here can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
