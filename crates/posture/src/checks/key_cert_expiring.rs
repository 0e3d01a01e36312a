//! `key-cert-expiring`: a device's certificate is near or past its end.

use hub::activity::CredentialUse;
use hub::finding::Severity;
use hub::record::Status;
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::{Credential, Subject};

const ABOUT: About = About {
    id: "key-cert-expiring",
    kind: Kind::Posture,
    severity: Severity::Medium,
    title: "Device certificate near or past its end",
    threat: "On that day the device is locked out, and whoever has to bring it back is tempted to weaken the rules.",
    remedy: "Issue a new certificate and take it to the device before the end of this one.",
    covers: &["DEVICE_CERTIFICATE_EXPIRING_CHECK", "NIST DP1", "S20"],
};

const NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);
const URGENT: SignedDuration = SignedDuration::from_hours(7 * 24);
/// A certificate that lives for weeks is renewed in its last fifth.
const SHORT_LIFE: SignedDuration = SignedDuration::from_hours(150 * 24);

pub(super) struct CertExpiring;

impl Check for CertExpiring {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn identity(&mut self, subject: &Subject<'_>, context: &Context, verdicts: &mut Verdicts) {
        let by_certificate = matches!(subject.credential, Credential::Thumbprints(_) | Credential::Authority);
        if !by_certificate || subject.status == Status::Disabled {
            verdicts.not_applicable += 1;
            return;
        }
        let used = match subject.used().map(|used| &used.credential) {
            Some(CredentialUse::Certificate(used)) => Some(used),
            Some(CredentialUse::Token { .. }) | None => None,
        };
        let Some((used, end)) = used.and_then(|used| Some((used, used.not_after?))) else {
            // The registry knows a thumbprint or an authority, not the certificate.
            verdicts.unknown += 1;
            return;
        };
        let left = end.duration_since(context.now);
        let life = used.not_before.map(|begin| end.duration_since(begin)).filter(|life| *life < SHORT_LIFE);
        let near = life.map_or(NEAR, |life| life / 5);
        verdicts.judge((left <= near).then(|| {
            let day = end.strftime("%Y-%m-%d");
            let summary = match left.is_negative() {
                true => format!("The certificate of {} ended on {day}.", subject.name),
                false => format!("The certificate of {} ends on {day}.", subject.name),
            };
            let evidence = json!({ "serial": used.serial, "issuer": used.issuer, "notAfter": end });
            let found = Found::new(&ABOUT, subject.resource(), summary, evidence);
            let urgent = left <= URGENT.min(near / 2);
            Found { severity: if urgent { Severity::High } else { Severity::Medium }, ..found }
        }));
    }
}
