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

/// What others have to say to a connection.
#[derive(Default)]
pub(super) struct Signals {
    displaced: Mutex<Vec<(LinkId, String)>>,
    ended: Mutex<Vec<Ended>>,
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
    signals: Arc<Signals>,
}

impl Live {
    /// The handle of who was admitted with this grant. No other handle of the connection has this number.
    pub(super) fn new(grant: Grant, serial: u64, signals: Arc<Signals>) -> Self {
        Self { grant, serial, is_ended: AtomicBool::new(false), signals }
    }

    /// Its number.
    pub(super) fn serial(&self) -> u64 {
        self.serial
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

    // Links for what the hub has for a device are not served over AMQP yet: whoever comes by it does not ask for it.

    fn inbox_changed(&self) {}

    fn desired_changed(&self, _change: &Arc<DesiredChange>) {}

    fn takes_calls(&self) -> bool {
        false
    }

    fn call(&self, _call: Call) {}

    fn forget(&self, _id: CallId) {}
}
