//! `id-shared-credential`: the same key or certificate on several identities.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::hash::{Hash, Hasher as _};
use std::net::IpAddr;

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
    /// Identities that hold something. A fleet is large and the memory of a look is not given back at once, so that each
    /// is kept once, and each credential as a number.
    holders: Vec<Holder>,
    /// The first holder of each credential, by the credential's digest.
    first: HashMap<u64, Held>,
    /// All holders of those that have several.
    shared: BTreeMap<String, Vec<Held>>,
}

/// An identity.
struct Holder {
    name: Box<str>,
    last: Option<Timestamp>,
    address: Option<IpAddr>,
}

/// That an identity holds a credential.
#[derive(Clone, Copy)]
struct Held {
    /// Its place among the holders.
    holder: u32,
    slot: Option<Slot>,
}

impl SharedCredential {
    /// The identity that was added last holds this, too: a kind of credential, and the fingerprint of it.
    fn hold(&mut self, kind: &str, fingerprint: impl Hash + Display, slot: Option<Slot>) {
        let holder = u32::try_from(self.holders.len()).unwrap_or(u32::MAX).saturating_sub(1);
        let held = Held { holder, slot };
        // Fingerprints are digests themselves: their first 64 bits tell millions apart.
        let mut hasher = DefaultHasher::new();
        (kind, &fingerprint).hash(&mut hasher);
        match self.first.entry(hasher.finish()) {
            Entry::Vacant(place) => drop(place.insert(held)),
            // The same key in both slots of one identity is another matter.
            Entry::Occupied(first) if first.get().holder == holder => {}
            Entry::Occupied(first) => {
                let first = *first.get();
                let credential = format!("{kind} {fingerprint}");
                self.shared.entry(credential).or_insert_with(|| vec![first]).push(held);
            }
        }
    }
}

impl Check for SharedCredential {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        if matches!(subject.credential, Credential::None) {
            verdicts.not_applicable += 1;
            return;
        }
        let used = subject.used();
        self.holders.push(Holder {
            name: subject.name.into(),
            last: used.map(|used| used.admitted),
            address: used.and_then(|used| used.address),
        });
        match &subject.credential {
            Credential::Keys(keys) => {
                for (key, slot) in keys.iter().zip(SLOTS) {
                    self.hold("key", key.fingerprint, Some(slot));
                }
            }
            Credential::Thumbprints(thumbprints) => {
                for (thumbprint, slot) in thumbprints.iter().zip(SLOTS) {
                    let Some(thumbprint) = thumbprint else { continue };
                    self.hold("certificate", thumbprint.as_str(), Some(slot));
                }
            }
            Credential::Authority | Credential::None => {}
        }
        if let Some(used) = used
            && let CredentialUse::Certificate(certificate) = &used.credential
            && context.now.duration_since(used.admitted) <= USE_COUNTS
        {
            self.hold("certificate key", &certificate.public_key, None);
        }
    }

    fn hub(&mut self, _facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        // Identities that share both keys have one fault, not two.
        let mut groups: BTreeMap<Vec<&str>, Vec<Holding<'_>>> = BTreeMap::new();
        for (credential, held) in &self.shared {
            let holdings = held.iter().map(|held| Holding {
                credential,
                holder: &self.holders[held.holder as usize],
                slot: held.slot,
            });
            let holdings: Vec<_> = holdings.collect();
            let mut names: Vec<&str> = holdings.iter().map(|holding| &*holding.holder.name).collect();
            names.sort_unstable();
            names.dedup();
            groups.entry(names).or_default().extend(holdings);
        }
        for (names, holdings) in &groups {
            verdicts.unhealthy(found(names, holdings));
        }
        verdicts.healthy = (self.holders.len() as u64).saturating_sub(verdicts.unhealthy);
    }
}

/// A credential in the hands of one of its holders.
struct Holding<'a> {
    credential: &'a str,
    holder: &'a Holder,
    slot: Option<Slot>,
}

fn found(names: &[&str], holdings: &[Holding<'_>]) -> Found {
    let listed = match names {
        [rest @ .., last] if rest.len() < 5 => format!("{} and {last}", rest.join(", ")),
        _ => format!("{} and {} others", names[..4].join(", "), names.len() - 4),
    };
    let credential = holdings.first().map_or("", |holding| holding.credential);
    let (kind, fingerprint) = credential.rsplit_once(' ').unwrap_or((credential, ""));
    let short = fingerprint.get(..8).unwrap_or(fingerprint);
    let holding = |Holding { credential, holder, slot }: &Holding<'_>| {
        json!({
            "identity": holder.name,
            "slot": slot,
            "fingerprint": credential.rsplit_once(' ').map_or("", |(_, fingerprint)| fingerprint),
            "lastAdmitted": holder.last,
            "lastAddress": text_of(holder.address),
        })
    };
    let evidence = json!({
        "credential": kind,
        "identities": holdings.iter().map(holding).collect::<Vec<_>>(),
    });
    // The one that keeps its key is the one that was active last; of those that never were, the first by name.
    let keeper = holdings
        .iter()
        .map(|holding| holding.holder)
        .max_by(|a, b| a.last.cmp(&b.last).then_with(|| b.name.cmp(&a.name)))
        .map_or("", |holder| &*holder.name);
    let keys: Vec<IdentityKey> = holdings
        .iter()
        .filter(|holding| &*holding.holder.name != keeper)
        .filter_map(|holding| {
            Some(IdentityKey { identity: holding.holder.name.to_string(), slot: holding.slot? })
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
