//! Messages of a client on their way into the journal, its will among them.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use bytestring::ByteString;
use hub::hub::NotTaken;
use hub::ports::bus::Holder as _;
use hub::ports::event_log::AppendError;
use hub::properties::stamp;
use hub::refusal::Refusal;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message, PropertyValue, Sender, SystemProperty};
use wire::mqtt::PacketId;

use super::{Conversation, Due, End};
use crate::io::Stream;

/// The system properties of a message.
type System = Vec<(SystemProperty, ByteString)>;
/// Those of the application.
type Application = Vec<(ByteString, PropertyValue)>;

/// What a client leaves to be sent in its name when its connection is lost.
pub(super) struct Will {
    system: System,
    application: Application,
    body: Bytes,
}

impl Will {
    /// One with copies of what came: a piece of a CONNECT would hold on to all of it for as long as the connection lives.
    pub(super) fn new(mut system: System, mut application: Application, body: &[u8]) -> Box<Self> {
        let copy = |text: &mut ByteString| *text = text.to_string().into();
        system.iter_mut().for_each(|(_, value)| copy(value));
        for (name, value) in &mut application {
            copy(name);
            if let PropertyValue::Text(value) = value {
                copy(value);
            }
        }
        Box::new(Self { system, application, body: Bytes::copy_from_slice(body) })
    }
}

impl<S: Stream> Conversation<S> {
    /// A message of this connection, as the hub takes it.
    pub(super) fn message(
        &self,
        system: System,
        application: Application,
        body: Bytes,
    ) -> Result<Message, End> {
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
                self.unacknowledged.push_back((Due::Durable(ticket), packet_id));
            }
            Err(NotTaken::Log(AppendError::Full { .. })) => {
                self.door.full();
                self.stalled = Some(Box::new((message, packet_id)))
            }
            Err(NotTaken::TooLarge { size }) => {
                self.door.too_large();
                return Err(End::Refused(Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX }));
            }
            Err(NotTaken::Log(error)) => return Err(End::not_stored(&error)),
            Err(error @ NotTaken::Nothing) => return Err(End::Failed(error.to_string())),
        }
        Ok(())
    }

    pub(super) fn take_stalled(&mut self) -> Result<(), End> {
        match self.stalled.take() {
            Some(stalled) => self.take(stalled.0, stalled.1),
            None => Ok(()),
        }
    }

    pub(super) fn publish_will(&self, will: Will, sender: Arc<Sender>) {
        let Will { system, mut application, body } = will;
        stamp(&mut application, "iothub-MessageType", "Will");
        let enqueued = self.hub.now().as_millisecond();
        let message = Message { enqueued, sender: sender.clone(), system, application, body };
        if let Err(error) = self.hub.take(&[message]) {
            tracing::warn!(device.id = %sender.identity, %error, "a will was lost");
        }
    }
}
