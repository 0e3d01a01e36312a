//! What a client subscribes to, and what its session remembers of it.

use bytestring::ByteString;
use hub::decision::cut;
use hub::identity::Identity;
use hub::record::{Session, Subscription};
use hub::refusal::Refusal;
use wire::mqtt::five::SubscribeAckReason;
use wire::mqtt::{PacketId, QoS};

use super::{Conversation, End, Spoken};
use crate::fronts::mqtt::five::filters::{self, is_implicit, judge};
use crate::fronts::mqtt::three::address::may_subscribe;
use crate::fronts::mqtt::three::{answers, device_bound};
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
        let is_five = matches!(online.spoken, Spoken::Five(_));
        let (mut answers, mut refused) = (Vec::with_capacity(filters.len()), None);
        for (filter, qos) in filters {
            if is_five && is_implicit(&filter) {
                answers.push(Ok(QoS::AtMostOnce));
                continue;
            }
            let judged = match is_five {
                false if may_subscribe(&filter, &identity) => Ok(()),
                false => Err(SubscribeAckReason::TopicFilterInvalid),
                true => judge(&filter),
            };
            if let Err(reason) = judged {
                refused.get_or_insert_with(|| Refusal::TopicFilter { filter: cut(&filter) });
                answers.push(Err(reason));
                continue;
            }
            // QoS 2 is granted as 1.
            let granted = if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            session.subscriptions.retain(|have| *have.filter != *filter);
            // Asked for each, so that no packet makes the list longer than this.
            if session.subscriptions.len() >= SUBSCRIPTIONS_MAX {
                refused.get_or_insert(Refusal::SubscriptionsFull { limit: SUBSCRIPTIONS_MAX });
                answers.push(Err(SubscribeAckReason::QuotaExceeded));
                continue;
            }
            session.subscriptions.push(Subscription { filter: filter.to_string(), qos: granted.into() });
            answers.push(Ok(granted));
        }
        match refused {
            // MQTT 3.1.1 closes, whatever else was asked for.
            Some(refusal) if !is_five => return Err(End::Refused(refusal)),
            // The first stands for all of the packet.
            Some(refusal) => self.record_refused("subscribe", refusal)?,
            None => {}
        }
        self.remember(identity, session).await?;
        self.machine.suback(packet_id, answers);
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
            existed.push(session.subscriptions.len() < before || is_implicit(&filter));
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

/// What subscriptions mean in the version that is spoken.
impl Spoken {
    /// Whether an identity may subscribe to a filter.
    pub(super) fn may_subscribe(&self, filter: &str, identity: &Identity) -> bool {
        match self {
            Self::Three => may_subscribe(filter, identity),
            Self::Five(_) => judge(filter).is_ok(),
        }
    }

    /// Whether calls of methods are wanted, at least of some.
    pub(super) fn wants_calls(&self, session: &Session) -> bool {
        match self {
            Self::Three => answers::wants_calls(session),
            Self::Five(_) => filters::wants_calls(session),
        }
    }

    /// Whether changes of the desired properties are wanted.
    pub(super) fn wants_desired(&self, session: &Session) -> bool {
        match self {
            Self::Three => answers::wants_desired(session),
            Self::Five(_) => filters::wants_desired(session),
        }
    }

    /// At which quality of service device-bound messages are wanted, if they are.
    pub(super) fn messages(&self, session: &Session, identity: &Identity) -> Option<QoS> {
        match self {
            Self::Three => device_bound::granted(session, identity),
            Self::Five(_) => filters::granted(session),
        }
    }
}
