//! Stopping: one signal that everybody watches, and a count of those who are not done yet.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Tells everybody that the hub stops, and waits for them.
#[derive(Clone)]
pub(crate) struct Drain {
    begun: Arc<watch::Sender<bool>>,
    guards: Arc<watch::Sender<()>>,
}

/// Held by who is not done yet.
pub(crate) struct Guard(#[expect(dead_code, reason = "what counts is that it lives")] watch::Receiver<()>);

impl Drain {
    /// A drain that has not begun.
    pub(crate) fn new() -> Self {
        Self { begun: Arc::new(watch::Sender::new(false)), guards: Arc::new(watch::Sender::new(())) }
    }

    /// Begins it.
    pub(crate) fn begin(&self) {
        self.begun.send_replace(true);
    }

    /// Returns once it has begun.
    pub(crate) async fn begun(&self) {
        // The sender lives as long as `self`, so that waiting cannot fail.
        let _ = self.begun.subscribe().wait_for(|begun| *begun).await;
    }

    /// Keeps the hub from stopping while it lives, up to the deadline of [`Drain::finish`].
    pub(crate) fn guard(&self) -> Guard {
        Guard(self.guards.subscribe())
    }

    /// Waits until all guards are gone; says whether they went in time.
    pub(crate) async fn finish(&self, deadline: Duration) -> bool {
        tokio::time::timeout(deadline, self.guards.closed()).await.is_ok()
    }
}
