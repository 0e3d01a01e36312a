//! What a client of MQTT 5 publishes. What is no operation is answered, and closes the connection only where there is no
//! way to answer.

use bytes::Bytes;
use bytestring::ByteString;
use hub::decision::{Act, Facts};
use hub::deed::DeviceOperation;
use hub::error::HubError;
use hub::method::{MethodAnswer, MethodError};
use hub::ports::bus::Holder as _;
use hub::refusal::Refusal;
use wire::mqtt::five::{PublishProperties, UserProperties};
use wire::mqtt::{PacketId, Publish, QoS};

use super::{Conversation, Due, End};
use crate::fronts::mqtt::five::RESPONSES;
use crate::fronts::mqtt::five::operation::{Misuse, Operation};
use crate::fronts::mqtt::five::outcome::{Outcome, Status};
use crate::fronts::twin::{self, Outcome as TwinOutcome};
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// Takes a message, or does what is asked.
    pub(super) async fn on_operation(&mut self, publish: Publish) -> Result<(), End> {
        match Operation::read(&publish) {
            Ok(Operation::Telemetry(system, application)) => {
                let message = self.message(system, application, publish.payload)?;
                self.take(message, publish.packet_id)
            }
            Ok(operation) => Box::pin(self.on_asked(operation, publish.payload)).await,
            Err(misuse) => self.on_misuse(*misuse, publish.packet_id),
        }
    }

    async fn on_asked(&mut self, operation: Operation, payload: Bytes) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let sender = online.live.grant().sender.clone();
        let (correlation, outcome) = match operation {
            Operation::ReadTwin(correlation) => {
                let outcome = twin::read(&self.hub, &sender).await;
                self.door.twin_read(outcome.is_ok());
                (correlation, outcome)
            }
            Operation::Report(correlation, version) => {
                let outcome = twin::report(&self.hub, &sender, &payload, version).await;
                self.door.twin_update(outcome.is_ok());
                (correlation, outcome)
            }
            Operation::MethodAnswer(correlation, status) => {
                let judged = || match status {
                    Some(status) => MethodAnswer::judge(status, payload),
                    None => Err(MethodError::NotOnline),
                };
                online.live.mailbox().answer(|call| call.as_bytes()[..] == correlation[..], judged);
                return Ok(());
            }
            Operation::Telemetry(..) => return Ok(()),
        };
        self.say_twin(correlation, &outcome);
        Ok(())
    }

    fn say_twin(&mut self, correlation: Bytes, outcome: &Result<TwinOutcome, HubError>) {
        let (body, user_properties) = match outcome {
            Ok(TwinOutcome::Read(twin)) => (Bytes::from(twin.for_device().to_string()), Vec::new()),
            Ok(TwinOutcome::Reported(version)) => {
                (Bytes::new(), vec![("version".into(), version.to_string().into())])
            }
            Err(error) => (Bytes::new(), Outcome::from(error).properties()),
        };
        if self.respond(correlation.clone(), body, user_properties) {
            if let (Ok(TwinOutcome::Read(twin)), Some(online)) = (outcome, self.online.as_mut()) {
                online.desired_seen = twin.desired.version;
            }
            return;
        }
        // It does not take a packet of that size; this one it does.
        let too_large = Outcome::of(Status::ResourceExhausted);
        self.respond(correlation, Bytes::new(), too_large.properties());
    }

    fn respond(&mut self, correlation: Bytes, body: Bytes, user_properties: UserProperties) -> bool {
        let correlation_data = Some(correlation);
        let properties =
            PublishProperties { correlation_data, user_properties, ..PublishProperties::default() };
        let topic = ByteString::from_static(RESPONSES);
        self.machine.publish_five(topic, body, QoS::AtMostOnce, properties).is_ok()
    }

    /// Answers what is no operation in its turn, or closes the connection where nothing can be answered.
    fn on_misuse(&mut self, misuse: Misuse, packet_id: Option<PacketId>) -> Result<(), End> {
        let Misuse { outcome, refusal, is_fatal } = misuse;
        if packet_id.is_none() || is_fatal {
            let (reason, properties) = outcome.of_disconnect();
            self.machine.disconnect(reason, properties);
            return Err(End::Refused(refusal));
        }
        self.record_refused(DeviceOperation::Publish, refusal)?;
        self.unacknowledged.push_back((Due::Refused(Box::new(outcome)), packet_id));
        Ok(())
    }

    /// Records a refusal that does not end the connection.
    pub(super) fn record_refused(&self, operation: DeviceOperation, refusal: Refusal) -> Result<(), End> {
        let (identity, origin) = (self.identity()?.to_string(), self.visitor.origin.clone());
        let act = Act::Operation { name: operation.into() };
        self.hub.record(act, Some(identity), origin, Facts::default(), Some(refusal));
        Ok(())
    }
}
