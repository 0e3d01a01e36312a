//! CONNECT: who the client is, and what it finds of an earlier connection.

use std::mem::take;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub::authenticate::Grant;
use hub::backoff::Pace;
use hub::decision::{Act, cut};
use hub::hub::{Credential, NotAdmitted};
use hub::identity::Identity;
use hub::ports::bus::{Ending, Holder as _};
use hub::properties::stamp;
use hub::record::Session;
use hub::refusal::Refusal;
use hub::refusing::Refused;
use hub::signed_context::SignedContext;
use hub::telemetry::Sender;
use hub::twin::check_model_id;
use wire::mqtt::five::{Connect as ConnectFive, ConnectAckReason as Reason};
use wire::mqtt::{Connect, ConnectAckReason, LastWill};

use super::telemetry::Will;
use super::{Conversation, End, Online, Spoken};
use crate::fronts::mqtt::five::operation::telemetry;
use crate::fronts::mqtt::five::outcome::Outcome;
use crate::fronts::mqtt::five::{self, TELEMETRY};
use crate::fronts::mqtt::live::Live;
use crate::fronts::mqtt::three::address::{UserName, client_id, events_bag};
use crate::fronts::mqtt::three::properties;
use crate::io::Stream;

/// What a client asks for, whatever version it speaks.
struct Asked<'a> {
    identity: Identity,
    proof: Proof<'a>,
    model_id: Option<String>,
    /// The way to the gateway that connects the client, where one does.
    auth_chain: Option<String>,
    will: Option<Box<Will>>,
    /// It does not want what an earlier connection left.
    begins_anew: bool,
    /// Its session outlives the connection.
    keeps_session: bool,
    spoken: Spoken,
}

/// By what it wants to be admitted.
enum Proof<'a> {
    Token(&'a str),
    Context(Box<SignedContext>),
    /// That of the handshake, if there is one.
    Certificate,
}

impl<S: Stream> Conversation<S> {
    pub(super) async fn on_connect(&mut self, connect: Box<Connect>) -> Result<(), End> {
        let mut claimed = connect.client_id.to_string();
        let asked = self.read_three(&connect, &mut claimed);
        self.connect(asked, &claimed).await
    }

    pub(super) async fn on_connect_five(&mut self, connect: Box<ConnectFive>) -> Result<(), End> {
        let asked = self.read_five(&connect);
        self.connect(asked, &connect.client_id).await
    }

    /// Admits the client, or answers that it is not.
    async fn connect(&mut self, asked: Result<Asked<'_>, Refusal>, claimed: &str) -> Result<(), End> {
        let admitted = match &asked {
            Ok(asked) => self.admit(asked).await,
            Err(refusal) => Err(refusal.clone().into()),
        };
        let refusal = match &admitted {
            Err(NotAdmitted::Refused(refusal)) => Some(refusal.clone()),
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, device.id = claimed, "could not decide on a connection");
                None
            }
            Ok(_) => None,
        };
        let (identity, origin) = (Some(cut(claimed)), self.visitor.origin.clone());
        let ((grant, session, session_present), asked) = match (admitted, asked) {
            (Ok(admitted), Ok(asked)) => {
                self.hub.record(Act::Connect, identity, origin, take(&mut self.visitor.facts), None);
                (admitted, asked)
            }
            _ => {
                let pace = refusal.clone().map_or_else(Pace::default, |refusal| {
                    let facts = take(&mut self.visitor.facts);
                    let refused = Refused { act: Act::Connect, identity, facts, refusal };
                    self.hub.refuse(refused, origin, Instant::now())
                });
                self.refuse(refusal.as_ref());
                return Err(End::NotAdmitted(Box::new(pace)));
            }
        };
        self.visitor.admission.admit().await;
        let now = Instant::now();
        let ends = grant.ends.map(|ends| now + until(ends, self.hub.now()));
        let live = Arc::new(Live::new(grant));
        let epoch = self.hub.claim(live.clone());
        let _connected = self.door.connected(&live.grant().basis);
        let online = Box::new(Online {
            live,
            _connected,
            epoch,
            ends,
            session,
            keeps_session: asked.keeps_session,
            session_goes_on: session_present,
            will: None,
            desired_seen: 0,
            unsettled: None,
            spoken: asked.spoken,
        });
        let confirmed = self.hub.clone().confirm(online.live.grant()).await;
        let online = self.online.insert(online);
        if let Err(NotAdmitted::Refused(refusal)) = confirmed {
            self.refuse(Some(&refusal));
            return Err(End::Ended(Ending::RightEnded));
        }
        self.machine.accept(session_present, now);
        online.will = asked.will;
        online.follow_subscriptions(&self.hub);
        // Nobody reads the certificates of the handshake from here on.
        self.visitor.chain = None;
        Ok(())
    }

    /// Reads a CONNECT of MQTT 3.1.1.
    fn read_three<'a>(&mut self, connect: &'a Connect, claimed: &mut String) -> Result<Asked<'a>, Refusal> {
        let user_name = connect.username.as_deref().unwrap_or_default();
        let name = UserName::parse(user_name).map_err(|problem| Refusal::UserName { problem })?;
        *claimed = name.identity.to_string();
        self.visitor.facts.sdk = name.client_type.as_deref().map(cut);
        self.visitor.facts.api_version = name.api_version.as_deref().map(cut);
        self.check_host(&name.host)?;
        name.model_id
            .as_deref()
            .map_or(Ok(()), check_model_id)
            .map_err(|problem| Refusal::UserName { problem })?;
        if *connect.client_id != client_id(&name.identity) {
            let user_name = name.identity.to_string();
            return Err(Refusal::ClientId { client_id: cut(&connect.client_id), user_name });
        }
        let will = connect.last_will.as_ref().map(|will| will_of(will, &name.identity)).transpose()?;
        let password = connect.password.as_deref().unwrap_or_default();
        let password = std::str::from_utf8(password)
            .map_err(|_| Refusal::TokenMalformed { problem: "it is not UTF-8".to_owned() })?;
        Ok(Asked {
            identity: name.identity,
            proof: if password.is_empty() { Proof::Certificate } else { Proof::Token(password) },
            model_id: name.model_id,
            auth_chain: name.auth_chain,
            will,
            begins_anew: connect.clean_session,
            keeps_session: !connect.clean_session,
            spoken: Spoken::Three,
        })
    }

    /// Reads a CONNECT of MQTT 5.
    fn read_five(&mut self, connect: &ConnectFive) -> Result<Asked<'static>, Refusal> {
        let presented = five::connect::read(connect, &mut self.visitor.facts)?;
        self.check_host(&presented.host)?;
        let will = connect.last_will.as_ref().map(|will| {
            if *will.topic != *TELEMETRY {
                return Err(Refusal::Topic { topic: cut(&will.topic) });
            }
            let properties = telemetry(will.content_type.as_ref(), &will.user_properties);
            let (system, application) = properties.map_err(|misuse| misuse.refusal)?;
            Ok(Will::new(system, application, &will.message))
        });
        let context = presented.context.map(|context| Proof::Context(Box::new(context)));
        Ok(Asked {
            identity: presented.identity,
            proof: context.unwrap_or(Proof::Certificate),
            model_id: None,
            auth_chain: None,
            will: will.transpose()?,
            begins_anew: connect.clean_start,
            keeps_session: connect.session_expiry_interval_secs > 0,
            spoken: Spoken::Five(Box::new(presented.held)),
        })
    }

    fn check_host(&self, host: &str) -> Result<(), Refusal> {
        let names = &self.hub.settings.hosts;
        if names.iter().any(|name| name.eq_ignore_ascii_case(hub::sas::host_without_port(host))) {
            return Ok(());
        }
        Err(Refusal::UnknownHost { presented: cut(host), names: names.clone() })
    }

    async fn admit(&mut self, asked: &Asked<'_>) -> Result<(Grant, Session, bool), NotAdmitted> {
        let Asked { identity, spoken, .. } = asked;
        let credential = match (&asked.proof, &self.visitor.chain) {
            (Proof::Token(token), _) => Credential::Token(token),
            (Proof::Context(context), _) => Credential::Context(context),
            (Proof::Certificate, Some(chain)) => Credential::Certificate(chain),
            (Proof::Certificate, None) => Credential::Nothing,
        };
        let hub = self.hub.clone();
        let (chain, facts) = (asked.auth_chain.as_deref(), &mut self.visitor.facts);
        let mut grant = hub.admit_client(identity, credential, chain, facts).await?;
        if let Some(model_id) = &asked.model_id {
            if let Err(error) = hub.announce_model(identity, &grant.sender.generation, model_id).await {
                tracing::warn!(device.id = %identity, %error, "the model of a device could not be noted");
            }
            let model_id = Some(model_id.clone());
            grant.sender = Arc::new(Sender { model_id, ..(*grant.sender).clone() });
        }
        let (mut session, stored) = hub.session(identity, &grant.sender.generation).await?;
        if asked.begins_anew {
            session.subscriptions.clear();
        }
        // One that does not outlive the connection is not stored while it lasts.
        if stored.is_some() && (asked.begins_anew || !asked.keeps_session) {
            hub.store_session(identity, Session { subscriptions: Vec::new(), ..session.clone() }).await?;
        }
        // What was subscribed to in another version has no meaning in this one.
        session.subscriptions.retain(|have| spoken.judge(&have.filter, identity).is_ok());
        let present = !session.subscriptions.is_empty();
        Ok((grant, session, present))
    }

    /// Tells a client that it is not admitted; without a refusal, that the hub could not decide. All that concerns who it
    /// is gets one answer.
    fn refuse(&mut self, refusal: Option<&Refusal>) {
        if !self.machine.speaks_five() {
            return self.machine.refuse(match refusal {
                Some(_) => ConnectAckReason::NotAuthorized,
                None => ConnectAckReason::ServiceUnavailable,
            });
        }
        let (reason, properties) = match refusal {
            None => (Reason::ServerUnavailable, Vec::new()),
            Some(Refusal::AuthenticationProperties { problem } | Refusal::MalformedOperation { problem }) => {
                (Reason::ImplementationSpecificError, Outcome::bad_request(problem.as_str()).properties())
            }
            Some(Refusal::IllegalId { .. }) => (Reason::ClientIdentifierNotValid, Vec::new()),
            Some(Refusal::Topic { .. }) => (Reason::TopicNameInvalid, Vec::new()),
            Some(_) => (Reason::NotAuthorized, Vec::new()),
        };
        self.machine.refuse_five(reason, properties);
    }
}

/// The will of a client of MQTT 3.1.1.
fn will_of(will: &LastWill, identity: &Identity) -> Result<Box<Will>, Refusal> {
    let bag = events_bag(&will.topic, identity).ok_or_else(|| Refusal::Topic { topic: cut(&will.topic) })?;
    let (system, mut application) = properties::parse(bag);
    if will.retain {
        stamp(&mut application, "mqtt-retain", "true");
    }
    Ok(Will::new(system, application, &will.message))
}

/// How long from now to a time in seconds since 1970.
pub(super) fn until(ends: i64, now: jiff::Timestamp) -> Duration {
    let left = ends.saturating_mul(1_000).saturating_sub(now.as_millisecond());
    // A century is as good as for ever, and does not overflow a clock.
    Duration::from_millis(u64::try_from(left).unwrap_or(0).min(100 * 365 * 86_400_000))
}
