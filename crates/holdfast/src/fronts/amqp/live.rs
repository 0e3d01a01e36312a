//! The hub's handle on a device or module that is connected by AMQP, perhaps as one of many on the connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::task::AtomicWaker;
use hub::authenticate::Grant;
use hub::identity::Identity;
use hub::method::{Call, CallId};
use hub::ports::bus::{Ending, Holder};
use hub::twin::DesiredChange;
use wire::amqp::connection::LinkId;

use crate::fronts::mailbox::{Mailbox, Wanted};

/// What others have to say to a connection.
#[derive(Default)]
pub(super) struct Signals {
    displaced: Mutex<Vec<(LinkId, String)>>,
    ended: Mutex<Vec<Ended>>,
    /// Whose mailbox has something since it was looked at.
    mail: Mutex<Vec<Identity>>,
    pub(super) waker: AtomicWaker,
}

/// A device or module whose connection the hub ends.
pub(super) struct Ended {
    pub(super) identity: Identity,
    /// That of the handle: one that was replaced since says nothing.
    pub(super) serial: u64,
    pub(super) ending: Ending,
}

impl Signals {
    /// A reader lost its place.
    pub(super) fn displace(&self, link: LinkId, text: String) {
        self.displaced.lock().unwrap_or_else(PoisonError::into_inner).push((link, text));
        self.waker.wake();
    }

    /// The readers that lost their places since the last call.
    pub(super) fn take_displaced(&self) -> Vec<(LinkId, String)> {
        std::mem::take(&mut *self.displaced.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whom the hub ended since the last call.
    pub(super) fn take_ended(&self) -> Vec<Ended> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whose mailboxes have something since the last call.
    pub(super) fn take_mail(&self) -> Vec<Identity> {
        std::mem::take(&mut *self.mail.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the hub ended somebody since.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A device or module with a credential on a connection; it holds its identity while it has a link.
pub(super) struct Live {
    grant: Grant,
    serial: u64,
    is_ended: AtomicBool,
    mailbox: Arc<Mailbox>,
    signals: Arc<Signals>,
}

impl Live {
    /// The handle of who was admitted with this grant. No other handle of the connection has this number; the one that it
    /// takes the place of had the same mailbox.
    pub(super) fn new(grant: Grant, serial: u64, mailbox: Arc<Mailbox>, signals: Arc<Signals>) -> Self {
        Self { grant, serial, is_ended: AtomicBool::new(false), mailbox, signals }
    }

    /// Its number.
    pub(super) fn serial(&self) -> u64 {
        self.serial
    }

    /// What waits for it.
    pub(super) fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    fn has_mail(&self) {
        self.signals.mail.lock().unwrap_or_else(PoisonError::into_inner).push(self.grant.identity().clone());
        self.signals.waker.wake();
    }
}

impl Holder for Live {
    fn grant(&self) -> &Grant {
        &self.grant
    }

    fn end(&self, ending: Ending) {
        // The first reason stands.
        if self.is_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let ended = Ended { identity: self.grant.identity().clone(), serial: self.serial, ending };
        self.signals.ended.lock().unwrap_or_else(PoisonError::into_inner).push(ended);
        self.signals.waker.wake();
    }

    fn inbox_changed(&self) {
        if self.mailbox.inbox_changed() {
            self.has_mail();
        }
    }

    fn desired_changed(&self, change: &Arc<DesiredChange>) {
        match self.mailbox.put_change(change) {
            Ok(true) => self.has_mail(),
            Ok(false) => {}
            // A device that missed one would be wrong for ever; one that comes back reads its twin.
            Err(_) => self.end(Ending::NotReading),
        }
    }

    fn takes_calls(&self) -> bool {
        self.mailbox.wants(Wanted::Calls) && !self.is_ended.load(Ordering::Relaxed)
    }

    fn call(&self, call: Call) {
        if self.mailbox.put_call(call) {
            self.has_mail();
        }
    }

    fn forget(&self, id: CallId) {
        self.mailbox.forget(id);
    }
}
