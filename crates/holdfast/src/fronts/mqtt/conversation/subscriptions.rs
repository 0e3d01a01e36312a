//! What a client subscribes to, and what its session remembers of it.

use bytestring::ByteString;
use hub::decision::cut;
use hub::deed::DeviceOperation;
use hub::identity::Identity;
use hub::limits::SUBSCRIPTIONS_MAX;
use hub::record::{Session, Subscription};
use hub::refusal::Refusal;
use wire::mqtt::five::SubscribeAckReason;
use wire::mqtt::{PacketId, QoS};

use super::{Conversation, End, Spoken};
use crate::fronts::mqtt::five::filters;
use crate::fronts::mqtt::three::address::may_subscribe;
use crate::fronts::mqtt::three::{answers, device_bound};
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_subscribe(
        &mut self,
        packet_id: PacketId,
        filters: Vec<(ByteString, QoS)>,
    ) -> Result<(), End> {
        let identity = self.identity()?.clone();
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let mut session = online.session.clone();
        let (mut answers, mut refused) = (Vec::with_capacity(filters.len()), None);
        for (filter, qos) in filters {
            let answer = subscribe(&mut session, &online.spoken, &identity, &filter, qos);
            if let Err(reason) = &answer {
                let refusal = || match reason {
                    SubscribeAckReason::QuotaExceeded => {
                        Refusal::SubscriptionsFull { limit: SUBSCRIPTIONS_MAX }
                    }
                    _ => Refusal::TopicFilter { filter: cut(&filter) },
                };
                match &online.spoken {
                    // MQTT 3.1.1 closes, whatever else was asked for.
                    Spoken::Three => return Err(End::Refused(refusal())),
                    // The first stands for all of the packet.
                    Spoken::Five(_) => {
                        refused.get_or_insert_with(refusal);
                    }
                }
            }
            answers.push(answer);
        }
        if let Some(refusal) = refused {
            self.record_refused(DeviceOperation::Subscribe, refusal)?;
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
            existed.push(session.subscriptions.len() < before || online.spoken.is_implicit(&filter));
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

/// Adds a subscription, or puts it in the place of one with the same filter; gives what is granted.
fn subscribe(
    session: &mut Session,
    spoken: &Spoken,
    identity: &Identity,
    filter: &str,
    qos: QoS,
) -> Result<QoS, SubscribeAckReason> {
    if spoken.is_implicit(filter) {
        return Ok(QoS::AtMostOnce);
    }
    spoken.judge(filter, identity)?;
    // QoS 2 is granted as 1.
    let granted = if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
    session.subscriptions.retain(|have| *have.filter != *filter);
    // Asked for each, so that no packet makes the list longer than this.
    if session.subscriptions.len() >= SUBSCRIPTIONS_MAX {
        return Err(SubscribeAckReason::QuotaExceeded);
    }
    session.subscriptions.push(Subscription { filter: filter.to_owned(), qos: granted.into() });
    Ok(granted)
}

/// What subscriptions mean in the version that is spoken.
impl Spoken {
    /// Why an identity may not subscribe to a filter, if it may not.
    pub(super) fn judge(&self, filter: &str, identity: &Identity) -> Result<(), SubscribeAckReason> {
        match self {
            Self::Three if may_subscribe(filter, identity) => Ok(()),
            Self::Three => Err(SubscribeAckReason::TopicFilterInvalid),
            Self::Five(_) => filters::judge(filter),
        }
    }

    /// Whether what a filter stands for comes without it.
    fn is_implicit(&self, filter: &str) -> bool {
        matches!(self, Self::Five(_)) && filters::is_implicit(filter)
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
