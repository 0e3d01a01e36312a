//! The two figures of a fleet: how good it is, and how much of it is known (`docs/posture.md`).

use hub::finding::{Finding, Severity};
use jiff::Timestamp;
use serde::Serialize;

use crate::sweep::{Tally, waived};

/// How good a fleet is, and how much of it is known. A good score over poor coverage says little.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Score {
    /// 0 to 100.
    pub score: f64,
    /// 0 to 1: the share of what the checks concern of which enough is known.
    pub coverage: f64,
}

/// What a finding of this severity costs when it concerns everything.
fn weight(severity: Severity) -> f64 {
    match severity {
        Severity::Critical => 10.0,
        Severity::High => 5.0,
        Severity::Medium => 2.0,
        Severity::Low => 0.5,
    }
}

/// Adds up: from 100 each check with findings takes its weight times the share of what it affects, at least a fifth.
pub fn score(tallies: &[Tally], findings: &[Finding], now: Timestamp) -> Score {
    let worst = |tally: &Tally| {
        let counting = findings.iter().filter(|f| f.check == tally.check && f.counts(now));
        counting.map(|finding| finding.severity).max()
    };
    let cost: f64 = tallies
        .iter()
        .filter_map(|tally| {
            let share = tally.affected_share(waived(findings, tally.check, now));
            Some(weight(worst(tally)?) * share)
        })
        .sum();
    let known: u64 = tallies.iter().map(|tally| tally.healthy + tally.unhealthy).sum();
    let unknown: u64 = tallies.iter().map(|tally| tally.unknown).sum();
    let coverage = match known + unknown {
        0 => 0.0,
        all => known as f64 / all as f64,
    };
    let tenths = |value: f64| (value * 10.0).round() / 10.0;
    Score { score: tenths((100.0 - cost).max(0.0)), coverage: (coverage * 1_000.0).round() / 1_000.0 }
}
