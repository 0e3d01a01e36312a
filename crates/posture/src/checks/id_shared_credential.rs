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
        for (credential, holders) in &mut self.shared {
            // The one that keeps it is the one that was active last.
            holders.sort_by(|a, b| b.last.cmp(&a.last).then_with(|| a.identity.cmp(&b.identity)));
            verdicts.unhealthy(found(credential, holders));
        }
        verdicts.healthy = self.holding.saturating_sub(verdicts.unhealthy);
    }
}

fn found(credential: &str, holders: &[Holder]) -> Found {
    let mut names: Vec<&str> = holders.iter().map(|holder| &*holder.identity).collect();
    names.sort_unstable();
    names.dedup();
    let (kind, fingerprint) = credential.rsplit_once(' ').unwrap_or((credential, ""));
    let listed = match names.as_slice() {
        [rest @ .., last] if rest.len() < 5 => format!("{} and {last}", rest.join(", ")),
        _ => format!("{} and {} others", names[..4].join(", "), names.len() - 4),
    };
    let short = fingerprint.get(..8).unwrap_or(fingerprint);
    let evidence = json!({
        "credential": kind,
        "fingerprint": fingerprint,
        "identities": holders.iter().map(|holder| json!({
            "identity": holder.identity,
            "slot": holder.slot,
            "lastAdmitted": holder.last,
            "lastAddress": holder.address,
        })).collect::<Vec<_>>(),
    });
    let resources = names.iter().map(|name| Resource::identity(name)).collect();
    let keys: Vec<IdentityKey> = holders[1..]
        .iter()
        .filter(|holder| holder.identity != holders[0].identity)
        .filter_map(|holder| Some(IdentityKey { identity: holder.identity.to_string(), slot: holder.slot? }))
        .collect();
    Found {
        about: credential.to_owned(),
        severity: ABOUT.severity,
        resources,
        summary: format!("{listed} have the same {kind} ({short}…)."),
        evidence,
        advice: match kind {
            "key" => format!(
                "{} The fix gives new keys to all but {}, which was active last; take each to its unit.",
                ABOUT.remedy, holders[0].identity
            ),
            _ => ABOUT.remedy.to_owned(),
        },
        fix: (kind == "key" && !keys.is_empty()).then_some(Fix::RotateKeys { keys }),
    }
}
