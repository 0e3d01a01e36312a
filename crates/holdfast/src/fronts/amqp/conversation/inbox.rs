//! Device-bound messages to devices and modules (`docs/protocol/amqp.md` §6.2). Each is locked in its queue before it
//! is sent, and leaves the queue by what the client makes of it; what a link had and did not settle is taken back when
//! it ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::error::{HubError, HubErrorCode};
use hub::identity::Identity;
use hub::inbox::{Delivery, LockToken, Settlement};
use hub::telemetry::Sender;
use jiff::Timestamp;
use wire::amqp::codec::Symbol;
use wire::amqp::connection::{Blocked, DeliveryId, LinkId, SendError, SendOptions};
use wire::amqp::performative::{DeliveryState, Error, condition};

use super::desk::Errand;
use super::devices::Recipient;
use super::links::Purpose;
use super::{Conversation, Link};
use crate::fronts::amqp::device_bound;
use crate::io::Stream;

/// Messages that a link may have and not settle, however much credit it grants.
const UNSETTLED_MAX: usize = 50;

const MESSAGE_LOCK_LOST: Symbol = Symbol::from_static("com.microsoft:message-lock-lost");

/// The link by which a device or module gets its messages.
pub(super) struct Messages {
    pub(super) link: LinkId,
    unsettled: Vec<Unsettled>,
    /// One is being taken from the queue.
    is_taking: bool,
    /// None was taken before.
    is_first: bool,
    /// One that was taken, and could not be sent yet.
    taken: Option<Box<Delivery>>,
    /// The client wants what there is, and the rest of its credit back.
    is_draining: bool,
}

struct Unsettled {
    /// `None` for one that the client cannot take.
    delivery: Option<DeliveryId>,
    /// `None` when the hub has taken it back.
    token: Option<LockToken>,
    lapses: Instant,
}

impl Messages {
    pub(super) fn new(link: LinkId) -> Self {
        Self {
            link,
            unsettled: Vec::new(),
            is_taking: false,
            is_first: true,
            taken: None,
            is_draining: false,
        }
    }

    /// What the link had and did not settle.
    pub(super) fn tokens(self) -> Vec<LockToken> {
        let unsettled = self.unsettled.into_iter().filter_map(|unsettled| unsettled.token);
        unsettled.chain(self.taken.map(|taken| taken.token)).collect()
    }

    fn next_lapse(&self) -> Option<Instant> {
        self.unsettled
            .iter()
            .filter(|unsettled| unsettled.token.is_some())
            .map(|unsettled| unsettled.lapses)
            .min()
    }

    /// The client is done with a delivery; gives its token if the hub has not taken it back.
    fn settled(&mut self, delivery: DeliveryId) -> Option<LockToken> {
        let at = self.unsettled.iter().position(|unsettled| unsettled.delivery == Some(delivery))?;
        self.unsettled.swap_remove(at).token
    }

    /// Forgets what the hub has taken back by now; says whether there was any. What the client was sent is kept, for it
    /// may still settle it.
    fn lapse(&mut self, now: Instant) -> bool {
        let lapsed = self.unsettled.iter_mut().filter(|unsettled| unsettled.lapses <= now);
        let any = lapsed.filter_map(|unsettled| unsettled.token.take()).count() > 0;
        self.unsettled.retain(|unsettled| unsettled.token.is_some() || unsettled.delivery.is_some());
        any
    }
}

impl<S: Stream> Conversation<S> {
    /// Sends what there is, as far as the client wants it.
    pub(super) fn send_messages(&mut self, identity: &Identity) {
        self.send_taken(identity);
        let Some(messages) = self.messages(identity) else { return };
        if !messages.is_taking && messages.taken.is_none() && std::mem::take(&mut messages.is_draining) {
            let link = messages.link;
            let _ = self.machine.drained(link);
        }
    }

    /// A client wants what there is on a link, and the rest of its credit back.
    pub(super) fn drain_messages(&mut self, identity: &Identity) {
        if let Some(messages) = self.messages(identity) {
            messages.is_draining = true;
            self.send_messages(identity);
        }
    }

    /// Sends what was taken, and has the next message taken if there may be one and the client wants it.
    fn send_taken(&mut self, identity: &Identity) {
        let Some(Recipient { sender, mailbox, bound }) = self.devices.recipient(identity) else { return };
        let Some(messages) = bound.messages.as_mut() else { return };
        // One that waited for credit may be somebody else's by now.
        let left = |taken: &Delivery| lock_time_left(taken, self.front.hub.now());
        if let Some((left, taken)) = messages.taken.take().and_then(|taken| Some((left(&taken)?, taken))) {
            let options = SendOptions { tag: Some(device_bound::tag(taken.token)), ..SendOptions::default() };
            let sent = self.machine.send(messages.link, options, |w| {
                device_bound::write_message(w, identity, &taken);
            });
            let delivery = match sent {
                Ok(delivery) => Some(delivery),
                Err(SendError::MessageTooLarge { size, limit }) => {
                    // It is tried again when its lock lapses, and stays for a link that takes it, or until it expires.
                    tracing::warn!(device.id = %identity, size, limit, "a message is too large for its device's link");
                    None
                }
                // The machine says when to try again; or the link is on its way out, and gives it back.
                Err(SendError::Blocked(_) | SendError::Command(_)) => {
                    messages.taken = Some(taken);
                    return;
                }
            };
            // A little later than the hub takes it back, so that it is there when it is asked for again.
            let lapses = Instant::now() + left + Duration::from_millis(50);
            messages.unsettled.push(Unsettled { delivery, token: Some(taken.token), lapses });
            self.next_lapse = [self.next_lapse, Some(lapses)].into_iter().flatten().min();
        }
        if messages.is_taking || messages.unsettled.len() >= UNSETTLED_MAX || !mailbox.may_have_message() {
            return;
        }
        // What else blocks is over soon, and is told only to who has tried.
        let sendable = self.machine.sendable(messages.link);
        if matches!(sendable, Err(SendError::Blocked(Blocked::Credit) | SendError::Command(_))) {
            return;
        }
        mailbox.looks_into_inbox();
        messages.is_taking = true;
        let is_first = std::mem::take(&mut messages.is_first);
        let errand = Errand::Take { sender: sender.clone(), link: messages.link, is_first };
        self.desk.add(&self.front.hub, identity.clone(), errand);
    }

    /// A message was taken from the queue for a link, or there is none.
    pub(super) fn on_taken(
        &mut self,
        sender: Arc<Sender>,
        link: LinkId,
        result: Result<Option<Box<Delivery>>, HubError>,
    ) {
        let recipient = self.devices.recipient(&sender.identity);
        let messages = recipient.and_then(|to| Some((to.mailbox, to.bound.messages.as_mut()?)));
        let Some((mailbox, messages)) = messages.filter(|(_, messages)| messages.link == link) else {
            if let Ok(Some(taken)) = result {
                self.give_back(sender, vec![taken.token]);
            }
            return;
        };
        messages.is_taking = false;
        match result {
            Ok(Some(taken)) => {
                messages.taken = Some(taken);
                // There may be more.
                mailbox.inbox_changed();
            }
            Ok(None) => {}
            Err(error) => {
                tracing::error!(device.id = %sender.identity, %error, "an inbox could not be read");
                return self.detach(link, Error::new(condition::INTERNAL_ERROR, "The hub is not available."));
            }
        }
        self.send_messages(&sender.identity);
    }

    /// A client says what it makes of a message, and that it has forgotten it if it settles first.
    pub(super) fn on_outcome(
        &mut self,
        link: LinkId,
        delivery: DeliveryId,
        state: Option<&DeliveryState>,
        is_settled: bool,
    ) {
        let Some(Link::Device(Purpose::Messages, sender)) = self.links.get(&link) else { return };
        let sender = sender.clone();
        let told = (!is_settled).then_some(delivery);
        let Some(messages) = self.messages(&sender.identity) else { return };
        let token = messages.settled(delivery);
        match (token, settlement(state)) {
            (Some(token), Some(settlement)) => {
                let errand = Errand::Settle { sender: sender.clone(), token, settlement, told };
                self.desk.add(&self.front.hub, sender.identity.clone(), errand);
            }
            (Some(token), None) => {
                self.settle(told, DeliveryState::Released);
                self.give_back(sender.clone(), vec![token]);
            }
            (None, _) => self.settle(told, DeliveryState::Rejected(Some(lock_lost()))),
        }
        // There is room for one more.
        self.send_messages(&sender.identity);
    }

    /// What a client made of a message is durable, or its lock was lost. A client that settles second waits for our word;
    /// .NET takes `accepted` for a yes to whatever it said.
    pub(super) fn on_settled(
        &mut self,
        sender: &Sender,
        told: Option<DeliveryId>,
        result: Result<(), HubError>,
    ) {
        let state = match result {
            Ok(()) => DeliveryState::Accepted,
            // One that settles first is sent the message again.
            Err(error) if error.code == HubErrorCode::DeviceMessageLockLost => {
                DeliveryState::Rejected(Some(lock_lost()))
            }
            Err(error) => {
                tracing::error!(device.id = %sender.identity, %error, "a message could not be settled");
                let error = Error::new(condition::INTERNAL_ERROR, "The hub is not available.");
                DeliveryState::Rejected(Some(error))
            }
        };
        self.settle(told, state);
    }

    fn messages(&mut self, identity: &Identity) -> Option<&mut Messages> {
        self.devices.recipient(identity)?.bound.messages.as_mut()
    }

    /// Takes note of the locks that lapsed.
    pub(super) fn lapse(&mut self, now: Instant) {
        if self.next_lapse.is_none_or(|due| due > now) {
            return;
        }
        self.next_lapse = None;
        let mut lapsed = Vec::new();
        for (identity, messages) in self.devices.all_messages() {
            if messages.lapse(now) {
                lapsed.push(identity.clone());
            }
            self.next_lapse = [self.next_lapse, messages.next_lapse()].into_iter().flatten().min();
        }
        for identity in lapsed {
            if let Some(recipient) = self.devices.recipient(&identity) {
                recipient.mailbox.inbox_changed();
            }
            self.send_messages(&identity);
        }
    }

    /// Has messages taken back that nobody will settle.
    pub(super) fn give_back(&mut self, sender: Arc<Sender>, tokens: Vec<LockToken>) {
        if !tokens.is_empty() {
            let identity = sender.identity.clone();
            self.desk.add(&self.front.hub, identity, Errand::GiveBack { sender, tokens });
        }
    }

    /// Settles a delivery whose other end waits for it, or passes over it.
    pub(super) fn settle(&mut self, delivery: Option<DeliveryId>, state: DeliveryState) {
        if let Some(delivery) = delivery {
            // The link may be gone.
            let _ = self.machine.settle(delivery, state);
        }
    }
}

/// What an outcome means; `None` for what is no verdict.
fn settlement(state: Option<&DeliveryState>) -> Option<Settlement> {
    match state? {
        DeliveryState::Accepted => Some(Settlement::Complete),
        DeliveryState::Rejected(_) | DeliveryState::Modified { undeliverable_here: true, .. } => {
            Some(Settlement::Reject)
        }
        DeliveryState::Released | DeliveryState::Modified { .. } => Some(Settlement::Abandon),
        DeliveryState::Received { .. } | DeliveryState::Other(_) => None,
    }
}

/// How long a message that was taken stays with who took it; `None` when it does no longer.
fn lock_time_left(taken: &Delivery, now: Timestamp) -> Option<Duration> {
    let until = taken.entry.lock.as_ref()?.until;
    Duration::try_from(until.duration_since(now)).ok().filter(|left| !left.is_zero())
}

fn lock_lost() -> Error {
    Error::new(MESSAGE_LOCK_LOST, "The lock of this message lapsed, or it was settled already.")
}

#[cfg(test)]
mod tests {
    use hub::inbox::{Ack, Content, Entry, Lock, Receiver};

    use super::*;

    #[test]
    fn an_outcome_means_what_the_standard_says() {
        let modified = |undeliverable_here: bool| DeliveryState::Modified {
            delivery_failed: !undeliverable_here,
            undeliverable_here,
            message_annotations: wire::amqp::codec::Fields::new(),
        };
        let cases = [
            (Some(DeliveryState::Accepted), Some(Settlement::Complete)),
            (Some(DeliveryState::Rejected(None)), Some(Settlement::Reject)),
            (Some(modified(true)), Some(Settlement::Reject)),
            (Some(modified(false)), Some(Settlement::Abandon)),
            (Some(DeliveryState::Released), Some(Settlement::Abandon)),
            (Some(DeliveryState::Received { section_number: 0, section_offset: 0 }), None),
            (None, None),
        ];
        for (state, expected) in cases {
            assert_eq!(settlement(state.as_ref()), expected, "{state:?}");
        }
    }

    #[test]
    fn a_message_that_waits_for_longer_than_its_lock_holds_is_not_sent() {
        let at = |second: i64| Timestamp::from_second(1_900_000_000 + second).expect("a time");
        let token = LockToken(uuid::Uuid::nil());
        let lock = Some(Lock { token, until: at(60), by: Receiver::Connection });
        let entry = Entry {
            sender: String::new(),
            deliveries: 1,
            delivered: None,
            sequence: 1,
            message_id: None,
            enqueued: at(0),
            expires: at(3_600),
            ack: Ack::None,
            abandoned: 0,
            lock,
            number: None,
            has_deadline: false,
        };
        let content = Content { system: Vec::new(), application: Vec::new(), body: bytes::Bytes::new() };
        let taken = Delivery { entry, token, again: false, content };
        assert_eq!(lock_time_left(&taken, at(20)), Some(Duration::from_secs(40)));
        assert_eq!(lock_time_left(&taken, at(60)), None);
        assert_eq!(lock_time_left(&taken, at(61)), None);
    }
}
