//! What a check is, and how it says what it saw.

use std::collections::BTreeMap;

use hub::finding::{Finding, Fix, Resource, Severity};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::Value;

use crate::facts::{HubFacts, Subject};

/// What a check is about; the text is its help page.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Its id in the catalogue. Never reused or renamed.
    pub id: &'static str,
    /// A state that is looked at again and again, or an event.
    pub kind: Kind,
    /// How bad a finding of it is; single ones may be worse or better.
    pub severity: Severity,
    /// Its title.
    pub title: &'static str,
    /// What an attacker gains by it.
    pub threat: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// The recommendations and checks of others that it covers.
    pub covers: &'static [&'static str],
}

/// What a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A state: it opens and closes with what it looks at.
    Posture,
    /// An event: it closes after a quiet time, or when what it warns of was changed.
    Detection,
}

/// What every check may ask.
#[derive(Debug)]
pub struct Context {
    /// The time of the look.
    pub now: Timestamp,
    /// By check.
    open: BTreeMap<String, BTreeMap<Resource, Finding>>,
}

impl Context {
    /// For a look at this time, with the findings that are open.
    pub fn new(now: Timestamp, open: impl IntoIterator<Item = Finding>) -> Self {
        let mut of: BTreeMap<String, BTreeMap<Resource, Finding>> = BTreeMap::new();
        for finding in open {
            of.entry(finding.check.clone()).or_default().insert(finding.resource.clone(), finding);
        }
        Self { now, open: of }
    }

    /// The open finding of a check about a resource.
    pub fn open(&self, check: &str, resource: &Resource) -> Option<&Finding> {
        self.open.get(check)?.get(resource)
    }

    /// The open finding of a check about an identity: most often the check has none, and nothing is made to find that out.
    pub fn open_about(&self, check: &str, subject: &Subject<'_>) -> Option<&Finding> {
        self.open.get(check)?.get(&subject.resource())
    }

    /// The open findings of a check.
    pub fn open_of(&self, check: &str) -> impl Iterator<Item = &Finding> {
        self.open.get(check).into_iter().flat_map(BTreeMap::values)
    }

    /// The open findings of a detection whose last event is no longer ago than its quiet time.
    pub fn not_quiet(&self, check: &'static str, quiet: SignedDuration) -> impl Iterator<Item = &Finding> {
        let recent = move |finding: &&Finding| {
            last_event(finding).is_some_and(|last| self.now.duration_since(last) <= quiet)
        };
        self.open_of(check).filter(recent)
    }
}

/// The time of the last event of a detection: `last` of its evidence.
pub fn last_event(finding: &Finding) -> Option<Timestamp> {
    finding.evidence["last"].as_str()?.parse().ok()
}

/// One check. A value of it lives for one sweep and may remember what it saw of the fleet.
pub trait Check: Send {
    /// What it is about.
    fn about(&self) -> &'static About;

    /// Looks at one identity; called for each, in the order of their ids.
    fn identity(&mut self, _subject: &Subject<'_>, _context: &Context, _verdicts: &mut Verdicts) {}

    /// Looks at the hub itself, after all identities.
    fn hub(&mut self, _facts: &HubFacts<'_>, _context: &Context, _verdicts: &mut Verdicts) {}
}

/// How many resources a check found in which state, and its findings.
#[derive(Debug, Default)]
pub struct Verdicts {
    /// Resources that are as they should be.
    pub healthy: u64,
    /// Resources that are not.
    pub unhealthy: u64,
    /// Resources that the check does not concern.
    pub not_applicable: u64,
    /// Resources of which too little is known. No data is never healthy.
    pub unknown: u64,
    /// What was found, at most [`FINDINGS_MAX`]; [`Self::unhealthy`] counts all.
    pub found: Vec<Found>,
}

/// Findings of one check that are kept; a fleet with more has one fault and not a thousand.
pub const FINDINGS_MAX: usize = 1_000;

impl Verdicts {
    /// One resource is not as it should be.
    pub fn unhealthy(&mut self, found: Found) {
        self.unhealthy += found.resources.len().max(1) as u64;
        if self.found.len() < FINDINGS_MAX {
            self.found.push(found);
        }
    }

    /// One resource is as it should be, or is not.
    pub fn judge(&mut self, found: Option<Found>) {
        match found {
            Some(found) => self.unhealthy(found),
            None => self.healthy += 1,
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// What tells it from other findings of the check; most often the resource.
    pub about: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it concerns, the first one above all.
    pub resources: Vec<Resource>,
    /// One sentence with the facts.
    pub summary: String,
    /// The facts, for machines.
    pub evidence: Value,
    /// What to do, for people.
    pub advice: String,
    /// What the hub can do by itself.
    pub fix: Option<Fix>,
}

impl Found {
    /// A finding of a check about one resource.
    pub fn new(about: &About, resource: Resource, summary: String, evidence: Value) -> Self {
        Self {
            about: resource.0.clone(),
            severity: about.severity,
            resources: vec![resource],
            summary,
            evidence,
            advice: about.remedy.to_owned(),
            fix: None,
        }
    }

    /// The same with a fix.
    #[must_use]
    pub fn with_fix(self, fix: Fix) -> Self {
        Self { fix: Some(fix), ..self }
    }

    /// One that was found before and still holds.
    pub fn again(finding: &Finding) -> Self {
        Self {
            about: finding.resource.0.clone(),
            severity: finding.severity,
            resources: finding.resources.clone(),
            summary: finding.summary.clone(),
            evidence: finding.evidence.clone(),
            advice: finding.advice.clone(),
            fix: finding.fix.clone(),
        }
    }
}
