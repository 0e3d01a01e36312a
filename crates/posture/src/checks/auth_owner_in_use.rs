//! `auth-owner-in-use`: a service runs with a policy that may do everything.

use hub::access::{Right, Rights};
use hub::finding::{Fix, Resource, Severity};
use jiff::ToSpan as _;
use jiff::tz::TimeZone;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{HubFacts, PolicyFacts};

const ABOUT: About = About {
    id: "auth-owner-in-use",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "Owner policy used by a running service",
    threat: "Whoever takes the connection string from that service may read every key, delete every device, and speak \
             as any of them.",
    remedy: "Make a policy for each component with the rights that it uses, and keep the owner's for people.",
    covers: &["IOT_POLICY_OVERLY_PERMISSIVE_CHECK", "ETSI 5.6-7", "NIST LA2", "S09", "S10", "S13"],
};

const WINDOW_DAYS: i32 = 7;
const DAYS_MIN: usize = 2;

pub(super) struct OwnerInUse;

impl Check for OwnerInUse {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let today = context.now.to_zoned(TimeZone::UTC).date();
        let Ok(since) = today.checked_sub(WINDOW_DAYS.days()) else { return };
        for policy in facts.policies {
            if policy.policy.rights != Rights::of(&Right::ALL) {
                verdicts.not_applicable += 1;
                continue;
            }
            let days: Vec<_> = policy.used.days.keys().filter(|day| **day > since).collect();
            verdicts.judge((days.len() >= DAYS_MIN).then(|| found(policy, &days, facts)));
        }
    }
}

fn found(policy: &PolicyFacts, days: &[&jiff::civil::Date], facts: &HubFacts<'_>) -> Found {
    let name = &policy.policy.name;
    let used: Vec<Right> = policy.used.rights.keys().copied().collect();
    let rights = Rights::of(&used);
    let evidence = json!({
        "days": days,
        "rightsUsed": policy.used.rights,
        "addresses": policy.used.addresses,
        "sdk": policy.used.sdk,
    });
    let summary = format!(
        "The policy {name}, which may do everything, was used on {} of the last {WINDOW_DAYS} days; what it was used for \
         needs {}.",
        days.len(),
        if used.is_empty() { "no right".to_owned() } else { rights.to_string() },
    );
    let mut found = Found::new(&ABOUT, Resource::new("policy", name.as_str()), summary, evidence);
    let narrow = hub::access::PolicyName::parse(&format!("{name}-observed")).ok();
    match narrow {
        Some(narrow) if facts.policies.iter().any(|have| have.policy.name == narrow) => {
            found.advice =
                format!("Move the service to the policy {narrow}, which has the rights that it uses.");
        }
        Some(policy) if !used.is_empty() && rights != Rights::of(&Right::ALL) => {
            found.fix = Some(Fix::CreatePolicy { policy, rights });
        }
        _ => {}
    }
    found
}
