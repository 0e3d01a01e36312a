//! `key-sym-weak`: a symmetric key that can be guessed.

use hub::finding::{Fix, IdentityKey, Severity};
use hub::record::Slot;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{Credential, SLOTS, Subject};

const ABOUT: About = About {
    id: "key-sym-weak",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "Symmetric key that can be guessed",
    threat: "Whoever guesses the key speaks as the device; a short or patterned key can be tried out away from the hub \
             with a single token.",
    remedy: "Let the hub make the key: 32 random bytes.",
    covers: &["ETSI 5.1-2", "ETSI 5.4-4", "S06", "S16"],
};

pub(super) struct SymWeak;

impl Check for SymWeak {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, _context: &Context, verdicts: &mut Verdicts) {
        let Credential::Keys(keys) = &subject.credential else {
            verdicts.not_applicable += 1;
            return;
        };
        let weak = keys
            .iter()
            .zip(SLOTS)
            .filter_map(|(key, slot)| Some((slot, key.quality.weakness.clone()?, key.quality.length)));
        let mut weak: Vec<(Slot, String, usize)> = weak.collect();
        if weak.is_empty() && keys[0].fingerprint == keys[1].fingerprint {
            let why =
                "it is the primary key too, so that neither can be changed without an outage".to_owned();
            weak.push((Slot::Secondary, why, keys[1].quality.length));
        }
        verdicts.judge((!weak.is_empty()).then(|| {
            let word = |slot: Slot| if slot == Slot::Primary { "primary" } else { "secondary" };
            let told: Vec<String> =
                weak.iter().map(|(slot, why, _)| format!("the {} key: {why}", word(*slot))).collect();
            let summary = format!("{}: {}.", subject.name, told.join("; "));
            let evidence = json!({
                "keys": weak.iter().map(|(slot, why, length)| json!({
                    "slot": slot, "bytes": length, "why": why,
                })).collect::<Vec<_>>(),
            });
            let keys = weak
                .iter()
                .map(|(slot, ..)| IdentityKey { identity: subject.name.to_owned(), slot: *slot })
                .collect();
            Found::new(&ABOUT, subject.resource(), summary, evidence).with_fix(Fix::RotateKeys { keys })
        }));
    }
}
