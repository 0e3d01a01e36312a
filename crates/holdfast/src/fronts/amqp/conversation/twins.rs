//! Twins of devices and modules (`docs/protocol/amqp.md` §6.5): requests come in by one link; answers, and changes of
//! the desired properties, go out by another.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hub::decision::cut;
use hub::error::HubError;
use hub::identity::Identity;
use hub::refusal::Refusal;
use hub::telemetry::Sender;
use wire::amqp::connection::{Blocked, Delivery, LinkId, SendError, SendOptions};
use wire::amqp::message::Message;
use wire::amqp::performative::{DeliveryState, Error, condition};

use super::desk::Errand;
use super::devices::Recipient;
use super::links::Purpose;
use super::{ARGUMENT_ERROR, Conversation};
use crate::fronts::amqp::twin::{self, Request};
use crate::fronts::mailbox::{Outgoing, Wanted};
use crate::fronts::twin::Outcome;
use crate::io::Stream;

/// Answers that wait for a client that asks and grants no credit for them; one more ends the link.
const ANSWERS_MAX: usize = 16;

/// The link by which a device or module gets answers about its twin, and changes of its desired properties.
pub(super) struct Answers {
    pub(super) link: LinkId,
    waiting: VecDeque<BytesMut>,
    /// The highest version of the desired properties that the client was sent, if it was sent any.
    desired_seen: u64,
}

impl Answers {
    pub(super) fn new(link: LinkId) -> Self {
        Self { link, waiting: VecDeque::new(), desired_seen: 0 }
    }
}

impl<S: Stream> Conversation<S> {
    /// Takes a request about the twin. What can be answered is answered there; only what cannot is rejected.
    pub(super) fn on_twin_request(&mut self, delivery: &Delivery, sender: &Arc<Sender>) {
        let settles = (!delivery.settled).then_some(delivery.id);
        let problem = match Message::parse(&delivery.message) {
            Ok(parsed) if parsed.properties.correlation_id.is_some() => {
                self.settle(settles, DeliveryState::Accepted);
                let message = delivery.message.clone();
                return match Request::read(&delivery.message, &parsed) {
                    Ok(request) => {
                        let errand = Errand::Twin { sender: sender.clone(), request, message };
                        self.desk.add(&self.front.hub, sender.identity.clone(), errand);
                    }
                    Err(error) => {
                        self.on_twin(sender, None, &message, &Err(error));
                        self.send_twin(&sender.identity);
                    }
                };
            }
            Ok(_) => "its correlation-id, which the answer repeats, is missing".to_owned(),
            Err(error) => error.to_string(),
        };
        let problem = format!("a request about the twin is not taken: {problem}");
        self.settle(settles, DeliveryState::Rejected(Some(Error::new(ARGUMENT_ERROR, problem.clone()))));
        self.record_operation(sender, Purpose::TwinRequests, Refusal::Protocol { problem: cut(&problem) });
    }

    /// A request is done, or is none that can be: answers it.
    pub(super) fn on_twin(
        &mut self,
        sender: &Sender,
        request: Option<&Request>,
        message: &Bytes,
        result: &Result<Option<Outcome>, HubError>,
    ) {
        match request {
            Some(Request::Read) => self.door.twin_read(result.is_ok()),
            Some(Request::Report { .. }) => self.door.twin_update(result.is_ok()),
            Some(Request::Subscribe | Request::Unsubscribe) | None => {}
        }
        let id = Message::parse(message).ok().and_then(|message| message.properties.correlation_id);
        let Some(Recipient { mailbox, bound, .. }) = self.devices.recipient(&sender.identity) else {
            return;
        };
        // Who asks and does not listen gets no answer.
        let (Some(id), Some(twin)) = (id, bound.twin.as_mut()) else { return };
        match request {
            Some(Request::Subscribe) => mailbox.set_wanted(Wanted::Desired, true),
            Some(Request::Unsubscribe) => mailbox.set_wanted(Wanted::Desired, false),
            Some(Request::Read | Request::Report { .. }) | None => {}
        }
        if let Ok(Some(Outcome::Read(read))) = result {
            // What the client reads here would only be taken back by earlier changes.
            twin.desired_seen = twin.desired_seen.max(read.desired.version);
        }
        twin.waiting.push_back(twin::answer(id, result, self.front.hub.now()));
        // What waits for room in the output goes soon, and no more is read until then.
        let sendable = self.machine.sendable(twin.link);
        let waits_for_client = matches!(sendable, Err(SendError::Blocked(Blocked::Credit | Blocked::Window)));
        if waits_for_client && twin.waiting.len() > ANSWERS_MAX {
            let (link, text) = (twin.link, "Requests come and their answers are not taken.");
            self.detach(link, Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text));
        }
        // They are sent with whatever else there is.
    }

    /// Sends the answers that wait, and then the changes of the desired properties, as far as the link takes them.
    pub(super) fn send_twin(&mut self, identity: &Identity) {
        let Some(Recipient { mailbox, bound, .. }) = self.devices.recipient(identity) else { return };
        let Some(twin) = bound.twin.as_mut() else { return };
        while let Some(answer) = twin.waiting.front() {
            match self.machine.send(twin.link, SendOptions::settled(), |w| w.encoded(answer)) {
                Err(SendError::Blocked(_) | SendError::Command(_)) => return,
                Err(SendError::MessageTooLarge { size, limit }) => {
                    tracing::warn!(device.id = %identity, size, limit, "an answer is too large for its device's link");
                    twin.waiting.pop_front();
                }
                Ok(_) => drop(twin.waiting.pop_front()),
            }
        }
        // An answer that is under way may have been read before a change that waits here, and is to come before it.
        while !self.desk.is_busy_for(identity) {
            let sendable = self.machine.sendable(twin.link);
            if matches!(sendable, Err(SendError::Blocked(Blocked::Credit) | SendError::Command(_))) {
                return;
            }
            let is_change = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Desired(_));
            let Some(outgoing) = mailbox.next_of(is_change) else { return };
            let Outgoing::Desired(change) = &outgoing else { return };
            if change.version <= twin.desired_seen {
                continue;
            }
            match self.machine.send(twin.link, SendOptions::settled(), |w| twin::write_change(w, change)) {
                Ok(_) => twin.desired_seen = change.version,
                Err(SendError::Blocked(_) | SendError::Command(_)) => return mailbox.put_back(outgoing),
                Err(error @ SendError::MessageTooLarge { .. }) => {
                    // A device that missed one would be wrong for ever; one that attaches anew reads its twin.
                    let link = twin.link;
                    return self
                        .detach(link, Error::new(condition::MESSAGE_SIZE_EXCEEDED, error.to_string()));
                }
            }
        }
    }
}
