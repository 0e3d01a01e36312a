//! Device-bound messages of services: each is in its queue before it is accepted (`docs/protocol/amqp.md` §9.1).

use hub::access::PolicyName;
use hub::error::HubErrorCode;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::inbox::{MESSAGE_BYTES_MAX, NotEnqueued, Submission};
use hub::service_grant::ServicePlace;
use wire::amqp::connection::{Delivery, DeliveryId};
use wire::amqp::performative::{DeliveryState, Error, condition};

use super::desk::Errand;
use super::{ARGUMENT_ERROR, Conversation};
use crate::fronts::amqp::submission::{Addressed, read};
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// Takes a message for a device; it is settled once it is in the queue. Those for one device go in one after the other,
    /// so that they keep their order.
    pub(super) fn send_to_device(&mut self, delivery: &Delivery) {
        let settles = (!delivery.settled).then_some(delivery.id);
        let policy = self.may_go_by(&ServicePlace::ToDevices).map_or("", PolicyName::as_str);
        match read(&delivery.message, policy) {
            Ok(Addressed { submission, .. }) if submission.metered_bytes() > MESSAGE_BYTES_MAX => {
                // It does not take the place of others.
                let bytes = submission.metered_bytes();
                self.on_sent(settles, &Err(NotEnqueued::TooLarge { bytes }));
            }
            Ok(Addressed { to, submission }) => {
                let Some(identity) = to.last().cloned() else { return };
                let errand = Errand::Send { to, submission: Box::new(submission), settles };
                self.desk.add(&self.front.hub, identity, errand);
            }
            Err(problem) => {
                let text = format!("The message was not taken: {problem}.");
                self.settle(settles, DeliveryState::Rejected(Some(Error::new(ARGUMENT_ERROR, text))));
            }
        }
    }

    /// A message is in the queue of its device, or could not be.
    pub(super) fn on_sent(&mut self, settles: Option<DeliveryId>, result: &Result<(), NotEnqueued>) {
        self.settle(
            settles,
            match result {
                Ok(()) => DeliveryState::Accepted,
                Err(error) => DeliveryState::Rejected(Some(told(error))),
            },
        );
    }
}

/// `to` is as it was written, and decoded: some SDKs encode the id and some do not.
pub(super) async fn enqueue(hub: &Hub, to: &[Identity], submission: &Submission) -> Result<(), NotEnqueued> {
    let Some((last, others)) = to.split_last() else { return Ok(()) };
    for identity in others {
        match hub.send_to_device(identity, submission).await {
            Err(NotEnqueued::Hub(error)) if error.code == HubErrorCode::DeviceNotFound => {}
            outcome => return outcome.map(drop),
        }
    }
    hub.send_to_device(last, submission).await.map(drop)
}

fn told(error: &NotEnqueued) -> Error {
    let condition = match error {
        NotEnqueued::TooLarge { .. } => condition::MESSAGE_SIZE_EXCEEDED,
        NotEnqueued::QueueFull => condition::RESOURCE_LIMIT_EXCEEDED,
        NotEnqueued::ExpiresTooLate | NotEnqueued::Nul(_) => ARGUMENT_ERROR,
        NotEnqueued::Hub(error) => match error.code {
            HubErrorCode::DeviceNotFound | HubErrorCode::ModuleNotFound => condition::NOT_FOUND,
            _ => condition::INTERNAL_ERROR,
        },
    };
    Error::new(condition, format!("The message was not taken: {error}."))
}
