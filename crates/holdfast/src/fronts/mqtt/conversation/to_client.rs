//! What the hub has for a client of its own accord: changes of its desired properties, calls of methods, and
//! device-bound messages.

use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use hub::error::{HubError, HubErrorCode};
use hub::identity::Identity;
use hub::inbox::{Delivery, Numbering, Receiver, Settlement, Unfit};
use hub::method::{CallId, MethodError};
use hub::ports::bus::Holder as _;
use hub::twin::DesiredChange;
use jiff::Timestamp;
use wire::mqtt::five::{PublishProperties, UserProperties};
use wire::mqtt::{NotWritten, Numbered, PacketId, QoS, Server};

use super::{Conversation, End, Online, Spoken};
use crate::fronts::mailbox::Outgoing;
use crate::fronts::mqtt::five::{self, filters};
use crate::fronts::mqtt::three::{answers, device_bound};
use crate::io::Stream;

/// Output that is worth a write, in bytes.
const OUTPUT_BYTES: usize = 16 * 1024;
/// The longest topic (MQTT 3.1.1 §1.5.3).
const TOPIC_BYTES_MAX: u64 = 65_535;

impl<S: Stream> Conversation<S> {
    /// Sends what the hub has for the client of its own accord, until the output is worth writing.
    pub(super) fn send_outgoing(&mut self) {
        let Some(online) = self.online.as_mut() else { return };
        while self.machine.output().len() < OUTPUT_BYTES {
            match online.live.mailbox().next_outgoing() {
                // What the client has read already would only take it back.
                Some(Outgoing::Desired(change)) if change.version > online.desired_seen => {
                    online.desired_seen = change.version;
                    say_desired(&mut self.machine, &online.spoken, &change);
                }
                Some(Outgoing::Desired(_)) => {}
                Some(Outgoing::Call { id, name, payload }) => {
                    if let Err(error) = say_call(&mut self.machine, online, &name, id, payload) {
                        online.live.mailbox().answer(|call| call == id, || Err(error));
                    }
                }
                None => return,
            }
        }
    }

    /// Sends device-bound messages while there are any and the client acknowledges what it has.
    pub(super) async fn deliver(&mut self) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let sender = online.live.grant().sender.clone();
        let (identity, generation) = (&sender.identity, sender.generation.as_str());
        let failed = |error: HubError| End::Failed(format!("the inbox could not be read: {error}"));
        let Some(qos) = online.spoken.messages(&online.session, identity) else {
            online.live.mailbox().looks_into_inbox();
            return Ok(());
        };
        if online.unsettled.is_none() {
            // What an earlier connection had and never acknowledged, perhaps before a crash of the hub.
            self.hub.release_inbox(identity, generation, online.session_goes_on).await.map_err(failed)?;
        }
        let unsettled = online.unsettled.get_or_insert_default();
        online.live.mailbox().looks_into_inbox();
        let send_max = self.machine.send_max();
        while !unsettled.is_full(send_max) {
            let under_way = unsettled.packet_ids();
            let numbering = match qos {
                QoS::AtMostOnce => Numbering::None,
                QoS::AtLeastOnce | QoS::ExactlyOnce => Numbering::Session(&under_way),
            };
            let receiver = Receiver::Connection;
            let delivery = self.hub.take_from_inbox(identity, generation, receiver, numbering).await;
            let Some(delivery) = delivery.map_err(failed)? else { return Ok(()) };
            let token = delivery.token;
            let settlement = match say_message(
                &mut self.machine,
                &online.spoken,
                identity,
                delivery,
                self.hub.now(),
            ) {
                Ok(Some(packet_id)) => {
                    unsettled.push(packet_id, token, Instant::now());
                    continue;
                }
                // Nobody acknowledges QoS 0: what is sent is done with.
                Ok(None) => Settlement::Complete,
                Err(NotWritten) => {
                    tracing::warn!(device.id = %identity, "a message is larger than its client takes: it is rejected");
                    Settlement::Refuse(Unfit::TooLarge)
                }
            };
            self.hub.settle(identity, generation, token, settlement).await.map_err(failed)?;
        }
        // There may be more than the client may have at a time.
        online.live.mailbox().inbox_changed();
        Ok(())
    }

    /// A PUBACK settles a device-bound message: in MQTT 3.1.1 it can only complete it.
    pub(super) async fn on_acknowledged(
        &mut self,
        packet_id: PacketId,
        settlement: Settlement,
    ) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let Some(token) = online.unsettled.as_mut().and_then(|unsettled| unsettled.acknowledged(packet_id))
        else {
            return Ok(());
        };
        let sender = online.live.grant().sender.clone();
        let settled = self.hub.settle(&sender.identity, &sender.generation, token, settlement).await;
        match settled {
            Ok(()) => Ok(()),
            // It came too late, and the message is sent again.
            Err(error) if error.code == HubErrorCode::DeviceMessageLockLost => Ok(()),
            Err(error) => Err(End::Failed(format!("a message could not be settled: {error}"))),
        }
    }
}

/// What a client of MQTT 5 wants of a message that it was sent and does not take.
pub(super) fn settlement_of(properties: &UserProperties) -> Settlement {
    match properties.iter().find(|(name, _)| name == "status") {
        Some((_, status)) if status == "0100" => Settlement::Reject,
        // Busy (0603), or nothing that is known: nobody decided that it is lost.
        _ => Settlement::Abandon,
    }
}

/// One that is larger than a client of MQTT 5 takes is not sent [MQTT-3.1.2-24]: its application has to read the twin.
fn say_desired(machine: &mut Server, spoken: &Spoken, change: &DesiredChange) {
    let body = change.body.clone();
    match spoken {
        Spoken::Three => {
            // Its topic is short, and fits.
            let _ = machine.publish(&answers::desired_topic(change.version), body, QoS::AtMostOnce);
        }
        Spoken::Five(_) => {
            let user_properties = vec![("version".into(), change.version.to_string().into())];
            let properties = PublishProperties { user_properties, ..PublishProperties::default() };
            let topic = ByteString::from_static(five::DESIRED);
            let _ = machine.publish_five(topic, body, QoS::AtMostOnce, properties);
        }
    }
}

fn say_call(
    machine: &mut Server,
    online: &Online,
    name: &str,
    id: CallId,
    payload: Bytes,
) -> Result<(), MethodError> {
    match &online.spoken {
        Spoken::Three => {
            let topic = answers::call_topic(name, id);
            // It subscribed to other methods only.
            if !answers::wants(&online.session, &topic) {
                return Err(MethodError::NotOnline);
            }
            let written = machine.publish(&topic, payload, QoS::AtMostOnce);
            written.map_err(|NotWritten| MethodError::CallTooLarge { limit: TOPIC_BYTES_MAX })?;
        }
        Spoken::Five(_) => {
            if !filters::wants_call(&online.session, name) {
                return Err(MethodError::NotOnline);
            }
            let correlation_data = Some(Bytes::copy_from_slice(id.as_bytes()));
            let properties = PublishProperties { correlation_data, ..PublishProperties::default() };
            let topic = format!("{}{name}", five::METHODS).into();
            let written = machine.publish_five(topic, payload, QoS::AtMostOnce, properties);
            written.map_err(|NotWritten| MethodError::CallTooLarge { limit: machine.send_bytes_max() })?;
        }
    }
    Ok(())
}

fn say_message(
    machine: &mut Server,
    spoken: &Spoken,
    identity: &Identity,
    delivery: Delivery,
    now: Timestamp,
) -> Result<Option<PacketId>, NotWritten> {
    let (topic, properties) = match spoken {
        Spoken::Three => (device_bound::topic(identity, &delivery.content).into(), None),
        Spoken::Five(_) => {
            (ByteString::from_static(five::COMMANDS), Some(five::device_bound::properties(&delivery, now)))
        }
    };
    let body = delivery.content.body;
    match (delivery.entry.number, properties) {
        (Some(packet_id), properties) => {
            let numbered = Numbered { packet_id, dup: delivery.again };
            machine.publish_numbered(topic, body, properties, numbered).map(|()| Some(packet_id))
        }
        (None, None) => machine.publish(&topic, body, QoS::AtMostOnce),
        (None, Some(properties)) => machine.publish_five(topic, body, QoS::AtMostOnce, properties),
    }
}
