//! `auth-hub-key-on-device`: a device connects with a hub-wide key.

use hub::activity::CredentialUse;
use hub::finding::{Fix, Severity};
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{Subject, text_of};

const ABOUT: About = About {
    id: "auth-hub-key-on-device",
    kind: Kind::Posture,
    severity: Severity::Critical,
    title: "A device connects with a hub-wide key",
    threat: "One unit that is opened on a bench gives away the key of a policy, and with it every device of the hub.",
    remedy: "Give the device a key of its own. When no device needs a policy's key any more, have the hub refuse them \
             (deviceScopedTokensOnly), and rotate the key that was in the field.",
    covers: &["own", "ETSI 5.4-3", "ETSI 5.4-4", "S06", "S16"],
};

/// For how long a use counts.
const USE_COUNTS: SignedDuration = SignedDuration::from_hours(31 * 24);

pub(super) struct HubKeyOnDevice;

impl Check for HubKeyOnDevice {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        let Some(used) = subject.used() else {
            verdicts.unknown += 1;
            return;
        };
        let recent = context.now.duration_since(used.admitted) <= USE_COUNTS;
        let refused_now = subject.settings.device_scoped_tokens_only && !subject.connected;
        let policy = match &used.credential {
            CredentialUse::Token { policy: Some(policy), .. } if recent && !refused_now => policy,
            _ => {
                verdicts.healthy += 1;
                return;
            }
        };
        let summary = format!("{} connects with the key of the policy {policy}.", subject.name);
        let evidence = json!({
            "policy": policy,
            "admitted": used.admitted,
            "address": text_of(used.address),
            "sdk": used.sdk,
        });
        let found = Found::new(&ABOUT, subject.resource(), summary, evidence);
        verdicts.unhealthy(found.with_fix(Fix::RefusePolicyKeysToDevices));
    }
}
