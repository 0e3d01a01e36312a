//! `key-public-sample`: a key or authority that everybody can read about.

use hub::finding::{Fix, Resource, Severity};
use hub::record::Status;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{Credential, HubFacts, SLOTS, Subject};
use crate::key::published_authority;

const ABOUT: About = About {
    id: "key-public-sample",
    kind: Kind::Posture,
    severity: Severity::Critical,
    title: "Key or certificate that is published",
    threat: "Everybody who reads the documentation is that device, or makes certificates for any.",
    remedy: "Give the device a key that the hub made; make an authority of your own.",
    covers: &["own", "ETSI 5.4-3", "S06"],
};

pub(super) struct PublicSample;

impl Check for PublicSample {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, _context: &Context, verdicts: &mut Verdicts) {
        let Credential::Keys(keys) = &subject.credential else {
            verdicts.not_applicable += 1;
            return;
        };
        if subject.status == Status::Disabled {
            verdicts.not_applicable += 1;
            return;
        }
        let published =
            keys.iter().zip(SLOTS).find_map(|(key, slot)| Some((slot, key.quality.published.as_deref()?)));
        verdicts.judge(published.map(|(slot, place)| {
            let summary = format!("A key of {} stands in {place}.", subject.name);
            let evidence = json!({ "slot": slot, "published": place });
            let device = subject.name.split('/').next().unwrap_or_default().to_owned();
            Found::new(&ABOUT, subject.resource(), summary, evidence)
                .with_fix(Fix::DisableDevices { devices: vec![device] })
        }));
    }

    fn hub(&mut self, facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        for authority in facts.authorities {
            let sample = published_authority(&authority.subject).filter(|_| authority.verified);
            verdicts.judge(sample.map(|sample| {
                let name = &authority.name;
                let summary = format!("The authority {name} is the one of a tutorial: {sample}.");
                let evidence = json!({ "subject": authority.subject, "thumbprint": authority.thumbprint });
                Found::new(&ABOUT, Resource::new("authority", name), summary, evidence)
                    .with_fix(Fix::DistrustAuthority { authority: name.clone() })
            }));
        }
    }
}
