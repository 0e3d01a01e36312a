//! Messages of devices and modules: taken, made durable, and then settled.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use hub::hub::NotTaken;
use hub::ports::event_log::{AppendError, Ticket};
use hub::refusal::Refusal;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message, Sender};
use wire::amqp::connection::{Delivery, DeliveryId};
use wire::amqp::message::BATCH_MESSAGE_FORMAT;
use wire::amqp::performative::{DeliveryState, Error, condition};

use super::links::Purpose;
use super::{ARGUMENT_ERROR, Conversation};
use crate::fronts::amqp::telemetry;
use crate::io::Stream;

/// Messages of one link that may be under way. A client whose messages wait for the disk gets no more.
pub(super) const CREDIT: u32 = 256;
/// Messages of a whole connection that may wait for the disk before the socket is read again.
const UNSETTLED_MAX: usize = 1_024;

/// Messages between being taken and being settled.
#[derive(Default)]
pub(super) struct Intake {
    /// In the order they were taken; the last part of a delivery settles it, unless it came settled.
    waiting: VecDeque<(Ticket, Option<DeliveryId>)>,
    /// Since when the oldest one that is timed waits.
    since: Option<Instant>,
    /// What the journal had no room for.
    stalled: Option<Box<Stalled>>,
}

/// A delivery, or the rest of one.
struct Stalled {
    parts: VecDeque<Vec<Message>>,
    delivery: Option<DeliveryId>,
}

impl Intake {
    /// Whether more may come.
    pub(super) fn has_room(&self) -> bool {
        self.stalled.is_none() && self.waiting.len() < UNSETTLED_MAX
    }
}

impl<S: Stream> Conversation<S> {
    /// Takes a delivery of a device or module.
    pub(super) fn take_delivery(&mut self, delivery: &Delivery, sender: &Arc<Sender>) {
        let settles = (!delivery.settled).then_some(delivery.id);
        let now = self.front.hub.now().as_millisecond();
        if delivery.message_format != BATCH_MESSAGE_FORMAT {
            return match telemetry::message(&delivery.message, sender, now) {
                Ok(message) => self.take(message, settles, sender),
                Err(problem) => self.reject_unreadable(&problem, settles, sender),
            };
        }
        match telemetry::batch(&delivery.message, sender, now) {
            Ok(messages) => self.take_batch(messages, settles, sender),
            Err(problem) => self.reject_unreadable(&problem, settles, sender),
        }
    }

    fn take(&mut self, message: Message, settles: Option<DeliveryId>, sender: &Sender) {
        match self.front.hub.take(std::slice::from_ref(&message)) {
            Ok(ticket) => {
                self.door.accepted(1, message.metered_bytes() as u64);
                self.wait_for(ticket, settles);
            }
            Err(NotTaken::Log(AppendError::Full { .. })) => self.stall([vec![message]].into(), settles),
            Err(error) => self.reject(&error, settles, sender),
        }
    }

    /// A batch is as large as the link's largest message; the limit of a message holds for each one in it.
    fn take_batch(&mut self, messages: Vec<Message>, settles: Option<DeliveryId>, sender: &Sender) {
        let largest = messages.iter().map(Message::metered_bytes).max().unwrap_or(0);
        if largest > MESSAGE_BYTES_MAX {
            return self.reject(&NotTaken::TooLarge { size: largest }, settles, sender);
        }
        if messages.is_empty() {
            return self.reject(&NotTaken::Nothing, settles, sender);
        }
        let parts = self.front.hub.parts(messages).into();
        self.take_parts(Stalled { parts, delivery: settles }, Some(sender));
    }

    /// Takes one part after the other; what there is no room for waits.
    fn take_parts(&mut self, mut rest: Stalled, sender: Option<&Sender>) {
        while let Some(part) = rest.parts.pop_front() {
            match self.front.hub.take(&part) {
                Ok(ticket) => {
                    let bytes = part.iter().map(Message::metered_bytes).sum::<usize>();
                    self.door.accepted(part.len() as u64, bytes as u64);
                    let is_last = rest.parts.is_empty();
                    self.wait_for(ticket, rest.delivery.filter(|_| is_last));
                }
                Err(NotTaken::Log(AppendError::Full { .. })) => {
                    rest.parts.push_front(part);
                    return self.stall(rest.parts, rest.delivery);
                }
                Err(error) => {
                    let of = part.first().map(|message| message.sender.clone());
                    if let Some(sender) = sender.or(of.as_deref()) {
                        self.reject(&error, rest.delivery, sender);
                    }
                    return;
                }
            }
        }
    }

    fn stall(&mut self, parts: VecDeque<Vec<Message>>, delivery: Option<DeliveryId>) {
        self.door.full();
        self.intake.stalled = Some(Box::new(Stalled { parts, delivery }));
    }

    fn wait_for(&mut self, ticket: Ticket, settles: Option<DeliveryId>) {
        self.intake.since.get_or_insert_with(Instant::now);
        self.intake.waiting.push_back((ticket, settles));
    }

    /// Settles what became durable, and takes what there was no room for.
    pub(super) fn poll_durable(&mut self, cx: &mut Context<'_>) {
        while let Some((ticket, settles)) = self.intake.waiting.front().copied() {
            let Poll::Ready(durable) = self.front.hub.log.poll_durable(ticket, cx) else { break };
            self.intake.waiting.pop_front();
            if let Some(since) = self.intake.since.take() {
                self.door.acknowledged.observe(since.elapsed());
            }
            let Some(delivery) = settles else { continue };
            let state = match durable {
                Ok(()) => DeliveryState::Accepted,
                Err(error) => {
                    tracing::error!(%error, "messages were not stored");
                    DeliveryState::Rejected(Some(not_stored()))
                }
            };
            // The link may be gone.
            let _ = self.machine.settle(delivery, state);
        }
        if self.intake.stalled.is_some()
            && self.front.hub.log.poll_space(cx).is_ready()
            && let Some(stalled) = self.intake.stalled.take()
        {
            self.take_parts(*stalled, None);
        }
    }

    fn reject_unreadable(
        &mut self,
        problem: &telemetry::Unreadable,
        settles: Option<DeliveryId>,
        sender: &Sender,
    ) {
        let condition = match problem {
            telemetry::Unreadable::Encoding(_) => condition::DECODE_ERROR,
            telemetry::Unreadable::BatchTooLong(_) => condition::RESOURCE_LIMIT_EXCEEDED,
            telemetry::Unreadable::Body
            | telemetry::Unreadable::Property(_)
            | telemetry::Unreadable::NoBatch => ARGUMENT_ERROR,
        };
        let error = Error::new(condition, format!("The message was not taken: {problem}."));
        self.settle_rejected(error, settles);
        self.record_message(
            sender,
            Refusal::Protocol { problem: format!("a message is not taken: {problem}") },
        );
    }

    fn reject(&mut self, error: &NotTaken, settles: Option<DeliveryId>, sender: &Sender) {
        let told = match error {
            NotTaken::TooLarge { size } => {
                self.door.too_large();
                self.record_message(
                    sender,
                    Refusal::MessageTooLarge { size: *size, limit: MESSAGE_BYTES_MAX },
                );
                let text = format!("A message of {size} bytes is over the limit of {MESSAGE_BYTES_MAX}.");
                Error::new(condition::MESSAGE_SIZE_EXCEEDED, text)
            }
            NotTaken::Nothing => Error::new(ARGUMENT_ERROR, "The batch has no message."),
            NotTaken::Log(AppendError::NoSpace) => {
                self.record_message(sender, Refusal::DiskFull);
                not_stored()
            }
            NotTaken::Log(_) => {
                tracing::error!(%error, device.id = %sender.identity, "a message was not taken");
                not_stored()
            }
        };
        self.settle_rejected(told, settles);
    }

    fn settle_rejected(&mut self, error: Error, settles: Option<DeliveryId>) {
        if let Some(delivery) = settles {
            let _ = self.machine.settle(delivery, DeliveryState::Rejected(Some(error)));
        }
    }

    /// Records that a message was refused; those that are taken are counted.
    fn record_message(&self, sender: &Sender, refusal: Refusal) {
        self.record_operation(sender, Purpose::Telemetry, refusal);
    }
}

/// One that clients come back after.
fn not_stored() -> Error {
    Error::new(condition::INTERNAL_ERROR, "The hub could not store the message.")
}
