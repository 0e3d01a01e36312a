//! CONNECT: who the client is, and what it finds of an earlier connection.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::authenticate::Grant;
use hub::decision::{Act, Facts, cut};
use hub::hub::{Credential, NotAdmitted};
use hub::ports::bus::{Ending, Holder as _};
use hub::record::Session;
use hub::refusal::Refusal;
use hub::telemetry::Sender;
use wire::mqtt::{Connect, ConnectAckReason};

use super::{Conversation, End, Online};
use crate::fronts::mqtt::live::Live;
use crate::fronts::mqtt::three::address::{UserName, client_id, events_bag};
use crate::io::Stream;

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_connect(&mut self, connect: Box<Connect>) -> Result<(), End> {
        let mut claimed = connect.client_id.to_string();
        let admitted = self.admit(&connect, &mut claimed).await;
        let (refusal, code) = match &admitted {
            Ok(_) => (None, ConnectAckReason::ConnectionAccepted),
            Err(NotAdmitted::Refused(refusal)) => (Some(refusal.clone()), ConnectAckReason::NotAuthorized),
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, device.id = claimed, "could not decide on a connection");
                (None, ConnectAckReason::ServiceUnavailable)
            }
        };
        let claimed = cut(&claimed);
        let address = self.visitor.origin.address;
        let pace =
            refusal.as_ref().map(|_| self.hub.backoff.refused(address, Some(&claimed), Instant::now()));
        let pace = pace.unwrap_or_default();
        if !matches!(admitted, Err(NotAdmitted::Unavailable(_))) {
            let (origin, mut facts) = (self.visitor.origin.clone(), self.visitor.facts.clone());
            facts.slowed.clone_from(&pace.slowed);
            self.hub.record(Act::Connect, Some(claimed), origin, facts, refusal);
        }
        let Ok((grant, session, session_present)) = admitted else {
            if !pace.unanswered {
                self.machine.refuse(code);
            }
            return Err(End::NotAdmitted(Box::new(pace)));
        };
        let now = Instant::now();
        let ends = grant.ends.map(|ends| now + until(ends, self.hub.now()));
        let live = Arc::new(Live::new(grant));
        let epoch = self.hub.claim(live.clone());
        let keeps_session = !connect.clean_session;
        let _connected = self.door.connected(&live.grant().basis);
        let mut online = Box::new(Online {
            live,
            _connected,
            epoch,
            ends,
            session,
            keeps_session,
            will: None,
            desired_seen: 0,
            unsettled: None,
        });
        let confirmed = self.hub.clone().confirm(online.live.grant()).await;
        if matches!(confirmed, Err(NotAdmitted::Refused(_))) {
            self.machine.refuse(ConnectAckReason::NotAuthorized);
            self.online = Some(online);
            return Err(End::Ended(Ending::RightEnded));
        }
        self.machine.accept(session_present, now);
        online.will = connect.last_will;
        online.follow_subscriptions(&self.hub);
        self.online = Some(online);
        // Nobody reads the facts of the handshake from here on.
        self.visitor.facts = Facts::default();
        self.visitor.chain = None;
        Ok(())
    }

    pub(super) async fn admit(
        &mut self,
        connect: &Connect,
        claimed: &mut String,
    ) -> Result<(Grant, Session, bool), NotAdmitted> {
        let user_name = connect.username.as_deref().unwrap_or_default();
        let name = UserName::parse(user_name).map_err(|problem| Refusal::UserName { problem })?;
        *claimed = name.identity.to_string();
        self.visitor.facts.sdk = name.client_type.as_deref().map(cut);
        self.visitor.facts.api_version = name.api_version.as_deref().map(cut);
        let hosts = &self.hub.settings.hosts;
        if !hosts.iter().any(|host| host.eq_ignore_ascii_case(hub::sas::host_without_port(&name.host))) {
            return Err(Refusal::UnknownHost { presented: cut(&name.host), names: hosts.clone() }.into());
        }
        if *connect.client_id != client_id(&name.identity) {
            let user_name = name.identity.to_string();
            return Err(Refusal::ClientId { client_id: cut(&connect.client_id), user_name }.into());
        }
        if let Some(will) =
            connect.last_will.as_ref().filter(|will| events_bag(&will.topic, &name.identity).is_none())
        {
            return Err(Refusal::Topic { topic: cut(&will.topic) }.into());
        }
        let password = connect.password.as_deref().unwrap_or_default();
        let password = std::str::from_utf8(password)
            .map_err(|_| Refusal::TokenMalformed { problem: "it is not UTF-8".to_owned() })?;
        let credential = match (&self.visitor.chain, password) {
            (Some(chain), "") => Credential::Certificate(chain),
            (None, "") => Credential::Nothing,
            (_, password) => Credential::Token(password),
        };
        let hub = self.hub.clone();
        let (chain, facts) = (name.auth_chain.as_deref(), &mut self.visitor.facts);
        let mut grant = hub.admit_client(&name.identity, credential, chain, facts).await?;
        if let Some(model_id) = name.model_id {
            if let Err(error) = hub.announce_model(&name.identity, &grant.sender.generation, &model_id).await
            {
                tracing::warn!(device.id = %name.identity, %error, "the model of a device could not be noted");
            }
            grant.sender = Arc::new(Sender { model_id: Some(model_id), ..(*grant.sender).clone() });
        }
        let (mut session, stored) = hub.session(&name.identity, &grant.sender.generation).await?;
        if connect.clean_session && stored.is_some() {
            session.subscriptions.clear();
            hub.store_session(&name.identity, session.clone()).await?;
        }
        let present = !session.subscriptions.is_empty();
        Ok((grant, session, present))
    }
}

/// How long from now to a time in seconds since 1970.
fn until(ends: i64, now: jiff::Timestamp) -> Duration {
    let left = ends.saturating_mul(1_000).saturating_sub(now.as_millisecond());
    // A century is as good as for ever, and does not overflow a clock.
    Duration::from_millis(u64::try_from(left).unwrap_or(0).min(100 * 365 * 86_400_000))
}
