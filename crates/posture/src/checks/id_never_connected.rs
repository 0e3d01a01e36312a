//! `id-never-connected`: an identity that was registered and never seen.

use hub::finding::{Fix, Severity};
use hub::record::Status;
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::Subject;

const ABOUT: About = About {
    id: "id-never-connected",
    kind: Kind::Posture,
    severity: Severity::Low,
    title: "Identity registered but never seen",
    threat: "A key that nobody uses is a key that nobody misses when it is stolen.",
    remedy: "Delete the identity, or disable it until its unit is there.",
    covers: &["own", "S06"],
};

const AGE_MAX: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) struct NeverConnected;

impl Check for NeverConnected {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        // A module runs where its device does.
        if subject.status == Status::Disabled || subject.name.contains('/') {
            verdicts.not_applicable += 1;
            return;
        }
        let age = context.now.duration_since(subject.created);
        let unused = subject.used().is_none() && !subject.connected && age > AGE_MAX;
        verdicts.judge(unused.then(|| {
            let day = subject.created.strftime("%Y-%m-%d");
            let summary = format!("{} was registered on {day} and never connected.", subject.name);
            let fix = Fix::DisableDevices { devices: vec![subject.name.to_owned()] };
            let evidence = json!({ "created": subject.created });
            Found::new(&ABOUT, subject.resource(), summary, evidence).with_fix(fix)
        }));
    }
}
