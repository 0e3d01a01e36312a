//! What a client proves: SASL, tokens put on the connection, and what becomes of them.

use std::time::Instant;

use bytes::BytesMut;
use hub::authenticate::ServiceGrant;
use hub::backoff::Pace;
use hub::decision::{Act, Facts};
use hub::hub::NotAdmitted;
use hub::refusal::Refusal;
use wire::amqp::connection::SessionId;
use wire::amqp::message::{Message, MessageWriter};
use wire::amqp::sasl::{SaslBytes, SaslCode, SaslInit};

use super::{Conversation, Link};
use crate::fronts::amqp::cbs;
use crate::io::Stream;

/// An answer that waits.
pub(super) struct Held {
    pub(super) until: Instant,
    pub(super) pace: Pace,
    pub(super) answer: Outcome,
}

/// What a client whose token was refused is told.
pub(super) enum Outcome {
    Sasl,
    Cbs(SessionId, BytesMut),
}

impl<S: Stream> Conversation<S> {
    /// Decides a request to `$cbs`, which is settled already.
    pub(super) async fn on_token_request(&mut self, session: SessionId, request: &Message<'_>) {
        let mut facts = self.facts();
        let hub = self.front.hub.clone();
        let verdict = cbs::decide(&hub, request, &mut facts).await;
        let mut answer = BytesMut::new();
        cbs::answer(&mut MessageWriter::new(&mut answer), request, verdict.status, &verdict.description);
        let answer = Outcome::Cbs(session, answer);
        if let Some(refusal) = verdict.refusal {
            let policy = facts.token.as_ref().and_then(|token| token.skn.as_deref());
            let name = policy.map(|policy| format!("policy {policy}"));
            return self.refuse(name.as_deref(), facts, refusal, answer);
        }
        if let Some(grant) = verdict.grant {
            self.record(Act::Token, Some(facts), None);
            self.take_grant(grant);
        }
        self.tell(answer);
    }

    /// Records that a token was refused, and tells the client in due time.
    pub(super) fn refuse(&mut self, name: Option<&str>, mut facts: Facts, refusal: Refusal, answer: Outcome) {
        let now = Instant::now();
        let pace = self.front.hub.backoff.refused(self.visitor.origin.address, name, now);
        facts.slowed.clone_from(&pace.slowed);
        self.record(Act::Token, Some(facts), Some(refusal));
        match pace.slowed {
            None => self.tell(answer),
            Some(_) => self.held = Some(Held { until: now + pace.wait, pace, answer }),
        }
    }

    pub(super) fn tell(&mut self, answer: Outcome) {
        match answer {
            Outcome::Sasl => {
                let _ = self.machine.sasl_outcome(SaslCode::Auth, None, Instant::now());
            }
            Outcome::Cbs(session, answer) => {
                self.answer(session, |link| matches!(link, Link::CbsAnswers(_)), answer);
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
        self.end_readers_without_right(
            "The policy was changed.",
            Refusal::RightEnded { because, change: None },
        );
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
            let refusal = Refusal::Protocol { problem };
            return self.refuse(None, self.facts(), refusal, Outcome::Sasl);
        };
        let policy = name.split_once("@sas.root.").map_or(name, |(policy, _)| policy);
        let mut facts = self.facts();
        let hub = self.front.hub.clone();
        let admitted = match password.starts_with("SharedAccessSignature") {
            true => hub.admit_reader(password, &mut facts).await,
            false => hub.admit_reader_by_key(policy, password, &mut facts).await,
        };
        match admitted {
            Ok(grant) => {
                self.record(Act::Token, Some(facts), None);
                self.take_grant(grant);
                let _ = self.machine.sasl_outcome(SaslCode::Ok, welcome(), now);
            }
            Err(NotAdmitted::Refused(refusal)) => {
                let name = format!("policy {policy}");
                self.refuse(Some(&name), facts, refusal, Outcome::Sasl);
            }
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, "could not decide on a connection");
                let _ = self.machine.sasl_outcome(SaslCode::SysTemp, None, now);
            }
        }
    }

    fn take_grant(&mut self, grant: ServiceGrant) {
        self.grants.retain(|held| held.policy != grant.policy);
        self.grants.push(grant);
        self.token_deadline = None;
    }
}
