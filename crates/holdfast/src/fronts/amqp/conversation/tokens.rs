//! What a client proves: SASL, tokens put on the connection, and what becomes of them.

use std::time::Instant;

use bytes::BytesMut;
use hub::backoff::Pace;
use hub::decision::Act;
use hub::hub::{Credential, NotAdmitted};
use hub::identity::Identity;
use hub::put_token::Admitted;
use hub::refusal::Refusal;
use hub::refusing::Refused;
use hub::service_grant::ServiceGrant;
use percent_encoding::percent_decode_str;
use wire::amqp::connection::{LinkId, SessionId};
use wire::amqp::message::{Message, MessageWriter};
use wire::amqp::performative::Error;
use wire::amqp::sasl::{SaslBytes, SaslCode, SaslInit};

use super::{Conversation, Link};
use crate::fronts::amqp::cbs;
use crate::io::Stream;

/// Tokens of policies on one connection. Clients of Event Hubs put one for each partition and consumer group that they
/// read.
const GRANTS_MAX: usize = 1_000;

/// An answer that waits.
pub(super) struct Held {
    until: Instant,
    /// Counted as waiting until it is dropped.
    _pace: Pace,
    answer: Outcome,
}

/// What a client is told whose token was refused, or its link.
pub(super) enum Outcome {
    Sasl,
    Cbs(SessionId, BytesMut),
    Attach(LinkId, Error),
}

impl<S: Stream> Conversation<S> {
    /// Decides a request to `$cbs`, which is settled already.
    pub(super) async fn on_token_request(&mut self, session: SessionId, request: &Message<'_>) {
        let mut facts = self.facts();
        let hub = self.front.hub.clone();
        let mut verdict = cbs::decide(&hub, request, &mut facts).await;
        if let Some(admitted) = verdict.admitted {
            self.visitor.admission.admit().await;
            let token = facts.token.clone();
            let taken = match admitted {
                Admitted::Policy(grant) => self.take_grant(grant).await,
                Admitted::Identity(grant) => self.take_token(grant, token).await,
            };
            match taken {
                Ok(()) => self.record_of(Act::Token, verdict.identity.as_ref(), facts.clone(), None),
                Err(refusal) => {
                    verdict.status = 403;
                    verdict.description = "The connection has too many tokens.".to_owned();
                    verdict.refusal = Some(refusal);
                }
            }
        }
        let mut answer = BytesMut::new();
        cbs::answer(&mut MessageWriter::new(&mut answer), request, verdict.status, &verdict.description);
        let answer = Outcome::Cbs(session, answer);
        match verdict.refusal {
            None => self.tell(answer),
            Some(refusal) => {
                let identity = verdict.identity.as_ref().map(ToString::to_string);
                self.refuse(Refused { act: Act::Token, identity, facts, refusal }, answer);
            }
        }
    }

    /// Records that a credential was refused, and tells the client in due time.
    pub(super) fn refuse(&mut self, refused: Refused, answer: Outcome) {
        let now = Instant::now();
        let pace = self.front.hub.refuse(refused, self.visitor.origin.clone(), now);
        match pace.slowed {
            None => self.tell(answer),
            Some(_) => self.held.push(Held { until: now + pace.wait, _pace: pace, answer }),
        }
    }

    /// Whether an answer waits and nothing more is read until it was given. Where somebody else was admitted on the
    /// connection, only the one who was refused waits.
    pub(super) fn is_held(&self) -> bool {
        !self.held.is_empty() && self.grants.is_empty() && self.devices.is_empty()
    }

    /// When the next answer that waits is due.
    pub(super) fn next_answer(&self) -> Option<Instant> {
        self.held.iter().map(|held| held.until).min()
    }

    /// Gives the answers that waited for long enough.
    pub(super) fn give_answers(&mut self, now: Instant) {
        let due: Vec<Held> = self.held.extract_if(.., |held| held.until <= now).collect();
        due.into_iter().for_each(|held| self.tell(held.answer));
    }

    fn tell(&mut self, answer: Outcome) {
        match answer {
            Outcome::Sasl => {
                let _ = self.machine.sasl_outcome(SaslCode::Auth, None, Instant::now());
            }
            Outcome::Cbs(session, answer) => {
                self.answer(session, |link| matches!(link, Link::CbsAnswers(_)), answer);
            }
            Outcome::Attach(link, error) => {
                // The client may have given up.
                let _ = self.machine.refuse_attach(link, error);
            }
        }
    }

    /// Decides all grants again after a change of policies.
    pub(super) async fn recheck(&mut self) {
        let hub = self.front.hub.clone();
        let (mut kept, mut because) = (Vec::new(), None);
        for grant in std::mem::take(&mut self.grants) {
            match hub.service_still_holds(&grant).await {
                Err(NotAdmitted::Refused(refusal)) => because = Some(refusal.cause().to_owned()),
                Ok(()) | Err(NotAdmitted::Unavailable(_)) => kept.push(grant),
            }
        }
        self.grants = kept;
        let refusal = Refusal::RightEnded { because, change: None };
        self.end_services_without_right("The policy was changed.", &refusal);
    }

    pub(super) async fn on_sasl(&mut self, init: SaslInit) {
        let now = Instant::now();
        let welcome = || Some(SaslBytes(b"Welcome!".to_vec()));
        if init.mechanism != "PLAIN" {
            // Nothing is proved yet; only `$cbs` may be used until a token is put.
            let _ = self.machine.sasl_outcome(SaslCode::Ok, welcome(), now);
            return;
        }
        let response = init.initial_response.map(|bytes| bytes.0).unwrap_or_default();
        let mut parts = response.split(|byte| *byte == 0).skip(1).map(|part| std::str::from_utf8(part).ok());
        let (Some(Some(name)), Some(Some(password))) = (parts.next(), parts.next()) else {
            let problem = "the response of SASL PLAIN has no name and password".to_owned();
            let (act, facts) = (Act::Token, self.facts());
            let refusal = Refusal::Protocol { problem };
            return self.refuse(Refused { act, identity: None, facts, refusal }, Outcome::Sasl);
        };
        let mut facts = self.facts();
        let hub = self.front.hub.clone();
        let (name, identity) = plain_name(name);
        let is_token = password.starts_with("SharedAccessSignature");
        let admitted = match &identity {
            Some(identity) => {
                hub.admit(identity, Credential::Token(password), &mut facts).await.map(Admitted::Identity)
            }
            None if is_token => hub.admit_put_token(password, &mut facts).await.admitted,
            None => hub.admit_reader_by_key(name, password, &mut facts).await.map(Admitted::Policy),
        };
        match admitted {
            Ok(admitted) => {
                self.visitor.admission.admit().await;
                self.record_of(Act::Token, identity.as_ref(), facts.clone(), None);
                // The first of a connection always has room.
                let _ = match admitted {
                    Admitted::Policy(grant) => self.take_grant(grant).await,
                    Admitted::Identity(grant) => self.take_token(grant, facts.token.take()).await,
                };
                let _ = self.machine.sasl_outcome(SaslCode::Ok, welcome(), now);
            }
            Err(NotAdmitted::Refused(refusal)) => {
                let identity = identity.as_ref().map(ToString::to_string);
                self.refuse(Refused { act: Act::Token, identity, facts, refusal }, Outcome::Sasl);
            }
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, "could not decide on a connection");
                let _ = self.machine.sasl_outcome(SaslCode::SysTemp, None, now);
            }
        }
    }

    /// Takes note of the token of a policy: it takes the place of the one before that was for the same.
    async fn take_grant(&mut self, grant: ServiceGrant) -> Result<(), Refusal> {
        self.grants.retain(|held| (&held.policy, &held.scope) != (&grant.policy, &grant.scope));
        if self.grants.len() >= GRANTS_MAX {
            return Err(Refusal::TokensFull { limit: GRANTS_MAX });
        }
        self.renew_by_policy(&grant).await;
        // Most connections put one.
        self.grants.reserve_exact(1);
        self.grants.push(grant);
        self.token_deadline = None;
        Ok(())
    }
}

/// Reads the name of SASL PLAIN (`docs/protocol/amqp.md` §3): `{policy}@sas.root.{hub}`, or a policy as Event Hubs
/// clients name it; `{device}@sas.{hub}` or `{device}/modules/{module}@sas.{hub}`, also without `sas.`.
fn plain_name(name: &str) -> (&str, Option<Identity>) {
    if let Some((policy, _)) = name.rsplit_once("@sas.root.") {
        return (policy, None);
    }
    let Some((name, _)) = name.rsplit_once("@sas.").or_else(|| name.rsplit_once('@')) else {
        return (name, None);
    };
    let identity = percent_decode_str(name).decode_utf8_lossy().replacen("/modules/", "/", 1);
    (name, Identity::parse(&identity).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_sasl_plain_are_told_apart() {
        let cases = [
            ("service@sas.root.hub", "service", None),
            ("RootManageSharedAccessKey", "RootManageSharedAccessKey", None),
            ("pump-1@sas.hub", "pump-1", Some("pump-1")),
            ("pump-1/modules/m%2B1@sas.hub", "pump-1/modules/m%2B1", Some("pump-1/m+1")),
            ("a@b@sas.hub", "a@b", Some("a@b")),
            ("pump-1@hub", "pump-1", Some("pump-1")),
            ("no id@sas.hub", "no id", None),
        ];
        for (text, name, identity) in cases {
            let (found, of) = plain_name(text);
            assert_eq!((found, of.map(|of| of.to_string()).as_deref()), (name, identity), "{text}");
        }
    }
}
