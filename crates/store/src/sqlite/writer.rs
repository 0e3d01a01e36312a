//! The one thread that writes: it takes all that waits into one transaction and answers after its commit.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use hub::audit::evidence::Kept;
use hub::belongings::Belongings;
use hub::decision::Decision;
use hub::ports::registry::{Change, Committed, StoreError, Watcher};
use hub::record::{Key, Record};
use hub::telemetry::Message;
use hub::twin::DesiredChange;
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::belongings;
use super::cache::Cache;
use super::ledger::{self, Ledger};
use super::{Shared, Watchers, rows};

/// What the thread is asked to do. An answer that nobody waits for any longer is dropped.
pub(super) enum Job {
    Commit(Box<Change>, oneshot::Sender<Result<Vec<u64>, StoreError>>),
    Note(Vec<(Key, Record)>, oneshot::Sender<Result<(), StoreError>>),
    #[expect(clippy::vec_box, reason = "they are large, and are handed on without being moved")]
    Record(Vec<Box<Decision>>, oneshot::Sender<Result<(), StoreError>>),
    Keep(Box<Kept>, oneshot::Sender<Result<(), StoreError>>),
    Remember(Box<Belongings>, oneshot::Sender<Result<(), StoreError>>),
    /// Nothing comes after this.
    Close,
}

/// A job and its place in the queue, which is free again when the job is done.
pub(super) type Queued = (Job, Option<OwnedSemaphorePermit>);

/// How many jobs share a transaction at most.
const JOBS_MAX: usize = 1024;

pub(super) struct Writer {
    connection: Connection,
    jobs: mpsc::Receiver<Queued>,
    shared: Shared,
    ledger: Ledger,
    decisions_max: u64,
}

/// What a job came to, to be told after the commit.
enum Outcome {
    Committed(Told, Result<Vec<u64>, StoreError>, oneshot::Sender<Result<Vec<u64>, StoreError>>),
    Noted(Vec<Key>, Result<(), StoreError>, oneshot::Sender<Result<(), StoreError>>),
    Recorded(Result<(), StoreError>, oneshot::Sender<Result<(), StoreError>>),
}

/// What is told of a change when it is committed.
struct Told {
    /// The keys of its writes, for watchers, and the records behind them, for the cache.
    keys: Vec<Key>,
    records: Vec<Option<Record>>,
    announces: Option<Arc<DesiredChange>>,
    events: Vec<Message>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        jobs: mpsc::Receiver<Queued>,
        shared: Shared,
        decisions_max: u64,
    ) -> Result<Self, StoreError> {
        let ledger = Ledger::open(&connection)?;
        ledger.frontier.clone_into(&mut super::lock(&shared.edge));
        Ok(Self { connection, jobs, shared, ledger, decisions_max })
    }

    /// Works until it is told to close, or every sender of jobs is gone.
    pub(super) fn run(mut self) {
        let mut group = Vec::with_capacity(JOBS_MAX);
        let mut places = Vec::with_capacity(JOBS_MAX);
        let mut open = true;
        while open && let Ok(first) = self.jobs.recv() {
            for (job, place) in std::iter::once(first).chain(self.jobs.try_iter()).take(JOBS_MAX) {
                if matches!(job, Job::Close) {
                    open = false;
                    break;
                }
                group.push(job);
                places.extend(place);
            }
            self.commit_group(&mut group);
            places.clear();
        }
        self.fold();
    }

    /// Writes all of the write-ahead log into the file, so that a copy of the file alone has everything. SQLite does so by
    /// itself only when no other connection is open.
    fn fold(&self) {
        let folded = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        match folded {
            Ok(0) => {}
            Ok(_) => tracing::warn!("the registry is still read: a part of it stays in its write-ahead log"),
            Err(error) => {
                tracing::error!(%error, "the write-ahead log of the registry could not be written back")
            }
        }
    }

    fn commit_group(&mut self, group: &mut Vec<Job>) {
        if group.is_empty() {
            return;
        }
        let mut outcomes = Vec::with_capacity(group.len());
        match self.try_group(group.drain(..), &mut outcomes) {
            Ok(ledger) => {
                ledger.frontier.clone_into(&mut super::lock(&self.shared.edge));
                self.ledger = ledger;
                outcomes.iter_mut().for_each(|outcome| outcome.keep(&self.shared.cache));
                outcomes.into_iter().for_each(|outcome| outcome.tell(&self.shared.watchers));
            }
            Err(error) => {
                if !self.connection.is_autocommit()
                    && let Err(error) = self.connection.execute_batch("ROLLBACK")
                {
                    tracing::error!(%error, "a failed transaction of the registry could not be rolled back");
                }
                tracing::error!(%error, "a transaction of the registry failed; nothing of it was kept");
                outcomes.into_iter().for_each(|outcome| outcome.fail(&error));
            }
        }
    }

    /// Runs all jobs in one transaction. `outcomes` has one entry for each, whatever happens.
    fn try_group(
        &self,
        jobs: impl Iterator<Item = Job>,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<Ledger, StoreError> {
        let mut broken = self.execute("BEGIN IMMEDIATE").err();
        let mut ledger = self.ledger.clone();
        for job in jobs {
            let result = match &broken {
                Some(error) => Err(error.clone()),
                None => self.attempt(&job, &mut ledger),
            };
            // A stale change is its caller's affair; anything else spoils the whole transaction.
            if let Err(error) = &result
                && !matches!(error, StoreError::Stale(_))
            {
                broken.get_or_insert_with(|| error.clone());
            }
            match job {
                Job::Commit(change, reply) => {
                    let (keys, records) =
                        change.writes.into_iter().map(|write| (write.key, write.record)).unzip();
                    let told = Told { keys, records, announces: change.announces, events: change.events };
                    outcomes.push(Outcome::Committed(told, result, reply));
                }
                Job::Note(records, reply) => {
                    let keys = records.into_iter().map(|(key, _)| key).collect();
                    outcomes.push(Outcome::Noted(keys, result.map(drop), reply));
                }
                Job::Record(_, reply) | Job::Keep(_, reply) | Job::Remember(_, reply) => {
                    outcomes.push(Outcome::Recorded(result.map(drop), reply));
                }
                Job::Close => {}
            }
        }
        if let Some(error) = broken {
            return Err(error);
        }
        if ledger.frontier.size() > self.ledger.frontier.size() {
            ledger.retain(&self.connection, self.decisions_max)?;
            ledger.keep_edge(&self.connection)?;
        }
        self.execute("COMMIT")?;
        Ok(ledger)
    }

    /// Does one job, whole or not at all.
    fn attempt(&self, job: &Job, ledger: &mut Ledger) -> Result<Vec<u64>, StoreError> {
        let connection = &self.connection;
        let done = match job {
            Job::Commit(change, _) => return self.change(change, ledger),
            Job::Note(records, _) => rows::note(connection, records),
            Job::Record(decisions, _) => ledger.append(connection, decisions.iter().map(Box::as_ref)),
            Job::Keep(kept, _) => ledger::keep_checkpoint(connection, kept),
            Job::Remember(remembered, _) => belongings::write(connection, remembered),
            Job::Close => Ok(()),
        };
        done.map(|()| Vec::new())
    }

    /// Makes a change. It alone needs a savepoint, for it alone may be stale while the transaction goes on; SQLite copies
    /// every page that is written within one.
    fn change(&self, change: &Change, ledger: &mut Ledger) -> Result<Vec<u64>, StoreError> {
        self.execute("SAVEPOINT job")?;
        // A stale change writes no decision, so that the ledger needs no savepoint.
        let result = rows::apply(&self.connection, ledger, change);
        match &result {
            Ok(_) => self.execute("RELEASE job")?,
            Err(StoreError::Stale(_)) => {
                self.execute("ROLLBACK TO job")?;
                self.execute("RELEASE job")?;
            }
            // The transaction as a whole is rolled back.
            Err(_) => {}
        }
        result
    }

    /// Executes one statement, which is parsed once.
    fn execute(&self, sql: &str) -> Result<(), StoreError> {
        let executed = self.connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        executed.map(drop).map_err(rows::store_error)
    }
}

impl Outcome {
    /// Hands what was written to the cache.
    fn keep(&mut self, cache: &Cache) {
        match self {
            Self::Committed(told, Ok(versions), _) => {
                let written = told.keys.iter().zip(take(&mut told.records)).zip(versions);
                written.for_each(|((key, record), version)| cache.committed(key, *version, record));
            }
            // Which version a note got is not known here.
            Self::Noted(keys, Ok(()), _) => keys.iter().for_each(|key| cache.forget(key)),
            Self::Committed(_, Err(_), _) | Self::Noted(_, Err(_), _) | Self::Recorded(..) => {}
        }
    }

    fn tell(self, watchers: &Watchers) {
        match self {
            Self::Committed(told, result, reply) => {
                if result.is_ok() && !told.keys.is_empty() {
                    tell_watchers(watchers, &told);
                }
                let _ = reply.send(result);
            }
            Self::Noted(_, result, reply) | Self::Recorded(result, reply) => {
                let _ = reply.send(result);
            }
        }
    }

    fn fail(self, error: &StoreError) {
        match self {
            Self::Committed(_, Err(stale @ StoreError::Stale(_)), reply) => {
                let _ = reply.send(Err(stale));
            }
            Self::Committed(_, _, reply) => {
                let _ = reply.send(Err(error.clone()));
            }
            Self::Noted(_, _, reply) | Self::Recorded(_, reply) => {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

fn tell_watchers(watchers: &Watchers, told: &Told) {
    let committed = Committed { keys: &told.keys, announces: told.announces.as_ref(), events: &told.events };
    let watchers: Vec<Watcher> = super::lock(watchers).clone();
    for watcher in watchers {
        // A watcher that panics must not take the registry with it.
        if catch_unwind(AssertUnwindSafe(|| watcher(committed))).is_err() {
            tracing::error!("a watcher of the registry panicked");
        }
    }
}

/// The watchers, shared with the registry.
pub(super) fn no_watchers() -> Watchers {
    Arc::default()
}
