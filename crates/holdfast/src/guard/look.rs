//! One look at the fleet, from the facts to the findings that are written down.

use std::sync::{Arc, PoisonError};
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream;
use hub::finding::Finding;
use hub::findings::Turn;
use hub::ports::registry::StoreError;
use posture::events::Events;
use posture::facts::HubFacts;
use posture::ledger::{Entry, entries};
use posture::score::score;
use posture::{Outcome, Sweep};

use super::fleet::Fleet;
use super::{Guard, Report, gather, usage};

/// Findings that are written at a time; they share the syncs of the registry.
const WRITES_AT_ONCE: usize = 32;

impl Guard {
    /// Looks at the whole fleet, writes down what opened and closed, and keeps the report.
    pub(super) async fn look(&self) -> Result<Arc<Report>, StoreError> {
        let mut fleet = self.fleet.lock().await;
        let (begun, time) = (Instant::now(), self.hub.now());
        self.observed().events.prune(time);
        self.catch_up(&mut fleet).await?;
        let known = self.hub.findings().await?;
        let outcome = self.judge(&fleet, &known).await?;
        let tallies = outcome.tallies;
        let entries = entries(&known, outcome.found, time);
        let findings = self.write(known, entries).await;
        let report = Arc::new(Report {
            time,
            took: begun.elapsed(),
            score: score(&tallies, &findings, time),
            tallies,
            findings,
        });
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        Ok(report)
    }

    /// Takes in what happened since it was done last, and writes down who was used for what.
    pub(super) async fn catch_up(&self, fleet: &mut Fleet) -> Result<(), StoreError> {
        let (registry, secrets) = (&*self.hub.registry, &*self.hub.secrets);
        let (changed, mut usage) = {
            let mut observed = self.observed();
            observed.news = false;
            (observed.changed.take(), std::mem::take(&mut observed.usage))
        };
        let read = match &changed.0 {
            Some(changed) => fleet.refresh(registry, secrets, changed).await,
            None => fleet.read(registry, secrets).await,
        };
        if let Err(error) = read {
            let mut observed = self.observed();
            observed.changed.take_back(changed);
            observed.usage.take_back(usage);
            return Err(error);
        }
        fleet.take_in(std::mem::take(&mut usage.identities));
        let written = match usage::write(registry, &usage.policies).await {
            Ok(()) => fleet.write_use(registry).await,
            Err(error) => {
                self.observed().usage.take_back(usage);
                Err(error)
            }
        };
        if let Err(error) = written {
            tracing::warn!(%error, "who was used for what could not be written down; it is tried again");
            self.observed().news = true;
        }
        Ok(())
    }

    async fn judge(&self, fleet: &Fleet, known: &[Finding]) -> Result<Outcome, StoreError> {
        let settings = self.hub.hub_settings().await?;
        let mut sweep = Sweep::new(self.hub.now(), known);
        fleet.show(&*self.hub.bus, &settings, &mut sweep).await;
        let (policies, authorities) =
            (gather::policies(&self.hub).await?, gather::authorities(&self.hub).await?);
        let (certificate, files) = (self.certificate.facts(), self.place.files());
        let damaged = self.upkeep.scrub.damaged();
        let observed = self.observed();
        let events: &Events = &observed.events;
        Ok(sweep.finish(&HubFacts {
            policies: &policies,
            authorities: &authorities,
            settings: &settings,
            server_certificate: &certificate,
            files: &files,
            configured_secrets: &self.configured_secrets,
            disk: self.upkeep.retention.disk(),
            clock_ahead: self.upkeep.retention.ahead(),
            damaged: &damaged.all(),
            events,
        }))
    }

    /// Writes what became of the findings, and gives all of them as they are now.
    async fn write(&self, known: Vec<Finding>, entries: Vec<Entry>) -> Vec<Finding> {
        let mut findings: std::collections::BTreeMap<String, Finding> =
            known.into_iter().map(|finding| (finding.id.clone(), finding)).collect();
        let turns = entries.into_iter().filter_map(|entry| {
            Some(match entry {
                Entry::Opened(finding) => (finding, Turn::Opened),
                Entry::Changed(finding) => (finding, Turn::Changed),
                Entry::Closed(finding) => (finding, Turn::Closed),
                Entry::Forgotten(id) => (findings.get(&id)?.clone(), Turn::Forgotten),
            })
        });
        let turns: Vec<(Finding, Turn)> = turns.collect();
        let mut written = stream::iter(turns)
            .map(|(finding, turn)| async move {
                let outcome = self.hub.turn_finding(finding.clone(), turn).await;
                (finding, turn, outcome)
            })
            .buffer_unordered(WRITES_AT_ONCE);
        while let Some((finding, turn, outcome)) = written.next().await {
            match outcome {
                Ok(()) if turn == Turn::Forgotten => drop(findings.remove(&finding.id)),
                Ok(()) => {
                    tell(&finding, turn);
                    findings.insert(finding.id.clone(), finding);
                }
                // The next look tries again.
                Err(error) => tracing::error!(%error, finding = finding.id, "a finding could not be written"),
            }
        }
        let mut findings: Vec<Finding> = findings.into_values().collect();
        findings.sort_by(|a, b| {
            let open = |finding: &Finding| finding.closed.is_some();
            let worst = b.severity.cmp(&a.severity).then_with(|| a.check.cmp(&b.check));
            open(a).cmp(&open(b)).then(worst).then_with(|| a.resource.cmp(&b.resource))
        });
        findings
    }
}

/// A line in the log of the process, for those who watch that.
fn tell(finding: &Finding, turn: Turn) {
    let what = match turn {
        Turn::Opened => "a finding opened",
        Turn::Closed => "a finding closed",
        Turn::Changed | Turn::Forgotten => return,
    };
    tracing::info!(
        finding = finding.id,
        check = finding.check,
        resource = finding.resource.0,
        severity = finding.severity.as_str(),
        summary = finding.summary,
        "{what}"
    );
}
