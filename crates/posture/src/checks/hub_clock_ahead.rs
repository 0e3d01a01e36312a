//! `hub-clock-ahead`: the time of day jumped ahead, so that the hub does not delete by it.

use hub::finding::{Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "hub-clock-ahead",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "The clock of the hub's machine jumped ahead",
    threat: "A clock that is wrong refuses tokens that are good, admits certificates that have ended, and makes events look \
             old that are young.",
    remedy: "Look at the machine's clock and where it gets the time from. If the time is right, `holdfast trust-clock` has the \
             hub delete old events by it at once; else it does so when the clock was steady for an hour.",
    covers: &["own", "S35"],
};

pub(super) struct ClockAhead;

impl Check for ClockAhead {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        verdicts.judge(facts.clock_ahead.map(|ahead| {
            let resource = Resource::new("hub", "clock");
            // What changes with every look would be a change of the finding.
            if let Some(open) = context.open(ABOUT.id, &resource) {
                return Found::again(open);
            }
            let summary = format!(
                "The time of day is {} s ahead of the time that the hub held: no event is deleted by it until it was \
                 steady for an hour.",
                ahead.ahead.as_secs()
            );
            let evidence = json!({ "heldTime": ahead.held, "aheadSeconds": ahead.ahead.as_secs() });
            Found::new(&ABOUT, resource, summary, evidence)
        }));
    }
}
