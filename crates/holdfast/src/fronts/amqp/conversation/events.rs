//! What happens on a connection, and where it leads.

use std::borrow::Cow;
use std::time::Instant;

use hub::decision::cut;
use wire::amqp::connection::{CloseReason, Delivery, DetachCause, Event, LinkId, OpenOptions};
use wire::amqp::message::Message;
use wire::amqp::performative::{DeliveryState, Error, condition};
use wire::amqp::sasl::SaslCode;

use super::desk::Done;
use super::links::Purpose;
use super::transport::misbehaviour;
use super::{Conversation, Link};
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// Takes a message of a device, which is most of what comes; false for anything else.
    pub(super) fn take_message(&mut self, event: &Event) -> bool {
        let Event::Delivery(delivery) = event else { return false };
        let Some(Link::Device(purpose, sender)) = self.links.get(&delivery.link) else { return false };
        let (purpose, sender) = (*purpose, sender.clone());
        match purpose {
            Purpose::Telemetry => self.take_delivery(delivery, &sender),
            Purpose::CallAnswers => self.on_call_answer(delivery, &sender),
            Purpose::TwinRequests => self.on_twin_request(delivery, &sender),
            // Nothing comes in by a link that goes out.
            Purpose::Messages | Purpose::Calls | Purpose::TwinAnswers => {}
        }
        true
    }

    /// What was to be done for somebody is done.
    pub(super) fn on_done(&mut self, done: Done) {
        let sender = match done {
            Done::Sent { settles, result } => return self.on_sent(settles, &result),
            Done::Taken { sender, link, result } => {
                self.on_taken(sender.clone(), link, result);
                sender
            }
            Done::Settled { sender, told, result } => {
                self.on_settled(&sender, told, result);
                sender
            }
            Done::GivenBack { sender } => sender,
            Done::Twin { sender, request, message, result } => {
                self.on_twin(&sender, Some(&request), &message, &result);
                sender
            }
        };
        self.send_twin(&sender.identity);
    }

    /// Handles an event; false when the connection is over.
    pub(super) async fn on_event(&mut self, event: Event) -> bool {
        let now = Instant::now();
        match event {
            Event::SaslInit(init) => self.on_sasl(init).await,
            Event::SaslResponse(_) => {
                let _ = self.machine.sasl_outcome(SaslCode::Auth, None, now);
            }
            Event::Open(open) => {
                let product = open.properties.text("user-agent").or_else(|| open.properties.text("product"));
                self.client.sdk = product.map(cut);
                let hostname = open.hostname.clone();
                let _ = self.machine.accept_open(&OpenOptions { hostname, ..OpenOptions::default() }, now);
            }
            Event::Attach { link, attach } => self.on_attach(link, *attach).await,
            Event::Delivery(delivery) => self.on_delivery(*delivery).await,
            Event::Detached { link, cause } => {
                let Some(gone) = self.links.remove(&link) else { return true };
                if let (Link::Device(purpose, sender), DetachCause::PeerMisbehaved(misbehaved)) =
                    (&gone, &cause)
                {
                    self.record_operation(sender, *purpose, misbehaviour(misbehaved));
                }
                self.forget_link(link, gone);
            }
            Event::Ended { session, .. } => {
                let of_session = self.links.extract_if(.., |link, _| link.session() == session);
                for (id, link) in of_session.collect::<Vec<_>>() {
                    self.forget_link(id, link);
                }
            }
            Event::DrainRequested { link, .. } => self.on_drain(link),
            Event::Closed(reason) => {
                self.over.reason = match &reason {
                    CloseReason::ByPeer(None) => Cow::Borrowed("the client said good-bye"),
                    CloseReason::PeerMisbehaved(_) => Cow::Borrowed("the peer misbehaved"),
                    reason => reason.to_string().into(),
                };
                if let CloseReason::PeerMisbehaved(misbehaved) = reason {
                    self.over.refusal = Some(Box::new(misbehaviour(&misbehaved)));
                }
                self.links.clear();
                return self.machine.pending_output_len() > 0;
            }
            Event::Sendable { link, .. } => self.on_sendable(link),
            Event::Disposition { link, delivery, state, settled } => match self.services.contains(&link) {
                true => self.on_service_outcome(link, delivery, state, settled).await,
                false => self.on_outcome(link, delivery, state.as_ref(), settled),
            },
            Event::SaslChallenge(_) | Event::Begun(_) | Event::Attached { .. } | Event::Drained { .. } => {}
        }
        true
    }

    /// A link may send again, or for the first time. Readers are polled in every round.
    fn on_sendable(&mut self, id: LinkId) {
        let Some(Link::Device(purpose, sender)) = self.links.get(&id) else { return self.send_answers(id) };
        let (purpose, sender) = (*purpose, sender.clone());
        match purpose {
            Purpose::Messages => self.send_messages(&sender.identity),
            Purpose::Calls => self.send_calls(&sender.identity),
            Purpose::TwinAnswers => self.send_twin(&sender.identity),
            Purpose::Telemetry | Purpose::CallAnswers | Purpose::TwinRequests => {}
        }
    }

    /// A client wants what there is, and the rest of its credit back.
    fn on_drain(&mut self, id: LinkId) {
        if let Some(Link::Device(Purpose::Messages, sender)) = self.links.get(&id) {
            let identity = sender.identity.clone();
            return self.drain_messages(&identity);
        }
        if self.drain_to_service(id) {
            return;
        }
        // Nothing more is ready than is sent at once.
        self.on_sendable(id);
        let _ = self.machine.drained(id);
    }

    async fn on_delivery(&mut self, delivery: Delivery) {
        let Some(kind) = self.links.get(&delivery.link) else { return };
        if matches!(kind, Link::ToDevices) {
            return self.send_to_device(&delivery);
        }
        let (is_cbs, is_management) =
            (matches!(kind, Link::CbsRequests), matches!(kind, Link::ManagementRequests));
        let request = match Message::parse(&delivery.message) {
            Ok(request) => request,
            Err(error) => {
                let error = Error::new(condition::DECODE_ERROR, error.to_string());
                let _ = self.machine.settle(delivery.id, DeliveryState::Rejected(Some(error)));
                return;
            }
        };
        // The disposition goes out before the answer: a client takes the reverse order for a failure.
        if !delivery.settled {
            let _ = self.machine.settle(delivery.id, DeliveryState::Accepted);
        }
        let session = delivery.link.session();
        if is_cbs {
            self.on_token_request(session, &request).await;
        } else if is_management {
            self.on_management_request(session, &request).await;
        }
    }

    /// Ends a link.
    pub(super) fn detach(&mut self, id: LinkId, error: Error) {
        if let Some(link) = self.links.remove(&id) {
            let _ = self.machine.detach(id, Some(error));
            self.forget_link(id, link);
        }
    }

    /// A link is gone.
    fn forget_link(&mut self, id: LinkId, link: Link) {
        if let Link::Device(_, sender) = link {
            self.unlink(id, &sender);
        }
    }
}
