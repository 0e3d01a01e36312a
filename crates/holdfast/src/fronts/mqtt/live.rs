//! The hub's handle on a live connection.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use hub::authenticate::Grant;
use hub::method::{AnswerTo, Call, CallId, MethodAnswer, MethodError};
use hub::ports::bus::{Ending, Holder};
use hub::twin::DesiredChange;

/// Changes of desired properties that may wait for a client to read, and their bytes. Calls of methods are bounded where
/// they begin.
const CHANGES_MAX: usize = 64;
const CHANGES_BYTES_MAX: usize = 256 * 1024;

/// A connection that holds its identity.
pub(super) struct Live {
    grant: Grant,
    ending: OnceLock<Ending>,
    waker: AtomicWaker,
    /// [`CALLS`], [`DESIRED`] and [`MAIL`], which are looked at with every packet.
    flags: AtomicU8,
    /// There is none while there is nothing in it: most connections are idle.
    mail: Mutex<Option<Box<Mail>>>,
}

/// The client subscribed to calls of methods.
const CALLS: u8 = 1;
/// The client subscribed to changes of its desired properties.
const DESIRED: u8 = 2;
/// Something waits to be sent.
const MAIL: u8 = 4;

/// What the hub sends of its own accord.
pub(super) enum Outgoing {
    /// A change of the desired properties.
    Desired(Arc<DesiredChange>),
    /// A call of a method.
    Call {
        /// Its id.
        id: CallId,
        /// The method.
        name: String,
        /// JSON.
        payload: Bytes,
    },
}

#[derive(Default)]
struct Mail {
    waiting: VecDeque<Outgoing>,
    /// Changes among what waits, and their bytes.
    changes: usize,
    change_bytes: usize,
    /// Calls that are not answered yet, sent or not.
    calls: Vec<(CallId, AnswerTo)>,
}

impl Live {
    /// The handle of a connection that was admitted with this grant.
    pub(super) fn new(grant: Grant) -> Self {
        Self {
            grant,
            ending: OnceLock::new(),
            waker: AtomicWaker::new(),
            flags: AtomicU8::new(0),
            mail: Mutex::new(None),
        }
    }

    /// Why the hub ends it, if it does; else the task is woken when it will, and when there is something to send.
    pub(super) fn poll_ending(&self, cx: &Context<'_>) -> Option<Ending> {
        self.waker.register(cx.waker());
        self.ending.get().copied()
    }

    /// Says what the client subscribed to.
    pub(super) fn subscribed(&self, calls: bool, desired: bool) {
        let set = |flag: u8, on: bool| match on {
            true => self.flags.fetch_or(flag, Ordering::SeqCst),
            false => self.flags.fetch_and(!flag, Ordering::SeqCst),
        };
        set(CALLS, calls);
        set(DESIRED, desired);
    }

    /// Whether something waits to be sent.
    pub(super) fn has_outgoing(&self) -> bool {
        self.has(MAIL)
    }

    /// What is to be sent next.
    pub(super) fn next_outgoing(&self) -> Option<Outgoing> {
        let mut mail = self.mail();
        let next = mail.as_mut().and_then(|mail| mail.waiting.pop_front());
        if let (Some(mail), Some(Outgoing::Desired(change))) = (mail.as_mut(), &next) {
            mail.changes -= 1;
            mail.change_bytes -= change.body.len();
        }
        self.tidy(&mut mail);
        next
    }

    /// Hands an answer to who waits for it. One that nobody waits for any longer is passed over.
    pub(super) fn answer(&self, id: &str, answer: impl FnOnce() -> Result<MethodAnswer, MethodError>) {
        let found = {
            let mut mail = self.mail();
            let found = mail.as_mut().and_then(|mail| {
                let at = mail.calls.iter().position(|(call, _)| call.to_string() == id)?;
                Some(mail.calls.swap_remove(at).1)
            });
            self.tidy(&mut mail);
            found
        };
        if let Some(answer_to) = found {
            answer_to(answer());
        }
    }

    /// Drops what waits, and with it the ways back of calls, whose callers learn by it that the connection ended.
    pub(super) fn close(&self) {
        let dropped = {
            self.flags.fetch_and(!(CALLS | DESIRED), Ordering::SeqCst);
            self.mail().take()
        };
        drop(dropped);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::SeqCst) & flag != 0
    }

    /// Gives the memory back when nothing is left, and keeps the flag true.
    fn tidy(&self, mail: &mut Option<Box<Mail>>) {
        if mail.as_ref().is_none_or(|mail| mail.waiting.is_empty()) {
            self.flags.fetch_and(!MAIL, Ordering::SeqCst);
        }
        if mail.as_ref().is_some_and(|mail| mail.waiting.is_empty() && mail.calls.is_empty()) {
            *mail = None;
        }
    }

    fn mail(&self) -> MutexGuard<'_, Option<Box<Mail>>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        self.flags.fetch_or(MAIL, Ordering::SeqCst);
        self.waker.wake();
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

    fn desired_changed(&self, change: &Arc<DesiredChange>) {
        if !self.has(DESIRED) {
            return;
        }
        {
            let mut mail = self.mail();
            let mail = mail.get_or_insert_default();
            let full = mail.changes >= CHANGES_MAX
                || (mail.changes > 0 && mail.change_bytes + change.body.len() > CHANGES_BYTES_MAX);
            if full {
                // A device that missed one would be wrong for ever; one that comes back reads its twin.
                return self.end(Ending::NotReading);
            }
            mail.changes += 1;
            mail.change_bytes += change.body.len();
            mail.waiting.push_back(Outgoing::Desired(change.clone()));
            self.wake();
        }
    }

    fn takes_calls(&self) -> bool {
        self.has(CALLS) && self.ending.get().is_none()
    }

    fn call(&self, call: Call) {
        let mut mail = self.mail();
        // `close` clears the flag before it takes the mail: what comes later finds it cleared.
        if !self.takes_calls() {
            return;
        }
        let Call { id, name, payload, answer } = call;
        let mail = mail.get_or_insert_default();
        mail.calls.push((id, answer));
        mail.waiting.push_back(Outgoing::Call { id, name, payload });
        self.wake();
    }

    fn forget(&self, id: CallId) {
        let mut mail = self.mail();
        if let Some(mail) = mail.as_mut() {
            mail.calls.retain(|(call, _)| *call != id);
            mail.waiting.retain(|waiting| !matches!(waiting, Outgoing::Call { id: call, .. } if *call == id));
        }
        self.tidy(&mut mail);
    }
}
