//! Direct methods of devices and modules (`docs/protocol/amqp.md` §6.4): calls go out by one link, answers come in by
//! another.

use hub::decision::cut;
use hub::identity::Identity;
use hub::method::MethodError;
use hub::refusal::Refusal;
use hub::telemetry::Sender;
use wire::amqp::connection::{Blocked, Delivery, SendError, SendOptions};
use wire::amqp::performative::{DeliveryState, Error};

use super::devices::Recipient;
use super::links::Purpose;
use super::{ARGUMENT_ERROR, Conversation};
use crate::fronts::amqp::device_bound::{CallAnswer, write_call};
use crate::fronts::mailbox::Outgoing;
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// Sends the calls that wait, as far as the link takes them.
    pub(super) fn send_calls(&mut self, identity: &Identity) {
        let Some(Recipient { mailbox, bound, .. }) = self.devices.recipient(identity) else { return };
        let Some(link) = bound.calls else { return };
        loop {
            // What else blocks is over soon, and is told only to who has tried.
            let sendable = self.machine.sendable(link);
            if matches!(sendable, Err(SendError::Blocked(Blocked::Credit) | SendError::Command(_))) {
                return;
            }
            let is_call = |outgoing: &Outgoing| matches!(outgoing, Outgoing::Call { .. });
            let Some(outgoing) = mailbox.next_of(is_call) else { return };
            let Outgoing::Call { id, name, payload } = &outgoing else { return };
            match self.machine.send(link, SendOptions::settled(), |w| write_call(w, *id, name, payload)) {
                Ok(_) => {}
                Err(SendError::Blocked(_) | SendError::Command(_)) => return mailbox.put_back(outgoing),
                Err(SendError::MessageTooLarge { limit, .. }) => {
                    mailbox.answer(|call| call == *id, || Err(MethodError::CallTooLarge { limit }));
                }
            }
        }
    }

    /// Hands on what is answered to a call. One that nobody waits for any longer is passed over.
    pub(super) fn on_call_answer(&mut self, delivery: &Delivery, sender: &Sender) {
        let state = match CallAnswer::read(&delivery.message) {
            Ok(answer) => {
                if let Some(Recipient { mailbox, .. }) = self.devices.recipient(&sender.identity) {
                    mailbox.answer(|call| answer.answers(call), || answer.judge());
                }
                DeliveryState::Accepted
            }
            Err(problem) => {
                let problem = format!("an answer to a call of a method is not taken: {problem}");
                self.record_operation(
                    sender,
                    Purpose::CallAnswers,
                    Refusal::Protocol { problem: cut(&problem) },
                );
                DeliveryState::Rejected(Some(Error::new(ARGUMENT_ERROR, problem)))
            }
        };
        self.settle((!delivery.settled).then_some(delivery.id), state);
    }
}
