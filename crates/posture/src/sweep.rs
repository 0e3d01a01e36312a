//! One look of all checks at the whole fleet.

use hub::finding::{Finding, Severity};
use jiff::Timestamp;
use serde::Serialize;

use crate::check::{About, Check, Context, Found, Verdicts};
use crate::checks;
use crate::facts::{HubFacts, Subject};

/// A look in progress: first each identity, then the hub itself.
pub struct Sweep {
    context: Context,
    checks: Vec<(Box<dyn Check>, Verdicts)>,
}

/// What a look gave.
#[derive(Debug)]
pub struct Outcome {
    /// One for each check, in the order of the catalogue.
    pub tallies: Vec<Tally>,
    /// What was found.
    pub found: Vec<(&'static About, Found)>,
}

/// How many resources a check found in which state.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// The check.
    pub check: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Its severity.
    pub severity: Severity,
    /// Resources that are as they should be.
    pub healthy: u64,
    /// Resources that are not.
    pub unhealthy: u64,
    /// Resources that it does not concern.
    pub not_applicable: u64,
    /// Resources of which too little is known.
    pub unknown: u64,
}

impl Sweep {
    /// Begins a look, with the findings that are known.
    pub fn new(now: Timestamp, known: &[Finding]) -> Self {
        let open = known.iter().filter(|finding| finding.closed.is_none()).cloned();
        Self {
            context: Context::new(now, open),
            checks: checks::all().into_iter().map(|check| (check, Verdicts::default())).collect(),
        }
    }

    /// Looks at one identity. They come in the order of their ids.
    pub fn identity(&mut self, subject: &Subject<'_>) {
        for (check, verdicts) in &mut self.checks {
            check.identity(subject, &self.context, verdicts);
        }
    }

    /// Looks at the hub and ends.
    pub fn finish(mut self, facts: &HubFacts<'_>) -> Outcome {
        let mut outcome = Outcome { tallies: Vec::new(), found: Vec::new() };
        for (check, verdicts) in &mut self.checks {
            check.hub(facts, &self.context, verdicts);
            let about = check.about();
            outcome.tallies.push(Tally {
                check: about.id,
                title: about.title,
                severity: about.severity,
                healthy: verdicts.healthy,
                unhealthy: verdicts.unhealthy,
                not_applicable: verdicts.not_applicable,
                unknown: verdicts.unknown,
            });
            outcome.found.extend(verdicts.found.drain(..).map(|found| (about, found)));
        }
        outcome
    }
}

impl Tally {
    /// The share of the affected resources, at least a fifth when there is any; waived findings do not count.
    pub fn affected_share(&self, waived: u64) -> f64 {
        let unhealthy = self.unhealthy.saturating_sub(waived);
        if unhealthy == 0 {
            return 0.0;
        }
        (unhealthy as f64 / (self.healthy + self.unhealthy) as f64).max(0.2)
    }
}

/// The resources of waived findings of a check.
pub fn waived(findings: &[Finding], check: &str, now: Timestamp) -> u64 {
    let waived = findings.iter().filter(|f| f.check == check && f.closed.is_none() && !f.counts(now));
    waived.map(|finding| finding.resources.len() as u64).sum()
}
