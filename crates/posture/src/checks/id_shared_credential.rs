//! `id-shared-credential`: the same key or certificate on several identities.

use std::collections::{BTreeMap, HashMap};

use hub::activity::CredentialUse;
use hub::finding::{Fix, IdentityKey, Resource, Severity};
use hub::record::Slot;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{Credential, HubFacts, SLOTS, Subject, text_of};

const ABOUT: About = About {
    id: "id-shared-credential",
    kind: Kind::Posture,
    severity: Severity::Critical,
    title: "Same credential on several identities",
    threat: "Whoever extracts the credential from one unit is all of them: messages can be forged in the name of each, \
             and one cannot be shut out without the others.",
    remedy: "Give each identity a key or certificate of its own, and take it to the unit.",
    covers: &[
        "IoT_SharedCredentials",
        "DEVICE_CERTIFICATE_SHARED_CHECK",
        "ETSI 5.1-1",
        "ETSI 5.4-4",
        "S16",
        "S20",
    ],
};

/// For how long the use of a certificate counts.
const USE_COUNTS: SignedDuration = SignedDuration::from_hours(31 * 24);

#[derive(Default)]
pub(super) struct SharedCredential {
    /// The first holder of each credential.
    first: HashMap<String, Holder>,
    /// All holders of those that have several.
    shared: BTreeMap<String, Vec<Holder>>,
    /// Identities that hold something.
    holding: u64,
}

#[derive(Clone)]
struct Holder {
    identity: Box<str>,
    slot: Option<Slot>,
    last: Option<Timestamp>,
    address: String,
}

impl SharedCredential {
    fn hold(&mut self, credential: String, subject: &Subject<'_>, slot: Option<Slot>) {
        let used = subject.used();
        let holder = Holder {
            identity: subject.name.into(),
            slot,
            last: used.map(|used| used.admitted),
            address: text_of(used.and_then(|used| used.address)),
        };
        let Some(first) = self.first.get(&credential) else {
            self.first.insert(credential, holder);
            return;
        };
        // The same key in both slots of one identity is another matter.
        if first.identity != holder.identity {
            self.shared.entry(credential).or_insert_with(|| vec![first.clone()]).push(holder);
        }
    }
}

impl Check for SharedCredential {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        match &subject.credential {
            Credential::Keys(keys) => {
                for (key, slot) in keys.iter().zip(SLOTS) {
                    self.hold(format!("key {}", key.fingerprint.0), subject, Some(slot));
                }
            }
            Credential::Thumbprints(thumbprints) => {
                for (thumbprint, slot) in thumbprints.iter().zip(SLOTS) {
                    let Some(thumbprint) = thumbprint else { continue };
                    self.hold(format!("certificate {}", thumbprint.as_str()), subject, Some(slot));
                }
            }
            Credential::Authority => {}
            Credential::None => {
                verdicts.not_applicable += 1;
                return;
            }
        }
        if let Some(used) = subject.used()
            && let CredentialUse::Certificate { public_key, .. } = &used.credential
            && context.now.duration_since(used.admitted) <= USE_COUNTS
        {
            self.hold(format!("certificate key {public_key}"), subject, None);
        }
        self.holding += 1;
    }

    fn hub(&mut self, _facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        // Identities that share both keys have one fault, not two.
        let mut groups: BTreeMap<Vec<Box<str>>, Vec<(&str, &Holder)>> = BTreeMap::new();
        for (credential, holders) in &self.shared {
            let mut names: Vec<Box<str>> = holders.iter().map(|holder| holder.identity.clone()).collect();
            names.sort_unstable();
            names.dedup();
            let group = groups.entry(names).or_default();
            group.extend(holders.iter().map(|holder| (credential.as_str(), holder)));
        }
        for (names, holdings) in &groups {
            verdicts.unhealthy(found(names, holdings));
        }
        verdicts.healthy = self.holding.saturating_sub(verdicts.unhealthy);
    }
}

fn found(names: &[Box<str>], holdings: &[(&str, &Holder)]) -> Found {
    let listed = match names {
        [rest @ .., last] if rest.len() < 5 => format!("{} and {last}", rest.join(", ")),
        _ => format!("{} and {} others", names[..4].join(", "), names.len() - 4),
    };
    let credential = holdings.first().map_or("", |(credential, _)| credential);
    let (kind, fingerprint) = credential.rsplit_once(' ').unwrap_or((credential, ""));
    let short = fingerprint.get(..8).unwrap_or(fingerprint);
    let holding = |(credential, holder): &(&str, &Holder)| {
        json!({
            "identity": holder.identity,
            "slot": holder.slot,
            "fingerprint": credential.rsplit_once(' ').map_or("", |(_, fingerprint)| fingerprint),
            "lastAdmitted": holder.last,
            "lastAddress": holder.address,
        })
    };
    let evidence = json!({
        "credential": kind,
        "identities": holdings.iter().map(holding).collect::<Vec<_>>(),
    });
    // The one that keeps its key is the one that was active last; of those that never were, the first by name.
    let keeper = holdings
        .iter()
        .max_by(|(_, a), (_, b)| a.last.cmp(&b.last).then_with(|| b.identity.cmp(&a.identity)))
        .map_or("", |(_, holder)| &*holder.identity);
    let keys: Vec<IdentityKey> = holdings
        .iter()
        .filter(|(_, holder)| &*holder.identity != keeper)
        .filter_map(|(_, holder)| {
            Some(IdentityKey { identity: holder.identity.to_string(), slot: holder.slot? })
        })
        .collect();
    let is_key = kind == "key";
    Found {
        about: credential.to_owned(),
        severity: ABOUT.severity,
        resources: names.iter().map(|name| Resource::identity(name)).collect(),
        summary: format!("{listed} have the same {kind} ({short}…)."),
        evidence,
        advice: match is_key {
            true => format!(
                "{} The fix gives new keys to all but {keeper}, which was active last; take each to its unit.",
                ABOUT.remedy
            ),
            false => ABOUT.remedy.to_owned(),
        },
        fix: (is_key && !keys.is_empty()).then_some(Fix::RotateKeys { keys }),
    }
}
