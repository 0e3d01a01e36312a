//! The links of devices and modules: what each is for, and what there is while it is open.

use std::sync::Arc;

use hub::decision::Act;
use hub::deed::DeviceOperation;
use hub::hub::NotAdmitted;
use hub::identity::Identity;
use hub::put_token::is_unknown;
use hub::refusal::Refusal;
use hub::refusing::Refused;
use hub::telemetry::Sender;
use wire::amqp::connection::{AttachAnswer, CreditPolicy, LinkId};
use wire::amqp::performative::{Attach, Error, RcvSettleMode, Role, SndSettleMode, condition};

use super::devices::Recipient;
use super::inbox::Messages;
use super::intake::CREDIT;
use super::tokens::Outcome;
use super::twins::Answers;
use super::{Conversation, Link};
use crate::fronts::amqp::address::Place;
use crate::fronts::mailbox::{Mailbox, Wanted};
use crate::io::Stream;

/// Requests about the twin, and answers to calls, that a device may send before the first is looked at.
const REQUEST_CREDIT: u32 = 100;

/// What a link of a device or module is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Its messages come in.
    Telemetry,
    /// Device-bound messages go out.
    Messages,
    /// Calls of methods go out.
    Calls,
    /// Answers to them come in.
    CallAnswers,
    /// Requests about the twin come in.
    TwinRequests,
    /// Answers to them go out, and changes of the desired properties.
    TwinAnswers,
}

impl Purpose {
    /// What a link to this place is for. `role` is the client's.
    pub(super) fn of(place: Place, role: Role, identity: &Identity) -> Option<Self> {
        Some(match (place, role) {
            (Place::Events, Role::Sender) => Self::Telemetry,
            // Where edge routes lead, and where the Node SDK expects all that is for a module.
            (Place::Events, Role::Receiver) if identity.module.is_some() => Self::Messages,
            (Place::Messages, Role::Receiver) => Self::Messages,
            (Place::Methods, Role::Receiver) => Self::Calls,
            (Place::Methods, Role::Sender) => Self::CallAnswers,
            (Place::Twin, Role::Sender) => Self::TwinRequests,
            (Place::Twin, Role::Receiver) => Self::TwinAnswers,
            (Place::Events, Role::Receiver) | (Place::Messages, Role::Sender) => return None,
        })
    }

    /// What a client does by it, in records.
    fn operation(self) -> DeviceOperation {
        match self {
            Self::Telemetry => DeviceOperation::SendTelemetry,
            Self::Messages => DeviceOperation::ReceiveMessages,
            Self::Calls => DeviceOperation::ReceiveCalls,
            Self::CallAnswers => DeviceOperation::AnswerCall,
            Self::TwinRequests => DeviceOperation::AskAboutTwin,
            Self::TwinAnswers => DeviceOperation::ReceiveTwin,
        }
    }

    fn answer(self) -> AttachAnswer {
        let (snd_settle_mode, rcv_settle_mode, credit) = match self {
            Self::Telemetry => (None, Some(RcvSettleMode::First), CreditPolicy::TopUp(CREDIT)),
            Self::CallAnswers | Self::TwinRequests => {
                (None, Some(RcvSettleMode::First), CreditPolicy::TopUp(REQUEST_CREDIT))
            }
            // A client that settles second is answered when its outcome is durable.
            Self::Messages => (Some(SndSettleMode::Unsettled), None, CreditPolicy::Manual),
            Self::Calls | Self::TwinAnswers => {
                (Some(SndSettleMode::Settled), Some(RcvSettleMode::First), CreditPolicy::Manual)
            }
        };
        AttachAnswer { snd_settle_mode, rcv_settle_mode, credit, ..AttachAnswer::default() }
    }
}

/// What a device or module is sent by, beside telemetry: one link of each kind, the newest.
#[derive(Default)]
pub(super) struct Bound {
    pub(super) messages: Option<Messages>,
    pub(super) calls: Option<LinkId>,
    pub(super) call_answers: Option<LinkId>,
    pub(super) twin: Option<Answers>,
    pub(super) twin_requests: Option<LinkId>,
}

impl Bound {
    /// The link of a kind.
    fn link(&self, purpose: Purpose) -> Option<LinkId> {
        match purpose {
            Purpose::Telemetry => None,
            Purpose::Messages => self.messages.as_ref().map(|messages| messages.link),
            Purpose::Calls => self.calls,
            Purpose::CallAnswers => self.call_answers,
            Purpose::TwinAnswers => self.twin.as_ref().map(|twin| twin.link),
            Purpose::TwinRequests => self.twin_requests,
        }
    }

    fn open(&mut self, purpose: Purpose, link: LinkId, mailbox: &Mailbox) {
        match purpose {
            Purpose::Telemetry => {}
            Purpose::Messages => {
                self.messages = Some(Messages::new(link));
                mailbox.set_wanted(Wanted::Messages, true);
            }
            Purpose::Calls => self.calls = Some(link),
            Purpose::CallAnswers => self.call_answers = Some(link),
            Purpose::TwinAnswers => self.twin = Some(Answers::new(link)),
            Purpose::TwinRequests => self.twin_requests = Some(link),
        }
        // Who cannot answer is not called.
        mailbox.set_wanted(Wanted::Calls, self.calls.is_some() && self.call_answers.is_some());
    }

    /// A link is gone, unless it was replaced. Gives the device-bound messages that it had and did not settle.
    pub(super) fn close(&mut self, link: LinkId, mailbox: &Mailbox) -> Option<Messages> {
        for slot in [&mut self.calls, &mut self.call_answers] {
            if slot.take_if(|have| *have == link).is_some() {
                mailbox.drop_calls();
            }
        }
        self.twin_requests.take_if(|have| *have == link);
        if self.twin.take_if(|twin| twin.link == link).is_some() {
            mailbox.set_wanted(Wanted::Desired, false);
        }
        let messages = self.messages.take_if(|messages| messages.link == link)?;
        mailbox.set_wanted(Wanted::Messages, false);
        Some(messages)
    }
}

impl<S: Stream> Conversation<S> {
    /// Opens a link of a device or module, or refuses it.
    pub(super) async fn open_device_link(
        &mut self,
        link: LinkId,
        attach: Attach,
        identity: Identity,
        purpose: Purpose,
    ) {
        let mut facts = self.facts();
        match self.connect(link, &identity, &attach, &mut facts).await {
            Ok(sender) => {
                let hub = self.front.hub.clone();
                if let Some(model_id) = &sender.model_id
                    && let Err(error) = hub.announce_model(&identity, &sender.generation, model_id).await
                {
                    tracing::warn!(device.id = %identity, %error, "the model of a device could not be noted");
                }
                match self.machine.accept_attach(link, purpose.answer()) {
                    Ok(()) => {
                        self.links.insert(link, Link::Device(purpose, sender));
                        self.opened(link, &identity, purpose);
                    }
                    Err(_) => self.unlink(link, &sender),
                }
            }
            Err(NotAdmitted::Refused(refusal)) => {
                let by_policy = facts.token.as_ref().is_some_and(|token| token.skn.is_some());
                // Only who proved a policy's key may learn which devices there are.
                let error = match by_policy && is_unknown(&refusal) {
                    true => Error::new(condition::NOT_FOUND, format!("'{identity}' is not registered.")),
                    false => Error::new(condition::UNAUTHORIZED_ACCESS, "Unauthorized access."),
                };
                let identity = Some(identity.to_string());
                let refused = Refused { act: Act::Connect, identity, facts, refusal };
                self.refuse(refused, Outcome::Attach(link, error));
            }
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, device.id = %identity, "could not decide on a link");
                let error = Error::new(condition::INTERNAL_ERROR, "The hub is not available.");
                let _ = self.machine.refuse_attach(link, error);
            }
        }
    }

    /// A link is open. An older one of the same kind ends: nobody could tell which of the two is to be sent by.
    fn opened(&mut self, link: LinkId, identity: &Identity, purpose: Purpose) {
        if purpose == Purpose::Telemetry {
            return;
        }
        let older = self.devices.recipient(identity).and_then(|recipient| recipient.bound.link(purpose));
        if let Some(older) = older {
            self.detach(older, Error::new(condition::STOLEN, "A newer link took over."));
        }
        let Some(Recipient { mailbox, bound, .. }) = self.devices.new_recipient(identity) else { return };
        bound.open(purpose, link, mailbox);
        if mailbox.wants(Wanted::Calls) && matches!(purpose, Purpose::Calls | Purpose::CallAnswers) {
            self.front.hub.bus.takes_calls(identity);
        }
        // What waits goes out when the client grants credit, which is told.
    }

    /// Sends a device or module what waits for it, as far as its links take it.
    pub(super) fn send_mail(&mut self, identity: &Identity) {
        self.send_messages(identity);
        self.send_calls(identity);
        self.send_twin(identity);
    }

    /// Records that something was refused that a device did by a link.
    pub(super) fn record_operation(&self, sender: &Sender, purpose: Purpose, refusal: Refusal) {
        let name = purpose.operation().into();
        let (act, origin) = (Act::Operation { name }, self.visitor.origin.clone());
        let identity = Some(sender.identity.to_string());
        self.front.hub.record(act, identity, origin, self.facts(), Some(refusal));
    }
}

/// The stamps of a link: those of its identity, and the model that the link announces.
pub(super) fn stamped(sender: &Arc<Sender>, model_id: Option<String>) -> Arc<Sender> {
    match model_id {
        None => sender.clone(),
        model_id => Arc::new(Sender { model_id, ..(**sender).clone() }),
    }
}
