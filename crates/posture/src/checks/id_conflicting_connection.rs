//! `id-conflicting-connection`: two clients fight for one identity.

use std::collections::BTreeSet;

use hub::finding::{Fix, Resource, Severity};
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::events::Takeover;
use crate::facts::{HubFacts, text_of};

const ABOUT: About = About {
    id: "id-conflicting-connection",
    kind: Kind::Detection,
    severity: Severity::High,
    title: "Two clients fight for one identity",
    threat: "A unit was cloned, or a thief of its key is connected in its place: each new connection ends the other's.",
    remedy: "Find out which of the addresses is the unit. Give it a new key, or look for the loop in its program that \
             connects twice.",
    covers: &["CONFLICTING_CLIENT_IDS_CHECK", "400027", "409002", "ETSI 5.4-2", "S06"],
};

const WINDOW: SignedDuration = SignedDuration::from_mins(10);
const TAKEOVERS_MIN: usize = 3;
/// With so many addresses, as many takeovers are enough.
const ADDRESSES_MIN: usize = 2;
const QUIET: SignedDuration = SignedDuration::from_mins(30);

pub(super) struct ConflictingConnection;

impl Check for ConflictingConnection {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let mut fresh = BTreeSet::new();
        for (identity, takeovers) in &facts.events.takeovers {
            let recent: Vec<&Takeover> =
                takeovers.iter().filter(|t| context.now.duration_since(t.time) <= WINDOW).collect();
            let addresses: BTreeSet<_> = recent.iter().filter_map(|takeover| takeover.new).collect();
            let by_addresses = addresses.len() >= ADDRESSES_MIN && recent.len() >= ADDRESSES_MIN;
            if recent.len() < TAKEOVERS_MIN && !by_addresses {
                continue;
            }
            let resource = Resource::identity(identity);
            let evidence = json!({
                "last": recent.last().map(|takeover| takeover.time),
                "takeovers": recent.iter().map(|takeover| json!({
                    "time": takeover.time,
                    "ended": text_of(takeover.old),
                    "by": text_of(takeover.new),
                })).collect::<Vec<_>>(),
            });
            let summary = format!(
                "{identity} was taken over {} times in 10 minutes, from {}.",
                recent.len(),
                match addresses.len() {
                    1 => "one address".to_owned(),
                    n => format!("{n} addresses"),
                }
            );
            fresh.insert(resource.clone());
            let device = identity.split('/').next().unwrap_or_default().to_owned();
            let fix = Fix::DisableDevices { devices: vec![device] };
            verdicts.unhealthy(Found::new(&ABOUT, resource, summary, evidence).with_fix(fix));
        }
        for finding in context.not_quiet(ABOUT.id, QUIET).filter(|f| !fresh.contains(&f.resource)) {
            verdicts.unhealthy(Found::again(finding));
        }
    }
}
