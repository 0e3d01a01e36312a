//! `key-crl-stale`: a revocation list for which a newer one is due, or that is not its authority's.

use hub::certificate::{RevocationFacts, revocation_facts};
use hub::finding::{Resource, Severity};
use hub::record::Authority;
use jiff::Timestamp;
use serde_json::json;

use crate::check::{About, Check, Context, Found, Kind, Verdicts};
use crate::facts::HubFacts;

const ABOUT: About = About {
    id: "key-crl-stale",
    kind: Kind::Posture,
    severity: Severity::Medium,
    title: "Revocation list that is out of date",
    threat: "Whoever was revoked since the list was made is still admitted with a certificate that its authority took back.",
    remedy: "Take the authority's newest list to the hub whenever it issues one: `holdfast certificate revoke`. A list that is not \
             issued any more can be removed.",
    covers: &["own", "S20"],
};

pub(super) struct CrlStale;

impl Check for CrlStale {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn hub(&mut self, facts: &HubFacts<'_>, context: &Context, verdicts: &mut Verdicts) {
        for authority in facts.authorities {
            if !authority.verified || authority.revocation_lists.is_empty() {
                verdicts.not_applicable += 1;
                continue;
            }
            let lists = revocation_facts(authority);
            let bad: Vec<&RevocationFacts> =
                lists.iter().filter(|list| !list.counts || list.is_stale(context.now)).collect();
            verdicts.judge(bad.first().map(|first| found(authority, first, &bad, context.now)));
        }
    }
}

fn found(authority: &Authority, first: &RevocationFacts, bad: &[&RevocationFacts], now: Timestamp) -> Found {
    let (name, scope) = (&authority.name, &first.scope);
    let others = match bad.len() - 1 {
        0 => String::new(),
        others => format!(" The same goes for {others} more of its lists."),
    };
    let summary = match (first.counts, first.next_update) {
        (true, Some(next)) if first.is_stale(now) => format!(
            "A newer revocation list of the authority {name} ({scope}) was due at {next}: whoever was revoked since is admitted.{others}"
        ),
        _ => format!(
            "A revocation list of the authority {name} ({scope}) is not signed by it and counts for nothing.{others}"
        ),
    };
    let list = |list: &&RevocationFacts| json!({ "scope": list.scope, "number": list.number, "nextUpdate": list.next_update, "counts": list.counts });
    let evidence = json!({ "lists": bad.iter().map(list).collect::<Vec<_>>() });
    Found::new(&ABOUT, Resource::new("authority", name), summary, evidence)
}

#[cfg(test)]
mod tests {
    use hub::settings::HubSettings;

    use super::*;
    use crate::events::Events;
    use crate::facts::ServerCertificateFacts;

    fn authority(verified: bool, lists: &[&str]) -> Authority {
        let record = json!({
            "name": "plant",
            "certificate": "",
            "subject": "CN=plant",
            "thumbprint": "0".repeat(64),
            "notAfter": "2030-01-01T00:00:00Z",
            "verified": verified,
            "revocationLists": lists,
            "created": "2026-01-01T00:00:00Z",
        });
        serde_json::from_value(record).expect("an authority")
    }

    fn verdicts(authorities: &[Authority]) -> Verdicts {
        let certificate = ServerCertificateFacts {
            not_after: Timestamp::MAX,
            thumbprint: String::new(),
            renewal_error: None,
            problem: None,
        };
        let (settings, events) = (HubSettings::default(), Events::default());
        let facts = HubFacts {
            policies: &[],
            authorities,
            settings: &settings,
            server_certificate: &certificate,
            files: &[],
            configured_secrets: &[],
            damaged: &[],
            disk: None,
            clock_ahead: None,
            events: &events,
        };
        let mut verdicts = Verdicts::default();
        CrlStale.hub(&facts, &Context::new(Timestamp::UNIX_EPOCH, []), &mut verdicts);
        verdicts
    }

    #[test]
    fn a_list_that_an_earlier_build_took_unseen_is_named() {
        let seen = verdicts(&[authority(true, &["MAA="])]);
        let [found] = seen.found.as_slice() else { panic!("one finding") };
        assert!(
            found.summary.contains("plant") && found.summary.contains("counts for nothing"),
            "{}",
            found.summary
        );
        assert_eq!(found.resources, [Resource::new("authority", "plant")]);
        let seen = verdicts(&[authority(true, &["MAA=", "MAA="])]);
        assert!(seen.found[0].summary.ends_with("The same goes for 1 more of its lists."));
    }

    #[test]
    fn an_authority_without_lists_or_that_admits_nobody_is_no_concern() {
        let seen = verdicts(&[authority(true, &[]), authority(false, &["MAA="])]);
        assert_eq!((seen.not_applicable, seen.found.len()), (2, 0));
    }
}
