//! `auth-bruteforce`: guessing, and guessing that succeeds.

use std::collections::BTreeSet;

use hub::finding::{Finding, Fix, IdentityKey, Resource, Severity};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts, last_event};
use crate::events::within;
use crate::facts::{Credential, HubFacts, SLOTS, Subject, text_of};

const ABOUT: About = About {
    id: "auth-bruteforce",
    kind: Kind::Detection,
    severity: Severity::High,
    title: "Guessing, and guessing that succeeds",
    threat: "Somebody tries credentials; one that is admitted after many failures may be a thief.",
    remedy: "Look at the address: a unit with an old key, or a stranger? After a success give the identity new keys.",
    covers: &["Successful Bruteforce attempt", "Failed Bruteforce attempt", "ETSI 5.1-5", "S34"],
};

const WINDOW: SignedDuration = SignedDuration::from_mins(5);
const FAILURES_MIN: usize = 10;
/// After which failures alone are forgotten.
const QUIET: SignedDuration = SignedDuration::from_hours(1);

/// An open finding of success closes when the keys are new.
#[derive(Default)]
pub(super) struct Bruteforce;

impl Check for Bruteforce {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        let Some(open) = context.open_about(ABOUT.id, subject).filter(|open| is_success(open)) else {
            return;
        };
        let since = last_event(open).unwrap_or(Timestamp::MIN);
        let renewed = match &subject.credential {
            Credential::Keys(keys) => keys.iter().all(|key| key.set > since),
            Credential::Thumbprints(_) | Credential::Authority | Credential::None => false,
        };
        if !renewed {
            verdicts.unhealthy(Found::again(open));
        }
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let mut seen: BTreeSet<Resource> =
            verdicts.found.iter().flat_map(|found| found.resources.clone()).collect();
        for (identity, guessed) in &facts.events.guessed {
            let resource = Resource::identity(identity);
            if !seen.insert(resource.clone()) || renewed_since(context, &resource, guessed.time) {
                continue;
            }
            let summary =
                format!("{identity} was admitted after {} refusals in 10 minutes.", guessed.failures);
            let evidence = json!({
                "succeeded": true,
                "last": guessed.time,
                "failures": guessed.failures,
                "address": text_of(guessed.address),
            });
            let keys = SLOTS.map(|slot| IdentityKey { identity: identity.clone(), slot }).to_vec();
            verdicts.unhealthy(
                Found::new(&ABOUT, resource, summary, evidence).with_fix(Fix::RotateKeys { keys }),
            );
        }
        let of = facts.events.failures_of.iter().map(|(name, times)| (Resource::identity(name), times));
        let from = facts
            .events
            .failures_from
            .iter()
            .map(|(address, times)| (Resource::new("address", &address.to_string()), times));
        for (resource, times) in of.chain(from) {
            let failures = within(times.iter(), context.now, WINDOW);
            if failures < FAILURES_MIN || !seen.insert(resource.clone()) {
                continue;
            }
            let summary = format!("{resource}: {failures} or more credentials were refused in 5 minutes.");
            let evidence = json!({ "succeeded": false, "last": times.back(), "failures": failures });
            let found = Found::new(&ABOUT, resource, summary, evidence);
            verdicts.unhealthy(Found { severity: Severity::Low, ..found });
        }
        for finding in context.not_quiet(ABOUT.id, QUIET) {
            if !is_success(finding) && !seen.contains(&finding.resource) {
                verdicts.unhealthy(Found::again(finding));
            }
        }
    }
}

fn is_success(finding: &Finding) -> bool {
    finding.evidence["succeeded"] == true
}

/// Whether the finding of this very success was open and is not any more: its keys are new, while the event of it is
/// still remembered.
fn renewed_since(context: &Context, resource: &Resource, time: Timestamp) -> bool {
    context.open(ABOUT.id, resource).is_some_and(|open| is_success(open) && last_event(open) == Some(time))
}
