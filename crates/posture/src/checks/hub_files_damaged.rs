//! `hub-files-damaged`: something that the hub stored cannot be read any more.

use hub::finding::{Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "hub-files-damaged",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "Damage in the hub's own files",
    threat: "What is damaged is lost: events that nobody reads, devices that are refused. A disk that damages one file damages \
             others.",
    remedy: "Look at the disk and its log. Bring back what is missing from a backup, all files together, while the hub is \
             stopped; a device can be registered again. `holdfast scrub` reads everything at once.",
    covers: &["own", "S35"],
};

/// Damages that a finding names.
const NAMED_MAX: usize = 20;

pub(super) struct FilesDamaged;

impl Check for FilesDamaged {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        let damaged = facts.damaged;
        verdicts.judge(damaged.first().map(|first| {
            let summary = match damaged.len() {
                1 => format!("{first}."),
                many => format!("{many} places are damaged, one of them: {first}."),
            };
            let named = &damaged[..damaged.len().min(NAMED_MAX)];
            let evidence = json!({ "count": damaged.len(), "damaged": named });
            Found::new(&ABOUT, Resource::new("hub", "files"), summary, evidence)
        }));
    }
}
