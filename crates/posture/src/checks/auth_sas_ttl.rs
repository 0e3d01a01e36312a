//! `auth-sas-ttl`: tokens live too long.

use hub::activity::CredentialUse;
use hub::finding::{Fix, Resource, Severity};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{HubFacts, Subject, text_of};

const ABOUT: About = About {
    id: "auth-sas-ttl",
    kind: Kind::Posture,
    severity: Severity::Medium,
    title: "Tokens that live too long",
    threat: "A token cannot be taken back: whoever reads it from a log or a unit uses it until it ends.",
    remedy: "Have the client make its tokens from its key, for an hour at a time, as the SDKs do; and have the hub refuse \
             longer ones (maxTokenLifetime).",
    covers: &["ETSI 5.5-8", "S17", "S18", "S19"],
};

/// The longest life of a device's token, in seconds.
const DEVICE_SECONDS_MAX: u64 = 24 * 3_600;
/// The longest life of a service's token, in seconds: the hour of the SDKs, and a clock that is ahead.
const SERVICE_SECONDS_MAX: u64 = 3_600 + 300;
/// For how long the use of a token counts.
const USE_COUNTS: SignedDuration = SignedDuration::from_hours(7 * 24);

pub(super) struct SasTtl;

impl Check for SasTtl {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, _context: &Context, verdicts: &mut Verdicts) {
        let Some(used) = subject.used() else {
            verdicts.unknown += 1;
            return;
        };
        let CredentialUse::Token { ends, .. } = used.credential else {
            verdicts.not_applicable += 1;
            return;
        };
        let seconds = u64::try_from(ends.saturating_sub(used.admitted.as_second())).unwrap_or(0);
        let refused_now = subject.settings.max_token_lifetime.is_some() && !subject.connected;
        // The skew is the client's clock, not the token's life.
        let too_long = seconds > DEVICE_SECONDS_MAX + 300 && !refused_now;
        verdicts.judge(too_long.then(|| {
            let summary =
                format!("{} connected with a token that lives for {}.", subject.name, length(seconds));
            let evidence = json!({
                "seconds": seconds,
                "ends": Timestamp::from_second(ends).ok(),
                "admitted": used.admitted,
                "address": text_of(used.address),
                "sdk": used.sdk,
            });
            Found::new(&ABOUT, subject.resource(), summary, evidence)
                .with_fix(Fix::CapTokenLifetime { seconds: DEVICE_SECONDS_MAX })
        }));
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        for policy in facts.policies {
            let Some(token) = &policy.used.longest_token else {
                verdicts.not_applicable += 1;
                continue;
            };
            let recent = context.now.duration_since(token.presented) <= USE_COUNTS;
            let too_long = token.seconds > SERVICE_SECONDS_MAX && recent;
            verdicts.judge(too_long.then(|| {
                let name = policy.policy.name.as_str();
                let summary = format!(
                    "A service used a token of the policy {name} that lives for {}.",
                    length(token.seconds)
                );
                let evidence = json!({
                    "seconds": token.seconds,
                    "presented": token.presented,
                    "addresses": policy.used.addresses,
                    "sdk": policy.used.sdk,
                });
                Found::new(&ABOUT, Resource::new("policy", name), summary, evidence)
            }));
        }
    }
}

/// A length of time for people.
fn length(seconds: u64) -> String {
    match seconds {
        0..7_200 => format!("{} minutes", seconds / 60),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
