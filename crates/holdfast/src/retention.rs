//! The deletion of old events, by a time that no clock can make jump (`hub/src/held_time.rs`).
//!
//! The time that is held is written down each minute, beside the journal: a hub that is restarted while its clock is
//! wrong still knows it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hub::held_time::{Ahead, HeldTime, Reading, Turn};
use hub::ports::event_log::EventLog as _;
use hub::telemetry::Millis;
use jiff::Timestamp;
use posture::facts::DiskFacts;
use rustix::time::{ClockId, clock_gettime};
use store::Journal;
use tokio::runtime::Handle;

use crate::belongings::Keeper;

/// How often old events are looked for.
const EVERY: Duration = Duration::from_secs(60);

/// The file within the data directory that remembers the time.
const FILE: &str = "held-time";

/// Deletes what is older than the retention.
pub(crate) struct Retention {
    journal: Arc<Journal>,
    keeper: Arc<Keeper>,
    file: PathBuf,
    time: Mutex<HeldTime>,
}

impl Retention {
    /// For a journal, with the time that was written down last or else that of the newest event.
    pub(crate) fn open(directory: &Path, journal: Arc<Journal>, keeper: Arc<Keeper>) -> Self {
        let file = directory.join(FILE);
        let written = std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        let newest = written.map(Timestamp::as_millisecond).or_else(|| newest_event(&journal));
        let now = read_clocks();
        let time = HeldTime::new(now, newest);
        if let Some(ahead) = time.ahead(now) {
            warn(ahead);
        }
        Self { journal, keeper, file, time: Mutex::new(time) }
    }

    /// Deletes now and then, as long as there is somebody who has this.
    pub(crate) fn keep(self: &Arc<Self>) {
        let retention = Arc::downgrade(self);
        tokio::spawn(async move {
            let mut every = tokio::time::interval(EVERY);
            loop {
                every.tick().await;
                let Some(retention) = retention.upgrade() else { return };
                retention.prune_aside().await;
            }
        });
    }

    /// What is doubted of the time of day now.
    pub(crate) fn ahead(&self) -> Option<Ahead> {
        let now = self.look();
        self.time().ahead(now)
    }

    /// The room on the disk of the event log.
    pub(crate) fn disk(&self) -> Option<DiskFacts> {
        let (space, reserve) = self.journal.space().ok().flatten()?;
        Some(DiskFacts { free: space.free, reserve })
    }

    /// Believes the time of day, because an operator says so, and deletes by it.
    pub(crate) async fn trust_clock(self: &Arc<Self>) {
        self.time().trust(read_clocks());
        tracing::info!("the time of day is trusted: old events are deleted by it");
        self.prune_aside().await;
    }

    async fn prune_aside(self: &Arc<Self>) {
        let (retention, runtime) = (self.clone(), Handle::current());
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || retention.prune(&runtime)).await {
            tracing::error!(%error, "old events could not be removed");
        }
        self.remember_reach(None).await;
    }

    fn prune(&self, runtime: &Handle) -> io::Result<()> {
        self.look();
        let until = self.time().millis();
        self.remember(until);
        let tell = |firsts: &[u64]| runtime.block_on(self.remember_reach(Some(firsts)));
        self.journal.prune_telling(until, tell).map(drop)
    }

    /// A full disk is no reason not to delete: it is remembered again behind that.
    async fn remember_reach(&self, firsts: Option<&[u64]>) {
        if let Err(error) = self.keeper.remember(firsts).await {
            tracing::error!(%error, "how far the journal reaches could not be written down");
        }
    }

    /// Takes in what the clocks say, and tells the operator once when that changes what is believed.
    fn look(&self) -> Reading {
        let now = read_clocks();
        let (turn, ahead) = {
            let mut time = self.time();
            (time.look(now), time.ahead(now))
        };
        match (turn, ahead) {
            (Turn::Doubted, Some(ahead)) => warn(ahead),
            (Turn::Believed, _) => {
                tracing::info!("the time of day is believed again: old events are deleted by it")
            }
            (Turn::Doubted | Turn::Same, _) => {}
        }
        now
    }

    /// Not synced: one that a loss of power takes back is an earlier time, by which less is deleted.
    fn remember(&self, millis: Millis) {
        let text = Timestamp::from_millisecond(millis).unwrap_or(Timestamp::MAX).to_string();
        let part = self.file.with_extension("part");
        let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, &self.file));
        if let Err(error) = written {
            tracing::debug!(%error, "the time could not be written down");
        }
    }

    fn time(&self) -> MutexGuard<'_, HeldTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest_event(journal: &Journal) -> Option<Millis> {
    let bounds = (0..journal.partition_count()).filter_map(|partition| journal.bounds(partition));
    bounds.filter(|bounds| bounds.last_offset.is_some()).map(|bounds| bounds.last_enqueued).max()
}

fn warn(ahead: Ahead) {
    tracing::warn!(
        held = %ahead.held,
        ahead_seconds = ahead.ahead.as_secs(),
        "the time of day jumped ahead: no event is deleted by it until it was steady for an hour, or until \
         `holdfast trust-clock`"
    );
}

/// The time of day, and how long the machine runs, its sleep included.
fn read_clocks() -> Reading {
    let ran = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(ran.tv_sec).unwrap_or_default();
    let nanos = u32::try_from(ran.tv_nsec).unwrap_or_default();
    Reading { wall: Timestamp::now().as_millisecond(), count: Duration::new(seconds, nanos) }
}
