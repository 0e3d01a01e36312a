//! The hub's handle on a live connection.

use std::sync::{Arc, OnceLock};
use std::task::Context;

use futures_util::task::AtomicWaker;
use hub::authenticate::Grant;
use hub::method::{Call, CallId};
use hub::ports::bus::{Ending, Holder};
use hub::twin::DesiredChange;

use crate::fronts::mailbox::{Mailbox, Wanted};

/// A connection that holds its identity.
pub(super) struct Live {
    grant: Grant,
    /// The handle that the connection began with, where this one took its place with a renewed grant. It has what the
    /// connection is reached by.
    first: Option<Arc<Live>>,
    ending: OnceLock<Ending>,
    waker: AtomicWaker,
    mailbox: Mailbox,
}

impl Live {
    /// The handle of a connection that was admitted with this grant.
    pub(super) fn new(grant: Grant) -> Self {
        let (ending, waker, mailbox) = (OnceLock::new(), AtomicWaker::new(), Mailbox::default());
        Self { grant, first: None, ending, waker, mailbox }
    }

    /// The handle of the same connection with a renewed grant.
    pub(super) fn renewed(before: Arc<Self>, grant: Grant) -> Self {
        let first = before.first.clone().unwrap_or(before);
        Self { first: Some(first), ..Self::new(grant) }
    }

    /// What waits for the client.
    pub(super) fn mailbox(&self) -> &Mailbox {
        &self.first().mailbox
    }

    fn first(&self) -> &Self {
        self.first.as_deref().unwrap_or(self)
    }

    /// Why the hub ends it, if it does; else the task is woken when it will, and when there is something to send.
    pub(super) fn poll_ending(&self, cx: &Context<'_>) -> Option<Ending> {
        let first = self.first();
        first.waker.register(cx.waker());
        first.ending.get().copied()
    }
}

impl Holder for Live {
    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn end(&self, ending: Ending) {
        // The first reason stands.
        let _ = self.first().ending.set(ending);
        self.first().waker.wake();
    }

    fn desired_changed(&self, change: &Arc<DesiredChange>) {
        match self.mailbox().put_change(change) {
            Ok(true) => self.first().waker.wake(),
            Ok(false) => {}
            // A device that missed one would be wrong for ever; one that comes back reads its twin.
            Err(_) => self.end(Ending::NotReading),
        }
    }

    fn inbox_changed(&self) {
        if self.mailbox().inbox_changed() {
            self.first().waker.wake();
        }
    }

    fn takes_calls(&self) -> bool {
        self.mailbox().wants(Wanted::Calls) && self.first().ending.get().is_none()
    }

    fn call(&self, call: Call) {
        if self.mailbox().put_call(call) {
            self.first().waker.wake();
        }
    }

    fn forget(&self, id: CallId) {
        self.mailbox().forget(id);
    }
}
