//! Messages of a client on their way into the journal, its will among them.

use std::sync::Arc;
use std::time::Instant;

use hub::hub::NotTaken;
use hub::identity::Identity;
use hub::ports::bus::Holder as _;
use hub::ports::event_log::AppendError;
use hub::refusal::Refusal;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message, PropertyValue, Sender};
use wire::mqtt::{LastWill, PacketId};

use super::{Conversation, End};
use crate::fronts::mqtt::three::address::events_bag;
use crate::fronts::mqtt::three::properties;
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    /// A message of this connection, as the hub takes it.
    pub(super) fn message(&self, bag: &str, body: bytes::Bytes, retain: bool) -> Result<Message, End> {
        let (system, mut application) = properties::parse(bag);
        if retain {
            application.push(("mqtt-retain".into(), PropertyValue::Text("true".into())));
        }
        let sender = match &self.online {
            Some(online) => online.live.grant().sender.clone(),
            None => return Err(End::Failed("a message came before the connection was admitted".to_owned())),
        };
        Ok(Message { enqueued: self.hub.now().as_millisecond(), sender, system, application, body })
    }

    pub(super) fn take(&mut self, message: Message, packet_id: Option<PacketId>) -> Result<(), End> {
        match self.hub.take(std::slice::from_ref(&message)) {
            Ok(ticket) => {
                self.door.accepted(1, message.metered_bytes() as u64);
                self.waiting_since.get_or_insert_with(Instant::now);
                self.unacknowledged.push_back((Some(ticket), packet_id));
            }
            Err(NotTaken::Log(AppendError::Full { .. })) => {
                self.door.full();
                self.stalled = Some(Box::new((message, packet_id)))
            }
            Err(NotTaken::TooLarge { size }) => {
                self.door.too_large();
                return Err(End::Refused(Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX }));
            }
            Err(error) => return Err(End::Failed(error.to_string())),
        }
        Ok(())
    }

    pub(super) fn take_stalled(&mut self) -> Result<(), End> {
        match self.stalled.take() {
            Some(stalled) => self.take(stalled.0, stalled.1),
            None => Ok(()),
        }
    }

    pub(super) fn publish_will(&self, will: &LastWill, sender: Arc<Sender>, identity: &Identity) {
        let Some(bag) = events_bag(&will.topic, identity) else { return };
        let (system, mut application) = properties::parse(bag);
        application.push(("iothub-MessageType".into(), PropertyValue::Text("Will".into())));
        if will.retain {
            application.push(("mqtt-retain".into(), PropertyValue::Text("true".into())));
        }
        let enqueued = self.hub.now().as_millisecond();
        let message = Message { enqueued, sender, system, application, body: will.message.clone() };
        if let Err(error) = self.hub.take(&[message]) {
            tracing::warn!(device.id = %identity, %error, "a will was lost");
        }
    }
}
