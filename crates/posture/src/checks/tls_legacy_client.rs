//! `tls-legacy-client`: a client tried an old TLS or an unsafe suite.

use std::collections::BTreeSet;

use hub::finding::{Resource, Severity};
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "tls-legacy-client",
    kind: Kind::Detection,
    severity: Severity::Medium,
    title: "Client tried an old TLS or an unsafe suite",
    threat: "It was refused; but a unit that speaks nothing better may be moved to an endpoint that takes it.",
    remedy: "Find the unit at that address and update its TLS library, or its list of suites.",
    covers: &["IoT_VulnerableTLSCipherSuite", "ETSI 5.5-1", "S21"],
};

const QUIET: SignedDuration = SignedDuration::from_hours(24);

pub(super) struct LegacyClient;

impl Check for LegacyClient {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let mut fresh = BTreeSet::new();
        for (address, legacy) in &facts.events.legacy {
            let resource = Resource::new("address", &address.to_string());
            fresh.insert(resource.clone());
            let summary = format!("A client at {address} offered {}.", legacy.offered);
            let evidence = json!({
                "last": legacy.time,
                "count": legacy.count,
                "offered": legacy.offered,
                "door": legacy.door,
            });
            verdicts.unhealthy(Found::new(&ABOUT, resource, summary, evidence));
        }
        for finding in context.not_quiet(ABOUT.id, QUIET).filter(|f| !fresh.contains(&f.resource)) {
            verdicts.unhealthy(Found::again(finding));
        }
    }
}
