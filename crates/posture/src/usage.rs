//! Who was used for what, from the stream of decisions, until it is written down.

use std::collections::HashMap;

use hub::access::{Operation, PolicyName, Right, Rights};
use hub::activity::{Activity, CertificateUse, CredentialUse, LongToken, PolicyUse, RightUse};
use hub::decision::{Act, Decision};
use hub::deed::OperationName;
use hub::identity::Identity;
use hub::ports::bus::Ending;
use jiff::Timestamp;
use jiff::tz::TimeZone;

/// What is not written down yet. Whoever holds it writes it every few seconds, so that it holds what a fleet does in
/// that time and no more.
#[derive(Debug, Default)]
pub struct Usage {
    /// By identity: its last use, if it was admitted since, and when its connection ended, if it did since.
    pub identities: HashMap<Identity, Used>,
    /// By policy.
    pub policies: HashMap<PolicyName, PolicyUse>,
}

/// What happened to an identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Used {
    /// Its last use.
    pub admitted: Option<Box<Activity>>,
    /// When its last connection ended.
    pub ended: Option<Timestamp>,
}

impl Usage {
    /// Takes one decision in.
    pub fn observe(&mut self, decision: &Decision) {
        if decision.refusal.is_some() && !matches!(decision.act, Act::Disconnect { .. }) {
            return;
        }
        match (&decision.act, decision.identity.as_deref().and_then(|text| Identity::parse(text).ok())) {
            (Act::Connect | Act::Operation { .. }, Some(identity)) => {
                if let Some(activity) = activity(decision) {
                    self.identities
                        .insert(identity, Used { admitted: Some(Box::new(activity)), ended: None });
                }
                self.policy(decision, Rights::of(&[Right::DeviceConnect]));
            }
            // The one that took over goes on.
            (Act::Disconnect { ending, .. }, Some(identity)) if *ending != Some(Ending::TakenOver) => {
                self.identities.entry(identity).or_default().ended = Some(decision.time);
            }
            (Act::Operation { name }, None) => {
                let needs = match name {
                    OperationName::Service(operation) => operation.needs(),
                    OperationName::Device(_) | OperationName::Other(_) => Rights::NONE,
                };
                self.policy(decision, needs);
            }
            // Of a device's token its connection tells.
            (Act::Token, Some(_)) => {}
            // Readers put a token, or a key, and read.
            (Act::Token, None) => self.policy(decision, Operation::ReadEvents.needs()),
            _ => {}
        }
    }

    /// Takes back what happened before this, because it could not be written down.
    pub fn take_back(&mut self, earlier: Self) {
        for (identity, before) in earlier.identities {
            let used = self.identities.entry(identity).or_default();
            if used.admitted.is_none() {
                *used = Used { admitted: before.admitted, ended: used.ended.or(before.ended) };
            }
        }
        for (policy, mut before) in earlier.policies {
            let used = self.policies.entry(policy).or_default();
            before.merge(std::mem::take(used));
            *used = before;
        }
    }

    fn policy(&mut self, decision: &Decision, rights: Rights) {
        let Some(policy) = &decision.facts.policy else { return };
        let mut used = PolicyUse::default();
        used.days.insert(decision.time.to_zoned(TimeZone::UTC).date(), 1);
        for right in rights.iter() {
            used.rights.insert(right, RightUse { count: 1, last: decision.time });
        }
        used.addresses.extend(decision.origin.address);
        used.sdk = decision.facts.sdk.clone();
        if decision.identity.is_none() {
            used.longest_token = decision.facts.token.as_ref().map(|token| LongToken {
                seconds: u64::try_from(token.se.saturating_sub(decision.time.as_second())).unwrap_or(0),
                presented: decision.time,
            });
        }
        match self.policies.get_mut(policy) {
            Some(have) => have.merge(used),
            None => drop(self.policies.insert(policy.clone(), used)),
        }
    }
}

fn activity(decision: &Decision) -> Option<Activity> {
    let facts = &decision.facts;
    let credential = match (&facts.token, facts.chain.first()) {
        (Some(token), _) => {
            CredentialUse::Token { ends: token.se, policy: facts.policy.clone(), slot: facts.slot }
        }
        (None, Some(leaf)) => CredentialUse::Certificate(Box::new(CertificateUse {
            thumbprint: leaf.thumbprint.clone(),
            public_key: leaf.public_key.clone(),
            serial: leaf.serial.clone(),
            issuer: leaf.issuer.clone(),
            not_before: leaf.not_before,
            not_after: leaf.not_after,
        })),
        (None, None) => return None,
    };
    Some(Activity {
        admitted: decision.time,
        ended: None,
        address: decision.origin.address,
        door: decision.origin.door,
        sdk: facts.sdk.clone(),
        credential,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity::parse("d1").expect("legal")
    }

    fn decision(second: i64, act: Act) -> Decision {
        let mut decision = Decision::new(Timestamp::from_second(second).expect("a time"), act);
        decision.identity = Some("d1".to_owned());
        let token = hub::decision::TokenFacts { sr: String::new(), se: second + 60, skn: None };
        decision.facts.token = Some(token);
        decision.facts.policy = PolicyName::parse("device").ok();
        decision
    }

    fn usage(decisions: &[Decision]) -> Usage {
        let mut usage = Usage::default();
        decisions.iter().for_each(|decision| usage.observe(decision));
        usage
    }

    #[test]
    fn what_is_taken_back_is_as_if_it_had_never_been_taken() {
        let end = || Act::Disconnect { reason: "closed".to_owned(), ending: None };
        let decisions = [
            decision(1, Act::Connect),
            decision(2, end()),
            decision(3, Act::Connect),
            decision(4, end()),
            decision(5, end()),
        ];
        let whole = usage(&decisions);
        for at in 0..=decisions.len() {
            let mut later = usage(&decisions[at..]);
            later.take_back(usage(&decisions[..at]));
            assert_eq!(later.identities[&identity()], whole.identities[&identity()], "cut before {at}");
            assert_eq!(later.policies, whole.policies, "cut before {at}");
        }
    }
}
