//! `key-in-config`: a secret stands in the hub's own configuration.

use hub::finding::{Resource, Severity};
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "key-in-config",
    kind: Kind::Posture,
    severity: Severity::High,
    title: "Secret in the hub's own configuration",
    threat: "Configuration is copied, versioned and backed up by people and programs that should not have the secret.",
    remedy: "Put a reference there: env:NAME or file:PATH.",
    covers: &["S24", "S25"],
};

pub(super) struct InConfig;

impl Check for InConfig {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, _context: &Context, verdicts: &mut Verdicts) {
        if facts.configured_secrets.is_empty() {
            verdicts.not_applicable += 1;
        }
        for secret in facts.configured_secrets {
            verdicts.judge(secret.literal.then(|| {
                let summary = format!("`{}` of {} is the secret itself.", secret.field, secret.file);
                let evidence = json!({ "field": secret.field, "file": secret.file });
                Found::new(&ABOUT, Resource::new("setting", &secret.field), summary, evidence)
            }));
        }
    }
}
