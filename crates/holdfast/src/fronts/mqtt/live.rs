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
    /// [`CALLS`] and the like, which are looked at with every packet.
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
/// The client subscribed to device-bound messages.
const MESSAGES: u8 = 8;
/// Such a message may wait in the inbox.
const INBOX: u8 = 16;

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
    pub(super) fn subscribed(&self, calls: bool, desired: bool, messages: bool) {
        let set = |flag: u8, on: bool| match on {
            true => self.flags.fetch_or(flag, Ordering::SeqCst),
            false => self.flags.fetch_and(!flag, Ordering::SeqCst),
        };
        set(CALLS, calls);
        set(DESIRED, desired);
        set(MESSAGES, messages);
        set(INBOX, messages);
    }

    /// Whether there may be a message in the inbox.
    pub(super) fn may_have_message(&self) -> bool {
        self.has(INBOX)
    }

    /// The inbox is looked at from now on: a message that comes later is told again.
    pub(super) fn looks_into_inbox(&self) {
        self.flags.fetch_and(!INBOX, Ordering::SeqCst);
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
            self.flags.fetch_and(!(CALLS | DESIRED | MESSAGES | INBOX), Ordering::SeqCst);
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

    fn inbox_changed(&self) {
        if self.has(MESSAGES) {
            self.flags.fetch_or(INBOX, Ordering::SeqCst);
            self.waker.wake();
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use hub::authenticate::Basis;
    use hub::identity::Identity;
    use hub::ports::clock::Random;
    use hub::ports::secrets::Fingerprint;
    use hub::record::Slot;
    use hub::telemetry::{Sender, Source};

    use super::*;

    fn identity() -> Identity {
        Identity::parse("pump-1").expect("an id")
    }

    fn subscribed() -> Live {
        let sender = Sender {
            identity: identity(),
            generation: "1".to_owned(),
            auth_method: "{}".to_owned(),
            source: Source::Telemetry,
            model_id: None,
        };
        let basis = Basis::Key(Slot::Primary, Fingerprint(String::new()));
        let live = Live::new(Grant { sender: Arc::new(sender), ends: None, basis, rechecks: 0 });
        live.subscribed(true, true, true);
        live
    }

    fn change(version: u64, bytes: usize) -> Arc<DesiredChange> {
        Arc::new(DesiredChange { identity: identity(), version, body: vec![b' '; bytes].into() })
    }

    fn call(id: u8, told: &Arc<AtomicUsize>) -> Call {
        struct Same(u8);
        impl Random for Same {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(self.0);
            }
        }
        let told = told.clone();
        let answer = Box::new(move |_| {
            told.fetch_add(1, Ordering::SeqCst);
        });
        Call { id: CallId::new(&Same(id)), name: "m".to_owned(), payload: Bytes::new(), answer }
    }

    fn ended(live: &Live) -> Option<Ending> {
        live.ending.get().copied()
    }

    fn answer() -> Result<MethodAnswer, MethodError> {
        MethodAnswer::judge(200, Bytes::new())
    }

    #[test]
    fn an_idle_connection_holds_no_mail_and_gives_its_memory_back() {
        let (live, told) = (subscribed(), Arc::default());
        assert!(live.mail().is_none() && !live.has_outgoing());
        live.desired_changed(&change(2, 10));
        live.call(call(1, &told));
        assert!(live.has_outgoing());
        assert!(matches!(live.next_outgoing(), Some(Outgoing::Desired(_))));
        let Some(Outgoing::Call { id, .. }) = live.next_outgoing() else { panic!("no call") };
        assert!(!live.has_outgoing() && live.mail().is_some(), "the call is not answered yet");
        live.answer(&id.to_string(), answer);
        assert!(live.mail().is_none());
        live.answer(&id.to_string(), answer);
        assert_eq!(told.load(Ordering::SeqCst), 1, "an answer counts once");
        assert!(live.next_outgoing().is_none());
    }

    #[test]
    fn a_client_that_does_not_read_is_ended_when_the_bound_is_reached() {
        let live = subscribed();
        (0..CHANGES_MAX as u64).for_each(|version| live.desired_changed(&change(version, 1)));
        assert_eq!(ended(&live), None);
        live.desired_changed(&change(99, 1));
        assert_eq!(ended(&live), Some(Ending::NotReading));

        let live = subscribed();
        live.desired_changed(&change(2, CHANGES_BYTES_MAX + 1));
        assert_eq!(ended(&live), None, "one goes whatever its size");
        live.desired_changed(&change(3, 1));
        assert_eq!(ended(&live), Some(Ending::NotReading));

        let live = subscribed();
        for version in 0..1_000 {
            live.desired_changed(&change(version, CHANGES_BYTES_MAX / 2));
            assert!(live.next_outgoing().is_some(), "what is sent makes room");
        }
        assert_eq!(ended(&live), None);
    }

    #[test]
    fn who_did_not_subscribe_is_sent_nothing() {
        let (live, told) = (subscribed(), Arc::default());
        live.subscribed(false, false, false);
        live.desired_changed(&change(2, 1));
        assert!(!live.takes_calls());
        live.call(call(1, &told));
        assert!(live.mail().is_none() && !live.has_outgoing());
        assert_eq!(Arc::strong_count(&told), 1, "the way back is dropped, which tells the caller");
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_not_sent() {
        let (live, told) = (subscribed(), Arc::default());
        let (first, second) = (call(1, &told), call(2, &told));
        let forgotten = first.id;
        live.call(first);
        live.call(second);
        live.forget(forgotten);
        assert!(matches!(live.next_outgoing(), Some(Outgoing::Call { id, .. }) if id != forgotten));
        assert!(!live.has_outgoing());
    }

    #[test]
    fn the_end_of_a_connection_drops_the_ways_back_of_its_calls() {
        let (live, told) = (subscribed(), Arc::default());
        live.call(call(1, &told));
        live.close();
        assert_eq!(Arc::strong_count(&told), 1);
        live.call(call(2, &told));
        assert_eq!(Arc::strong_count(&told), 1, "a closed connection takes no call");
        assert_eq!(told.load(Ordering::SeqCst), 0);
    }
}
