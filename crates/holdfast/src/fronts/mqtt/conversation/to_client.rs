//! What the hub has for a client of its own accord: changes of its desired properties, calls of methods, and
//! device-bound messages.

use std::time::Instant;

use hub::error::{HubError, HubErrorCode};
use hub::inbox::{Receiver, Settlement};
use hub::method::MethodError;
use hub::ports::bus::Holder as _;
use wire::mqtt::{PacketId, QoS};

use super::{Conversation, End};
use crate::fronts::mailbox::Outgoing;
use crate::fronts::mqtt::three::{answers, device_bound};
use crate::io::Stream;

/// Output that is worth a write, in bytes.
const OUTPUT_BYTES: usize = 16 * 1024;

impl<S: Stream> Conversation<S> {
    /// Sends what the hub has for the client of its own accord, until the output is worth writing.
    pub(super) fn send_outgoing(&mut self) {
        let Some(online) = self.online.as_mut() else { return };
        while self.machine.output().len() < OUTPUT_BYTES {
            match online.live.mailbox.next_outgoing() {
                // What the client has read already would only take it back.
                Some(Outgoing::Desired(change)) if change.version > online.desired_seen => {
                    online.desired_seen = change.version;
                    let topic = answers::desired_topic(change.version);
                    self.machine.publish(&topic, change.body.clone(), QoS::AtMostOnce);
                }
                Some(Outgoing::Desired(_)) => {}
                Some(Outgoing::Call { id, name, payload }) => {
                    let topic = answers::call_topic(&name, id);
                    match answers::wants(&online.session, &topic) {
                        true => drop(self.machine.publish(&topic, payload, QoS::AtMostOnce)),
                        // It subscribed to other methods only.
                        false => {
                            online.live.mailbox.answer(|call| call == id, || Err(MethodError::NotOnline));
                        }
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
        let Some(qos) = device_bound::granted(&online.session, identity) else {
            online.live.mailbox.looks_into_inbox();
            return Ok(());
        };
        if online.unsettled.is_none() {
            // What an earlier connection had and never acknowledged, perhaps before a crash of the hub.
            self.hub.release_inbox(identity, generation).await.map_err(failed)?;
        }
        let unsettled = online.unsettled.get_or_insert_default();
        online.live.mailbox.looks_into_inbox();
        while !unsettled.is_full() {
            let delivery = self.hub.take_from_inbox(identity, generation, Receiver::Connection).await;
            let Some(delivery) = delivery.map_err(failed)? else { return Ok(()) };
            let topic = device_bound::topic(identity, &delivery.content);
            match self.machine.publish(&topic, delivery.content.body, qos) {
                Some(packet_id) => unsettled.push(packet_id, delivery.token, Instant::now()),
                // Nobody acknowledges QoS 0: what is sent is done with.
                None => {
                    let settled =
                        self.hub.settle(identity, generation, delivery.token, Settlement::Complete).await;
                    settled.map_err(failed)?;
                }
            }
        }
        // There may be more than the client may have at a time.
        online.live.mailbox.inbox_changed();
        Ok(())
    }

    /// A PUBACK completes a device-bound message.
    pub(super) async fn on_acknowledged(&mut self, packet_id: PacketId) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let Some(token) = online.unsettled.as_mut().and_then(|unsettled| unsettled.acknowledged(packet_id))
        else {
            return Ok(());
        };
        let sender = online.live.grant().sender.clone();
        let settled =
            self.hub.settle(&sender.identity, &sender.generation, token, Settlement::Complete).await;
        match settled {
            Ok(()) => Ok(()),
            // It came too late, and the message is sent again.
            Err(error) if error.code == HubErrorCode::DeviceMessageLockLost => Ok(()),
            Err(error) => Err(End::Failed(format!("a message could not be completed: {error}"))),
        }
    }
}
