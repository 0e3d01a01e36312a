//! What the hub has for a live connection of a device or module, and what its client asked to be told of.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use hub::method::{AnswerTo, Call, CallId, MethodAnswer, MethodError};
use hub::twin::DesiredChange;

/// Changes of desired properties that may wait for a client to read, and their bytes. Calls of methods are bounded where
/// they begin.
const CHANGES_MAX: usize = 64;
const CHANGES_BYTES_MAX: usize = 256 * 1024;

/// Holds what is to be sent to one client, until its connection sends it.
#[derive(Default)]
pub(crate) struct Mailbox {
    /// The bits of [`Wanted`] and those below, which are looked at with every packet.
    flags: AtomicU8,
    /// There is none while there is nothing in it: most connections are idle.
    mail: Mutex<Option<Box<Mail>>>,
}

/// What a client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Wanted {
    /// Calls of methods.
    Calls = 1,
    /// Changes of its desired properties.
    Desired = 2,
    /// Device-bound messages.
    Messages = 4,
}

/// Something waits to be sent.
const MAIL: u8 = 8;
/// A message may wait in the inbox.
const INBOX: u8 = 16;

/// A client did not read the earlier changes of its desired properties, and there is no room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NotReading;

/// What the hub sends of its own accord.
pub(crate) enum Outgoing {
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

impl Mailbox {
    /// Says whether the client asks for something. The inbox is worth a look as soon as it asks for messages.
    pub(crate) fn set_wanted(&self, what: Wanted, is_wanted: bool) {
        let flags = match what {
            Wanted::Messages => what as u8 | INBOX,
            Wanted::Calls | Wanted::Desired => what as u8,
        };
        match is_wanted {
            true => self.flags.fetch_or(flags, Ordering::SeqCst),
            false => self.flags.fetch_and(!flags, Ordering::SeqCst),
        };
    }

    /// Whether the client asks for something.
    pub(crate) fn wants(&self, what: Wanted) -> bool {
        self.has(what as u8)
    }

    /// Whether there may be a message in the inbox.
    pub(crate) fn may_have_message(&self) -> bool {
        self.has(INBOX)
    }

    /// The inbox is looked at from now on: a message that comes later is told again.
    pub(crate) fn looks_into_inbox(&self) {
        self.flags.fetch_and(!INBOX, Ordering::SeqCst);
    }

    /// A message may wait in the inbox. True when that is news to a client that asks for messages.
    pub(crate) fn inbox_changed(&self) -> bool {
        self.wants(Wanted::Messages) && self.flags.fetch_or(INBOX, Ordering::SeqCst) & INBOX == 0
    }

    /// Takes a change for a client that asks for changes. True when no other one waited.
    pub(crate) fn put_change(&self, change: &Arc<DesiredChange>) -> Result<bool, NotReading> {
        if !self.wants(Wanted::Desired) {
            return Ok(false);
        }
        let mut mail = self.mail();
        let mail = mail.get_or_insert_default();
        let full = mail.changes >= CHANGES_MAX
            || (mail.changes > 0 && mail.change_bytes + change.body.len() > CHANGES_BYTES_MAX);
        if full {
            return Err(NotReading);
        }
        mail.waiting.push_back(Outgoing::Desired(change.clone()));
        mail.count(change, 1);
        self.set_mail();
        Ok(mail.changes == 1)
    }

    /// Takes a call for a client that asks for calls; it is dropped, and with it its way back, for any other. True when no
    /// other one waited.
    pub(crate) fn put_call(&self, call: Call) -> bool {
        let mut mail = self.mail();
        // `close` clears the flag before it takes the mail: what comes later finds it cleared.
        if !self.wants(Wanted::Calls) {
            return false;
        }
        let Call { id, name, payload, answer } = call;
        let mail = mail.get_or_insert_default();
        mail.calls.push((id, answer));
        let is_first = !mail.waiting.iter().any(|waiting| matches!(waiting, Outgoing::Call { .. }));
        mail.waiting.push_back(Outgoing::Call { id, name, payload });
        self.set_mail();
        is_first
    }

    /// Whether something waits to be sent.
    pub(crate) fn has_outgoing(&self) -> bool {
        self.has(MAIL)
    }

    /// What is to be sent next, of all that waits.
    pub(crate) fn next_outgoing(&self) -> Option<Outgoing> {
        self.next_of(|_| true)
    }

    /// What is to be sent next of one kind.
    pub(crate) fn next_of(&self, kind: impl Fn(&Outgoing) -> bool) -> Option<Outgoing> {
        if !self.has_outgoing() {
            return None;
        }
        let mut slot = self.mail();
        let mail = slot.as_mut()?;
        let at = mail.waiting.iter().position(kind)?;
        let next = mail.waiting.remove(at);
        if let Some(Outgoing::Desired(change)) = &next {
            mail.count(change, -1);
        }
        self.tidy(&mut slot);
        next
    }

    /// Takes back what could not be sent; it is the next of its kind again. A call that was forgotten meanwhile is dropped.
    pub(crate) fn put_back(&self, outgoing: Outgoing) {
        let mut slot = self.mail();
        let mail = slot.get_or_insert_default();
        match &outgoing {
            Outgoing::Desired(change) => mail.count(change, 1),
            Outgoing::Call { id, .. } if mail.calls.iter().any(|(call, _)| call == id) => {}
            Outgoing::Call { .. } => return self.tidy(&mut slot),
        }
        mail.waiting.push_front(outgoing);
        self.set_mail();
    }

    /// Hands an answer to who waits for it. One that nobody waits for any longer is passed over.
    pub(crate) fn answer(
        &self,
        is_it: impl Fn(CallId) -> bool,
        answer: impl FnOnce() -> Result<MethodAnswer, MethodError>,
    ) {
        let found = {
            let mut mail = self.mail();
            let found = mail.as_mut().and_then(|mail| {
                let at = mail.calls.iter().position(|(call, _)| is_it(*call))?;
                Some(mail.calls.swap_remove(at).1)
            });
            self.tidy(&mut mail);
            found
        };
        if let Some(answer_to) = found {
            answer_to(answer());
        }
    }

    /// Forgets a call that nobody waits for any longer.
    pub(crate) fn forget(&self, id: CallId) {
        let mut mail = self.mail();
        if let Some(mail) = mail.as_mut() {
            mail.calls.retain(|(call, _)| *call != id);
            mail.waiting.retain(|waiting| !matches!(waiting, Outgoing::Call { id: call, .. } if *call == id));
        }
        self.tidy(&mut mail);
    }

    /// The client takes no calls any more. Drops the ways back of those that are under way, whose callers learn by it that
    /// no answer comes.
    pub(crate) fn drop_calls(&self) {
        self.set_wanted(Wanted::Calls, false);
        let dropped = {
            let mut mail = self.mail();
            let calls = mail.as_mut().map(|mail| {
                mail.waiting.retain(|waiting| matches!(waiting, Outgoing::Desired(_)));
                std::mem::take(&mut mail.calls)
            });
            self.tidy(&mut mail);
            calls
        };
        drop(dropped);
    }

    /// The connection is over: nothing is asked for, and what waits is dropped, and with it the ways back of calls.
    pub(crate) fn close(&self) {
        self.flags.store(0, Ordering::SeqCst);
        let dropped = {
            let mut mail = self.mail();
            let dropped = mail.take();
            self.tidy(&mut mail);
            dropped
        };
        drop(dropped);
    }

    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::SeqCst) & flag != 0
    }

    /// Something waits. The caller holds the mail, as that of [`Mailbox::tidy`] does.
    fn set_mail(&self) {
        self.flags.fetch_or(MAIL, Ordering::SeqCst);
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
}

impl Mail {
    fn count(&mut self, change: &DesiredChange, by: isize) {
        self.changes = self.changes.saturating_add_signed(by);
        self.change_bytes = self.change_bytes.saturating_add_signed(by * change.body.len().cast_signed());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use hub::identity::Identity;
    use hub::ports::clock::Random;

    use super::*;

    fn subscribed() -> Mailbox {
        let mailbox = Mailbox::default();
        for what in [Wanted::Calls, Wanted::Desired, Wanted::Messages] {
            mailbox.set_wanted(what, true);
        }
        mailbox
    }

    fn change(version: u64, bytes: usize) -> Arc<DesiredChange> {
        let identity = Identity::parse("pump-1").expect("an id");
        Arc::new(DesiredChange { identity, version, body: vec![b' '; bytes].into() })
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

    fn answer() -> Result<MethodAnswer, MethodError> {
        MethodAnswer::judge(200, Bytes::new())
    }

    fn is_call(outgoing: &Outgoing) -> bool {
        matches!(outgoing, Outgoing::Call { .. })
    }

    #[test]
    fn an_idle_connection_holds_no_mail_and_gives_its_memory_back() {
        let (mailbox, told) = (subscribed(), Arc::default());
        assert!(mailbox.mail().is_none() && !mailbox.has_outgoing());
        assert_eq!(mailbox.put_change(&change(2, 10)), Ok(true));
        assert_eq!(mailbox.put_change(&change(3, 10)), Ok(false), "one waited already");
        assert!(mailbox.put_call(call(1, &told)), "a call is news beside changes");
        assert!(mailbox.has_outgoing());
        assert!((0..2).all(|_| matches!(mailbox.next_outgoing(), Some(Outgoing::Desired(_)))));
        let Some(Outgoing::Call { id, .. }) = mailbox.next_outgoing() else { panic!("no call") };
        assert!(!mailbox.has_outgoing() && mailbox.mail().is_some(), "the call is not answered yet");
        mailbox.answer(|call| call == id, answer);
        assert!(mailbox.mail().is_none());
        mailbox.answer(|call| call == id, answer);
        assert_eq!(told.load(Ordering::SeqCst), 1, "an answer counts once");
        assert!(mailbox.next_outgoing().is_none());
    }

    #[test]
    fn a_client_that_does_not_read_finds_the_bound() {
        let mailbox = subscribed();
        assert!((0..CHANGES_MAX as u64).all(|version| mailbox.put_change(&change(version, 1)).is_ok()));
        assert_eq!(mailbox.put_change(&change(99, 1)), Err(NotReading));

        let mailbox = subscribed();
        assert!(mailbox.put_change(&change(2, CHANGES_BYTES_MAX + 1)).is_ok(), "one goes whatever its size");
        assert_eq!(mailbox.put_change(&change(3, 1)), Err(NotReading));

        let mailbox = subscribed();
        for version in 0..1_000 {
            assert_eq!(mailbox.put_change(&change(version, CHANGES_BYTES_MAX / 2)), Ok(true));
            assert!(mailbox.next_outgoing().is_some(), "what is sent makes room");
        }
    }

    #[test]
    fn who_did_not_ask_is_sent_nothing() {
        let (mailbox, told) = (Mailbox::default(), Arc::default());
        assert_eq!(mailbox.put_change(&change(2, 1)), Ok(false));
        assert!(!mailbox.put_call(call(1, &told)) && !mailbox.inbox_changed());
        assert!(mailbox.mail().is_none() && !mailbox.has_outgoing());
        assert_eq!(Arc::strong_count(&told), 1, "the way back is dropped, which tells the caller");
    }

    #[test]
    fn a_call_that_nobody_waits_for_is_not_sent() {
        let (mailbox, told) = (subscribed(), Arc::default());
        let (first, second) = (call(1, &told), call(2, &told));
        let forgotten = first.id;
        mailbox.put_call(first);
        mailbox.put_call(second);
        mailbox.forget(forgotten);
        assert!(matches!(mailbox.next_outgoing(), Some(Outgoing::Call { id, .. }) if id != forgotten));
        assert!(!mailbox.has_outgoing());
    }

    #[test]
    fn what_cannot_be_sent_yet_holds_nothing_else_up_and_keeps_its_place() {
        let (mailbox, told) = (subscribed(), Arc::default());
        mailbox.put_call(call(1, &told));
        mailbox.put_call(call(2, &told));
        assert_eq!(mailbox.put_change(&change(2, 1)), Ok(true));
        let Some(Outgoing::Call { id: first, name, payload }) = mailbox.next_of(is_call) else {
            panic!("no call")
        };
        mailbox.put_back(Outgoing::Call { id: first, name, payload });
        assert!(matches!(mailbox.next_of(|it| !is_call(it)), Some(Outgoing::Desired(_))));
        let Some(Outgoing::Call { id, name, payload }) = mailbox.next_of(is_call) else { panic!("no call") };
        assert_eq!(id, first);
        mailbox.forget(first);
        mailbox.put_back(Outgoing::Call { id, name, payload });
        assert!(matches!(mailbox.next_of(is_call), Some(Outgoing::Call { id, .. }) if id != first));
        assert!(!mailbox.has_outgoing());
    }

    #[test]
    fn the_end_of_a_connection_drops_the_ways_back_of_its_calls() {
        let (mailbox, told) = (subscribed(), Arc::default());
        mailbox.put_call(call(1, &told));
        mailbox.close();
        assert_eq!(Arc::strong_count(&told), 1);
        mailbox.put_call(call(2, &told));
        assert_eq!(Arc::strong_count(&told), 1, "a closed connection takes no call");

        let mailbox = subscribed();
        mailbox.put_call(call(1, &told));
        assert_eq!(mailbox.put_change(&change(2, 1)), Ok(true));
        mailbox.drop_calls();
        assert_eq!(Arc::strong_count(&told), 1);
        assert!(matches!(mailbox.next_outgoing(), Some(Outgoing::Desired(_))), "changes are none of it");
        assert_eq!(told.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_message_is_news_once_until_the_inbox_is_looked_at() {
        let mailbox = subscribed();
        assert!(mailbox.may_have_message() && !mailbox.inbox_changed(), "it is looked at first of all");
        mailbox.looks_into_inbox();
        assert!(mailbox.inbox_changed() && !mailbox.inbox_changed());
    }
}
