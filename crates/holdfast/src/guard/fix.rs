//! Carries fixes out, and takes them back: what is in the registry by the hub's rules, files and the certificate here.

use std::io;
use std::sync::Arc;

use hub::error::{HubError, HubErrorCode};
use hub::finding::{AppliedFix, ChangedFile, Finding, Fix};
use hub::fixes::Plan;
use hub::registry::By;

use super::{Guard, Report};

/// What a fix would do.
pub(crate) struct Proposal {
    /// The finding.
    pub(crate) finding: Finding,
    /// The changes.
    pub(crate) plan: Plan,
}

/// What a fix did.
pub(crate) struct Fixed {
    /// The record of it.
    pub(crate) applied: AppliedFix,
    /// What was changed.
    pub(crate) plan: Plan,
    /// The fleet after it.
    pub(crate) report: Arc<Report>,
}

impl Guard {
    /// What fixing a finding would change.
    pub(crate) async fn propose(&self, id: &str) -> Result<Proposal, HubError> {
        // Findings are as new as the last look; a fix must not act on what is over.
        self.report().await?;
        let finding = self.hub.finding(id).await?;
        if finding.closed.is_some() {
            return Err(conflict(format!("The finding '{id}' is closed: there is nothing to fix")));
        }
        let Some(fix) = &finding.fix else {
            return Err(conflict(format!(
                "The hub cannot fix '{id}' by itself. What to do: {}",
                finding.advice
            )));
        };
        let mut plan = self.hub.plan_fix(fix, &finding).await?;
        match fix {
            Fix::RestrictFiles { files } => {
                for file in files {
                    let (before, after) = self.place.restriction(file).map_err(|e| failed(file, &e))?;
                    plan.tell(format!("file {file}"), format!("mode {before:04o} → {after:04o}"));
                }
            }
            Fix::RenewServerCertificate => plan.tell(
                "certificate server",
                format!(
                    "ends {} → a new key and certificate under the same authority, used by the next handshake",
                    self.certificate.facts().not_after
                ),
            ),
            _ => {}
        }
        Ok(Proposal { finding, plan })
    }

    /// Fixes a finding.
    pub(crate) async fn fix(&self, id: &str, by: &By) -> Result<Fixed, HubError> {
        let Proposal { finding, plan } = self.propose(id).await?;
        let told = plan.told();
        let files = self.change_files(&finding)?;
        let applied = match self.hub.apply_fix(plan, &finding, files.clone(), by).await {
            Ok(applied) => applied,
            Err(error) => {
                self.restore(&files)?;
                return Err(error);
            }
        };
        Ok(Fixed { applied, plan: told, report: self.look().await? })
    }

    /// Takes a fix back.
    pub(crate) async fn undo(&self, id: &str, by: &By) -> Result<(AppliedFix, Arc<Report>), HubError> {
        let known = self.hub.applied_fixes().await?;
        for file in known
            .iter()
            .filter(|applied| applied.id == id && applied.undone.is_none())
            .flat_map(|applied| &applied.files)
        {
            self.place.restorable(file).map_err(|error| failed(&file.file, &error))?;
        }
        let applied = self.hub.undo_fix(id, by).await?;
        self.restore(&applied.files)?;
        Ok((applied, self.look().await?))
    }

    fn change_files(&self, finding: &Finding) -> Result<Vec<ChangedFile>, HubError> {
        match &finding.fix {
            Some(Fix::RestrictFiles { files }) => files
                .iter()
                .map(|file| self.place.restrict(file).map_err(|error| failed(file, &error)))
                .collect(),
            Some(Fix::RenewServerCertificate) => {
                let suffix = format!("before-{}-{}", finding.id, self.hub.now().as_second());
                let keep = |file: &str| self.place.keep(file, &suffix).map_err(|error| failed(file, &error));
                let kept = vec![keep("server.pem")?, keep("server.key")?];
                if let Err(error) = self.certificate.renew(self.hub.now()) {
                    self.restore(&kept)?;
                    return Err(HubError::new(HubErrorCode::ServerError, format!("{error:#}")));
                }
                Ok(kept)
            }
            _ => Ok(Vec::new()),
        }
    }

    fn restore(&self, files: &[ChangedFile]) -> Result<(), HubError> {
        for file in files {
            self.place.restore(file).map_err(|error| failed(&file.file, &error))?;
        }
        if files.iter().any(|file| file.kept_as.is_some()) {
            self.certificate
                .load()
                .map_err(|error| HubError::new(HubErrorCode::ServerError, format!("{error:#}")))?;
        }
        Ok(())
    }
}

fn failed(file: &str, error: &io::Error) -> HubError {
    HubError::new(HubErrorCode::ServerError, format!("{file}: {error}"))
}

fn conflict(text: String) -> HubError {
    HubError::new(HubErrorCode::GenericConflict, text)
}
