//! File descriptors: connections take them, and the store must never be without one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::unadmitted::Unadmitted;
use hub::limits::DESCRIPTORS_KEPT as KEPT;

/// The most connections, where descriptors are not limited.
const CONNECTIONS_MAX: u64 = 1 << 20;
/// How often the log says that there is none left.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// The descriptors that connections may take.
#[derive(Clone)]
pub(crate) struct Descriptors {
    free: Arc<Semaphore>,
    said: Arc<Mutex<Option<Instant>>>,
}

impl Descriptors {
    /// Those of this process, but for a quarter or [`KEPT`], whichever is less.
    pub(crate) fn of_process() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        Self::new(limit.unwrap_or(CONNECTIONS_MAX))
    }

    fn new(limit: u64) -> Self {
        let connections = (limit - KEPT.min(limit / 4)).min(CONNECTIONS_MAX);
        let free = Semaphore::new(usize::try_from(connections).unwrap_or(usize::MAX >> 4));
        Self { free: Arc::new(free), said: Arc::default() }
    }

    /// Waits until there is one for one more connection. Where there is none, the oldest connection that is not admitted gives its
    /// own; where all are admitted, one has to end.
    pub(crate) async fn take(&self, unadmitted: &Unadmitted) -> Option<OwnedSemaphorePermit> {
        if let Ok(descriptor) = self.free.clone().try_acquire_owned() {
            return Some(descriptor);
        }
        self.say(unadmitted.close_oldest());
        // The semaphore is never closed, so that this is never `None`.
        self.free.clone().acquire_owned().await.ok()
    }

    fn say(&self, closed: bool) {
        let now = Instant::now();
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| now.duration_since(said) < SAID_EVERY) {
            return;
        }
        *said = Some(now);
        let what = match closed {
            true => "the oldest that is not admitted is closed for each new one",
            false => "no more are accepted until one ends",
        };
        tracing::warn!("connections have taken all file descriptors that the store leaves them: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_keeps_its_share() {
        for (limit, connections) in [(1_024, 768), (400, 300), (65_536, 65_280), (u64::MAX, 1 << 20)] {
            assert_eq!(Descriptors::new(limit).free.available_permits(), connections, "{limit}");
        }
    }
}
