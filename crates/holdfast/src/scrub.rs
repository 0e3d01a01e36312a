//! Reads all that rests now and then, so that damage is found before somebody asks for what it took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hub::hub::Hub;
use hub::record::Kind;
use store::{Journal, SqliteRegistry};

/// How long after the start, and after a reading, the next one begins.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
const FIRST_AFTER: Duration = Duration::from_secs(10 * 60);
/// No more is read in a second, so that nobody who sends or reads notices.
const BYTES_PER_SECOND: u64 = 8 * 1024 * 1024;
/// Records that are read at once, and the rest after them.
const PAGE: usize = 256;
const PAGE_REST: Duration = Duration::from_millis(50);

/// Finds damage in what rests.
pub(crate) struct Scrub {
    hub: Arc<Hub>,
    journal: Arc<Journal>,
    registry: Arc<SqliteRegistry>,
    runs: AtomicBool,
}

/// What is damaged, as far as it is known: lines for people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Damaged {
    /// In the journal.
    pub(crate) journal: Vec<String>,
    /// In the registry.
    pub(crate) registry: Vec<String>,
}

impl Damaged {
    /// All of it.
    pub(crate) fn all(&self) -> Vec<String> {
        self.journal.iter().chain(&self.registry).cloned().collect()
    }
}

impl Scrub {
    /// For the stores of a hub.
    pub(crate) fn new(hub: Arc<Hub>, journal: Arc<Journal>, registry: Arc<SqliteRegistry>) -> Self {
        Self { hub, journal, registry, runs: AtomicBool::new(false) }
    }

    /// Reads again and again, as long as there is somebody who has this.
    pub(crate) fn keep(self: &Arc<Self>) {
        let scrub = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(FIRST_AFTER).await;
            loop {
                let Some(scrub) = scrub.upgrade() else { return };
                scrub.read(true).await;
                drop(scrub);
                tokio::time::sleep(EVERY).await;
            }
        });
    }

    /// Reads everything, slowly or at once; a reading that is under way is not joined by another.
    pub(crate) async fn read(&self, slowly: bool) {
        if self.runs.swap(true, Ordering::AcqRel) {
            return;
        }
        self.read_journal(slowly).await;
        if let Err(error) = self.read_registry(slowly).await {
            tracing::error!(%error, "the registry could not be read through");
        }
        self.runs.store(false, Ordering::Release);
        let damaged = self.damaged();
        tracing::info!(
            journal = damaged.journal.len(),
            registry = damaged.registry.len(),
            "all that rests was read; this much is damaged"
        );
    }

    /// What is damaged, as far as it was come upon.
    pub(crate) fn damaged(&self) -> Damaged {
        Damaged {
            journal: self.journal.damages().iter().map(ToString::to_string).collect(),
            registry: self.registry.unreadable().iter().map(ToString::to_string).collect(),
        }
    }

    async fn read_journal(&self, slowly: bool) {
        let mut after = None;
        loop {
            let journal = self.journal.clone();
            match tokio::task::spawn_blocking(move || journal.scrub(after)).await {
                Ok(Ok(Some((number, bytes)))) => {
                    after = Some(number);
                    if slowly {
                        tokio::time::sleep(Duration::from_millis(bytes * 1_000 / BYTES_PER_SECOND)).await;
                    }
                }
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the journal could not be read through");
                    return;
                }
            }
        }
    }

    async fn read_registry(&self, slowly: bool) -> Result<(), hub::ports::registry::StoreError> {
        for kind in Kind::ALL {
            let mut after = None;
            loop {
                let page = self.hub.registry.list(kind, after.take(), PAGE).await?;
                if page.len() < PAGE {
                    break;
                }
                after = page.last().map(|(key, _)| key.clone());
                if slowly {
                    tokio::time::sleep(PAGE_REST).await;
                }
            }
        }
        Ok(())
    }
}
