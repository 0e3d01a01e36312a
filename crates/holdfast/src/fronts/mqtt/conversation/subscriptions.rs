//! What a client subscribes to, and what its session remembers of it.

use bytestring::ByteString;
use hub::decision::cut;
use hub::identity::Identity;
use hub::record::{Session, Subscription};
use hub::refusal::Refusal;
use wire::mqtt::{PacketId, QoS};

use super::{Conversation, End};
use crate::fronts::mqtt::three::address::may_subscribe;
use crate::io::Stream;

/// More filters than any SDK uses, fewer than would weigh.
const SUBSCRIPTIONS_MAX: usize = 50;

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_subscribe(
        &mut self,
        packet_id: PacketId,
        filters: Vec<(ByteString, QoS)>,
    ) -> Result<(), End> {
        let identity = self.identity()?.clone();
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let mut session = online.session.clone();
        let mut status = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            if !may_subscribe(&filter, &identity) {
                return Err(End::Refused(Refusal::TopicFilter { filter: cut(&filter) }));
            }
            // QoS 2 is granted as 1.
            let granted = if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            session.subscriptions.retain(|have| *have.filter != *filter);
            session.subscriptions.push(Subscription { filter: filter.to_string(), qos: granted.into() });
            // Asked for each, so that no packet makes the list longer than this.
            if session.subscriptions.len() > SUBSCRIPTIONS_MAX {
                let problem = format!("it subscribes to more than {SUBSCRIPTIONS_MAX} filters");
                return Err(End::Refused(Refusal::Protocol { problem }));
            }
            status.push(Ok(granted));
        }
        self.remember(identity, session).await?;
        self.machine.suback(packet_id, status);
        Ok(())
    }

    pub(super) async fn on_unsubscribe(
        &mut self,
        packet_id: PacketId,
        filters: Vec<ByteString>,
    ) -> Result<(), End> {
        let identity = self.identity()?.clone();
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let mut session = online.session.clone();
        let mut existed = Vec::with_capacity(filters.len());
        for filter in filters {
            let before = session.subscriptions.len();
            session.subscriptions.retain(|have| *filter != *have.filter);
            existed.push(session.subscriptions.len() < before);
        }
        self.remember(identity, session).await?;
        self.machine.unsuback(packet_id, &existed);
        Ok(())
    }

    /// Makes the subscriptions durable before the client is told, where the session lasts.
    pub(super) async fn remember(&mut self, identity: Identity, session: Session) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        if online.session == session {
            return Ok(());
        }
        if online.keeps_session {
            let stored = self.hub.store_session(&identity, session.clone()).await;
            stored.map_err(|error| End::Failed(format!("the subscriptions could not be stored: {error}")))?;
        }
        online.session = session;
        online.follow_subscriptions(&self.hub);
        Ok(())
    }
}
