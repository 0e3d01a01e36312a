//! Keeping findings: they open and close on record, and a person may waive one for a time.

use jiff::{SignedDuration, Timestamp};

use crate::decision::Origin;
use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::finding::{Finding, Severity, Waiver};
use crate::hub::Hub;
use crate::ports::registry::{Change, StoreError, Write};
use crate::record::{Key, Kind, Record};
use crate::registry::{By, change};

/// The longest waiver of a critical finding. There is none without an end.
const CRITICAL_WAIVER_MAX: SignedDuration = SignedDuration::from_hours(92 * 24);
/// The longest waiver of any other.
const WAIVER_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);
/// The longest owner and reason of a waiver, in characters.
const TEXT_CHARS_MAX: usize = 256;

/// What becomes of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It opens.
    Opened,
    /// Its facts are others; not on record, for it says nothing new.
    Changed,
    /// It closes.
    Closed,
    /// It is forgotten.
    Forgotten,
}

impl Hub {
    /// All findings, open and closed.
    pub async fn findings(&self) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        let mut after = None;
        loop {
            let page = self.registry.list(Kind::Finding, after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            findings.extend(page.into_iter().filter_map(|(_, stored)| match stored.record {
                Record::Finding(finding) => Some(*finding),
                _ => None,
            }));
            if !full {
                return Ok(findings);
            }
        }
    }

    /// One finding.
    pub async fn finding(&self, id: &str) -> Result<Finding, HubError> {
        match self.registry.load(Key::Finding(id.to_owned())).await?.map(|stored| stored.record) {
            Some(Record::Finding(finding)) => Ok(*finding),
            _ => Err(unknown(id)),
        }
    }

    /// Writes down what became of a finding.
    pub async fn turn_finding(&self, finding: Finding, turn: Turn) -> Result<(), StoreError> {
        let key = Key::Finding(finding.id.clone());
        let now = self.now();
        let replaces = self.registry.load(key.clone()).await?.map(|stored| stored.version);
        let what = match turn {
            Turn::Opened => Some(PlainChange::OpenFinding),
            Turn::Closed => Some(PlainChange::CloseFinding),
            Turn::Changed | Turn::Forgotten => None,
        };
        let target = format!("{} {} {}", finding.id, finding.check, finding.resource);
        let record = (turn != Turn::Forgotten).then(|| Record::Finding(Box::new(finding)));
        if record.is_none() && replaces.is_none() {
            return Ok(());
        }
        let writes = vec![Write { key, replaces, record }];
        let by = By { actor: "posture".to_owned(), origin: Origin::default() };
        let change = match what {
            Some(what) => change(writes, what, target, &by, now),
            None => Change { writes, ..Change::default() },
        };
        self.registry.commit(change).await.map(drop)
    }

    /// Takes the risk of an open finding for a time, or takes that back when there is no waiver.
    pub async fn waive_finding(
        &self,
        id: &str,
        waiver: Option<Waiver>,
        by: &By,
    ) -> Result<Finding, HubError> {
        let key = Key::Finding(id.to_owned());
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let stored = loaded[0].as_ref().ok_or_else(|| unknown(id))?;
            let Record::Finding(finding) = &stored.record else { return Err(unknown(id)) };
            if let Some(waiver) = &waiver {
                check(waiver, finding.severity, now)?;
            }
            let what = if waiver.is_some() { PlainChange::WaiveFinding } else { PlainChange::EndWaiver };
            let finding = Finding { waiver: waiver.clone(), ..(**finding).clone() };
            let target = match &waiver {
                Some(w) => format!("{id} {} until {}: {} ({})", finding.check, w.until, w.reason, w.owner),
                None => format!("{id} {}", finding.check),
            };
            let record = Some(Record::Finding(Box::new(finding.clone())));
            let write = Write { key: key.clone(), replaces: Some(stored.version), record };
            Ok((change(vec![write], what, target, by, now), finding))
        })
        .await
    }
}

/// Findings that are read at once.
const PAGE: usize = 1_000;

fn check(waiver: &Waiver, severity: Severity, now: Timestamp) -> Result<(), HubError> {
    for (name, text) in [("owner", &waiver.owner), ("reason", &waiver.reason)] {
        let length = text.trim().chars().count();
        if length == 0 || length > TEXT_CHARS_MAX {
            return Err(invalid(format!("The {name} of a waiver has 1 to {TEXT_CHARS_MAX} characters")));
        }
    }
    let longest = if severity == Severity::Critical { CRITICAL_WAIVER_MAX } else { WAIVER_MAX };
    let length = waiver.until.duration_since(now);
    if !length.is_positive() {
        return Err(invalid(format!("{} is past", waiver.until)));
    }
    if length > longest {
        return Err(invalid(format!(
            "A {} finding is waived for {} days at most",
            severity.as_str(),
            longest.as_hours() / 24
        )));
    }
    Ok(())
}

fn unknown(id: &str) -> HubError {
    HubError::new(HubErrorCode::GenericNotFound, format!("There is no finding '{id}'"))
}

fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
