//! `hub-disk-full`: the disk has no more room for telemetry.

use hub::finding::{Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "hub-disk-full",
    kind: Kind::Posture,
    severity: Severity::Critical,
    title: "No room for telemetry on the disk",
    threat: "No message of any device is taken. A device that sends too much, or another program on the disk, does that to all.",
    remedy: "Free space on the disk, or bound the event log by retention-gigabytes. Disable a device that sends too much.",
    covers: &["own", "S35"],
};

pub(super) struct DiskFull;

impl Check for DiskFull {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        let Some(disk) = facts.disk else {
            verdicts.unknown += 1;
            return;
        };
        verdicts.judge((disk.free < disk.reserve).then(|| {
            let summary = format!(
                "Less than {} MiB of the disk are free, which are kept for the registry: no telemetry is taken.",
                disk.reserve / (1024 * 1024)
            );
            let evidence = json!({ "reserveBytes": disk.reserve });
            Found::new(&ABOUT, Resource::new("hub", "disk"), summary, evidence)
        }));
    }
}
