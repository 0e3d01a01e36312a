//! The hub's handle on a live connection.

use std::sync::OnceLock;
use std::task::Context;

use futures_util::task::AtomicWaker;
use hub::authenticate::Grant;
use hub::ports::bus::{Ending, Holder};

/// A connection that holds its identity.
pub(super) struct Live {
    grant: Grant,
    ending: OnceLock<Ending>,
    waker: AtomicWaker,
}

impl Live {
    /// The handle of a connection that was admitted with this grant.
    pub(super) fn new(grant: Grant) -> Self {
        Self { grant, ending: OnceLock::new(), waker: AtomicWaker::new() }
    }

    /// Why the hub ends it, if it does; else the task is woken when it will.
    pub(super) fn poll_ending(&self, cx: &Context<'_>) -> Option<Ending> {
        self.waker.register(cx.waker());
        self.ending.get().copied()
    }
}

impl Holder for Live {
    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn end(&self, ending: Ending) {
        // The first reason stands.
        let _ = self.ending.set(ending);
        self.waker.wake();
    }
}
