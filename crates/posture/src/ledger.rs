//! What becomes of a look: findings open, change, close and open again, each under the same id for ever.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use hub::finding::Finding;
use jiff::{SignedDuration, Timestamp};

use crate::check::{About, Found};

/// How long a closed finding is remembered.
const CLOSED_KEPT: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What has to be written down of one finding.
#[derive(Debug, Clone, PartialEq)]
pub enum Entry {
    /// It is new, or open again.
    Opened(Finding),
    /// It is open, and its facts are others.
    Changed(Finding),
    /// It is over.
    Closed(Finding),
    /// It was over long ago.
    Forgotten(String),
}

/// The id of a finding: ten hexadecimal digits.
pub fn id(check: &str, about: &str) -> String {
    let digest = digest(&SHA256, format!("{check}\n{about}").as_bytes());
    digest.as_ref()[..5].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Holds what was found against what is known, and says what has to be written.
pub fn entries(known: &[Finding], found: Vec<(&'static About, Found)>, now: Timestamp) -> Vec<Entry> {
    let mut known: HashMap<&str, &Finding> =
        known.iter().map(|finding| (finding.id.as_str(), finding)).collect();
    let mut entries = Vec::new();
    for (about, found) in found {
        let id = id(about.id, &found.about);
        match known.remove(id.as_str()) {
            None => entries.push(Entry::Opened(opened(id, about, found, now))),
            Some(old) if old.closed.is_some() => {
                let count = old.count + 1;
                let new = opened(id, about, found, now);
                entries.push(Entry::Opened(Finding { first_seen: old.first_seen, count, ..new }));
            }
            Some(old) => {
                let mut new = opened(id, about, found, now);
                new.first_seen = old.first_seen;
                new.opened = old.opened;
                new.count = old.count;
                // A waiver that ended is dropped; a worse finding is another risk than the one that was taken.
                let holds = |finding: &Finding| finding.severity <= old.severity;
                new.waiver = old.waiver.clone().filter(|waiver| waiver.until > now && holds(&new));
                if new != *old {
                    entries.push(Entry::Changed(new));
                }
            }
        }
    }
    for old in known.into_values() {
        match old.closed {
            None => entries.push(Entry::Closed(Finding { closed: Some(now), waiver: None, ..old.clone() })),
            Some(closed) if now.duration_since(closed) > CLOSED_KEPT => {
                entries.push(Entry::Forgotten(old.id.clone()));
            }
            Some(_) => {}
        }
    }
    entries
}

fn opened(id: String, about: &About, found: Found, now: Timestamp) -> Finding {
    let mut resources = found.resources;
    let resource = resources.first().cloned().unwrap_or_else(|| hub::finding::Resource::new("hub", "hub"));
    resources.dedup();
    Finding {
        id,
        check: about.id.to_owned(),
        severity: found.severity,
        resource,
        resources,
        summary: found.summary,
        evidence: found.evidence,
        advice: found.advice,
        fix: found.fix,
        first_seen: now,
        opened: now,
        count: 1,
        closed: None,
        waiver: None,
    }
}

#[cfg(test)]
mod tests {
    use hub::finding::{Resource, Severity, Waiver};
    use serde_json::json;

    use super::*;
    use crate::checks;

    fn about() -> &'static About {
        checks::all()[0].about()
    }

    fn found(summary: &str) -> Found {
        Found::new(about(), Resource::new("device", "d1"), summary.to_owned(), json!({}))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    fn only(mut entries: Vec<Entry>) -> Finding {
        match entries.pop() {
            Some(Entry::Opened(finding) | Entry::Changed(finding) | Entry::Closed(finding)) => finding,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_finding_opens_stays_closes_and_opens_again_under_one_id() {
        let open = only(entries(&[], vec![(about(), found("a"))], at(10)));
        assert!(entries(std::slice::from_ref(&open), vec![(about(), found("a"))], at(20)).is_empty());
        let changed = only(entries(std::slice::from_ref(&open), vec![(about(), found("b"))], at(20)));
        assert_eq!((changed.summary.as_str(), changed.opened), ("b", at(10)));
        let closed = only(entries(&[changed], vec![], at(30)));
        assert_eq!(closed.closed, Some(at(30)));
        let again = only(entries(std::slice::from_ref(&closed), vec![(about(), found("b"))], at(40)));
        assert_eq!((again.id, again.first_seen, again.opened, again.count), (open.id, at(10), at(40), 2));
        let month = at(30 + 31 * 86_400);
        assert_eq!(
            entries(std::slice::from_ref(&closed), vec![], month),
            [Entry::Forgotten(closed.id.clone())]
        );
    }

    #[test]
    fn a_waiver_ends_with_its_time_and_with_a_worse_finding() {
        let mut open = only(entries(&[], vec![(about(), found("a"))], at(10)));
        open.severity = Severity::Low;
        let until = at(100);
        open.waiver = Some(Waiver { owner: "anna".into(), reason: "a test rig".into(), until });
        let low = || Found { severity: Severity::Low, ..found("a") };
        assert!(entries(std::slice::from_ref(&open), vec![(about(), low())], at(50)).is_empty());
        assert!(!open.counts(at(50)) && open.counts(at(100)));
        assert_eq!(only(entries(std::slice::from_ref(&open), vec![(about(), low())], at(100))).waiver, None);
        let worse = Found { severity: Severity::High, ..found("a") };
        assert_eq!(only(entries(&[open], vec![(about(), worse)], at(50))).waiver, None);
    }
}
