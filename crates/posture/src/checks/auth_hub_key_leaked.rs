//! `auth-hub-key-leaked`: a token for a device was refused that the key of a policy had signed.

use std::collections::BTreeSet;

use hub::access::PolicyName;
use hub::finding::{Finding, Fix, Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts, last_event};
use crate::facts::{HubFacts, SLOTS, text_of};

const ABOUT: About = About {
    id: "auth-hub-key-leaked",
    kind: Kind::Detection,
    severity: Severity::Critical,
    title: "A failed token verifies under a hub key",
    threat: "The key of a policy is in the field: on a unit, or in the hands of somebody who tries it.",
    remedy: "Rotate that key, then give the unit a key of its own. (A Python device that is given a policy's connection \
             string ends here, for that SDK does not name the policy.)",
    covers: &["own", "ETSI 5.4-3", "S06"],
};

pub(super) struct HubKeyLeaked;

impl Check for HubKeyLeaked {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let mut fresh = BTreeSet::new();
        for (identity, leak) in &facts.events.leaks {
            let resource = Resource::identity(identity);
            let evidence = json!({
                "last": leak.time,
                "policy": leak.policy,
                "slot": leak.slot,
                "address": text_of(leak.address),
                "sdk": leak.sdk,
            });
            let summary = format!(
                "A token for {identity} was refused that is signed with the {} key of the policy {}.",
                match leak.slot {
                    hub::record::Slot::Primary => "primary",
                    hub::record::Slot::Secondary => "secondary",
                },
                leak.policy
            );
            let mut found = Found::new(&ABOUT, resource.clone(), summary, evidence);
            found.fix = PolicyName::parse(&leak.policy)
                .ok()
                .map(|policy| Fix::RotatePolicyKey { policy, slot: leak.slot });
            if still_there(facts, &found.fix, leak.time) {
                fresh.insert(resource);
                verdicts.unhealthy(found);
            }
        }
        let holds = |finding: &&Finding| {
            !fresh.contains(&finding.resource)
                && last_event(finding).is_some_and(|last| still_there(facts, &finding.fix, last))
        };
        for finding in context.open_of(ABOUT.id).filter(holds) {
            verdicts.unhealthy(Found::again(finding));
        }
    }
}

/// Whether the key that leaked is still a key of its policy.
fn still_there(facts: &HubFacts<'_>, fix: &Option<Fix>, leaked: jiff::Timestamp) -> bool {
    let Some(Fix::RotatePolicyKey { policy, slot }) = fix else { return false };
    let Some(policy) = facts.policies.iter().find(|have| have.policy.name == *policy) else { return false };
    let mut slots = [&policy.policy.primary, &policy.policy.secondary].into_iter().zip(SLOTS);
    slots.any(|(key, of)| of == *slot && key.set <= leaked)
}
