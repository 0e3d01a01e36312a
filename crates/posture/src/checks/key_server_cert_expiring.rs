//! `key-server-cert-expiring`: the hub's own certificate is near its end.

use hub::finding::{Fix, Resource, Severity};
use jiff::SignedDuration;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "key-server-cert-expiring",
    kind: Kind::Posture,
    severity: Severity::Critical,
    title: "The hub's own certificate near its end",
    threat: "On that day every device and service refuses the hub at once.",
    remedy: "Renew it now; devices that trust the authority notice nothing.",
    covers: &["own", "ETSI 5.9-1", "S21"],
};

const NEAR: SignedDuration = SignedDuration::from_hours(30 * 24);

pub(super) struct ServerCertExpiring;

impl Check for ServerCertExpiring {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        let certificate = facts.server_certificate;
        let near = certificate.not_after.duration_since(context.now) <= NEAR;
        let is_bad = near || certificate.renewal_error.is_some() || certificate.problem.is_some();
        verdicts.judge(is_bad.then(|| {
            let day = certificate.not_after.strftime("%Y-%m-%d");
            let summary = match (&certificate.problem, &certificate.renewal_error) {
                (Some(problem), _) => format!("The hub's certificate cannot be trusted: {problem}."),
                (None, Some(error)) => {
                    format!("The hub's certificate ends on {day}, and renewing it failed: {error}.")
                }
                (None, None) => format!("The hub's certificate ends on {day}."),
            };
            let evidence = json!({
                "notAfter": certificate.not_after,
                "thumbprint": certificate.thumbprint,
                "renewalError": certificate.renewal_error,
            });
            Found::new(&ABOUT, Resource::new("certificate", "server"), summary, evidence)
                .with_fix(Fix::RenewServerCertificate)
        }));
    }
}
