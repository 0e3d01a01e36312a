//! Fixes of findings, as changes of the registry: what one would change, making it, and taking it back. A fix and what
//! it takes to undo it commit together.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::access::{Policy, PolicyName, Rights};
use crate::authenticate::{key_place, policy_place, seal_key};
use crate::deed::ChangeKind;
use crate::error::{HubError, HubErrorCode};
use crate::finding::{AppliedFix, ChangedFile, Finding, Fix, Replaced};
use crate::hub::Hub;
use crate::identity::{DeviceId, Identity};
use crate::policies::POLICIES_MAX;
use crate::ports::registry::{StoreError, Versioned, Write};
use crate::ports::secrets::Fingerprint;
use crate::record::{Authentication, Key, Kind, Record, Slot, Status};
use crate::registry::{By, change};

/// What a fix would change.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Each change, for people.
    pub changes: Vec<Planned>,
    /// Identities that the change may cut off until they are given the new credential.
    pub cuts_off: Vec<String>,
    /// The records: each with what there is now and what will be.
    records: BTreeMap<Key, (Option<Versioned>, Record)>,
}

/// One change of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Planned {
    /// What is changed.
    pub target: String,
    /// From what to what.
    pub change: String,
}

impl Plan {
    /// The same in words only, for an answer.
    #[must_use]
    pub fn told(&self) -> Self {
        Self { changes: self.changes.clone(), cuts_off: self.cuts_off.clone(), records: BTreeMap::new() }
    }

    /// Adds a line.
    pub fn tell(&mut self, target: impl Into<String>, change: impl Into<String>) {
        self.changes.push(Planned { target: target.into(), change: change.into() });
    }
}

impl Hub {
    /// What a fix would change now. A fix of files changes nothing here.
    pub async fn plan_fix(&self, fix: &Fix, finding: &Finding) -> Result<Plan, HubError> {
        let mut plan = Plan::default();
        match fix {
            Fix::RotateKeys { keys } => {
                for key in keys {
                    let identity =
                        Identity::parse(&key.identity).map_err(|error| invalid(error.to_string()))?;
                    self.plan_new_key(&mut plan, &identity, key.slot).await?;
                }
            }
            Fix::DisableDevices { devices } => {
                for device in devices {
                    self.plan_disable(&mut plan, device, finding).await?;
                }
            }
            Fix::RotatePolicyKey { policy, slot } => self.plan_policy_key(&mut plan, policy, *slot).await?,
            Fix::CreatePolicy { policy, rights } => self.plan_policy(&mut plan, policy, *rights).await?,
            Fix::RefusePolicyKeysToDevices => {
                let holders = self.bus.holders();
                let by_policy = |holder: &&std::sync::Arc<dyn crate::ports::bus::Holder>| {
                    holder.grant().basis.policy().is_some()
                };
                plan.cuts_off = holders
                    .iter()
                    .filter(by_policy)
                    .map(|holder| holder.grant().identity().to_string())
                    .collect();
                plan.cuts_off.sort();
                self.plan_setting(&mut plan, "deviceScopedTokensOnly", |settings| {
                    std::mem::replace(&mut settings.device_scoped_tokens_only, true).to_string()
                })
                .await?;
            }
            Fix::CapTokenLifetime { seconds } => {
                let latest = self.now().as_second() + *seconds as i64 + crate::sas::SKEW_SECONDS;
                let holders = self.bus.holders();
                let beyond =
                    holders.iter().filter(|h| h.grant().token_ends().is_some_and(|ends| ends > latest));
                plan.cuts_off = beyond.map(|holder| holder.grant().identity().to_string()).collect();
                plan.cuts_off.sort();
                self.plan_setting(&mut plan, "maxTokenLifetime", |settings| {
                    let before = settings.max_token_lifetime.replace(*seconds);
                    before.map_or("none".to_owned(), |seconds| format!("{seconds} s"))
                })
                .await?;
            }
            Fix::DistrustAuthority { authority } => self.plan_distrust(&mut plan, authority).await?,
            Fix::RestrictFiles { .. } | Fix::RenewServerCertificate => {}
        }
        Ok(plan)
    }

    /// Makes the changes of a plan, with the record of how to take them back; `files` are those that were changed
    /// already. Whatever changed since the plan was made fails the whole.
    pub async fn apply_fix(
        &self,
        plan: Plan,
        finding: &Finding,
        files: Vec<ChangedFile>,
        by: &By,
    ) -> Result<AppliedFix, HubError> {
        let Some(fix) = finding.fix.clone() else { return Err(conflict("The finding has no fix")) };
        let now = self.now();
        let mut writes = Vec::new();
        let mut records = Vec::new();
        for (key, (before, after)) in plan.records {
            let replaces = before.as_ref().map(|stored| stored.version);
            let (owner, name) = key.parts();
            records.push(Replaced {
                key: (key.kind(), owner.to_owned(), name.into_owned()),
                before: before.map(|stored| Box::new(stored.record)),
                version: replaces.unwrap_or(0) + 1,
            });
            writes.push(Write { key, replaces, record: Some(after) });
        }
        let applied = AppliedFix {
            id: self.fix_id(),
            finding: finding.id.clone(),
            check: finding.check.clone(),
            fix,
            actor: by.actor.clone(),
            time: now,
            undone: None,
            records,
            files,
        };
        let record = Some(Record::AppliedFix(Box::new(applied.clone())));
        writes.push(Write { key: Key::AppliedFix(applied.id.clone()), replaces: None, record });
        let what = ChangeKind::Fix(finding.check.to_string());
        let change = change(writes, what, format!("{} {}", finding.id, finding.resource), by, now);
        match self.registry.commit(change).await {
            Ok(_) => Ok(applied),
            Err(StoreError::Stale(key)) => {
                Err(conflict(format!("{} was changed in the meantime: look again", name(&key))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes a fix back: every record is as it was before. Refused when something that it changed was changed since, for
    /// that would be lost.
    pub async fn undo_fix(&self, id: &str, by: &By) -> Result<AppliedFix, HubError> {
        let key = Key::AppliedFix(id.to_owned());
        let stored = self.registry.load(key.clone()).await?;
        let (mut applied, version) = match stored {
            Some(Versioned { record: Record::AppliedFix(applied), version }) => (*applied, version),
            _ => return Err(HubError::new(HubErrorCode::GenericNotFound, format!("There is no fix '{id}'"))),
        };
        if let Some(undone) = applied.undone {
            return Err(conflict(format!("The fix '{id}' was undone at {undone}")));
        }
        let mut writes = Vec::new();
        for replaced in &applied.records {
            let (kind, owner, part) = &replaced.key;
            let key = Key::from_parts(*kind, owner, part).ok_or_else(|| {
                HubError::new(HubErrorCode::ServerError, "A record of the fix is unreadable")
            })?;
            let now = self.registry.load(key.clone()).await?.map(|stored| stored.version);
            if now != Some(replaced.version) {
                return Err(conflict(format!(
                    "{} was changed after the fix; undoing it would lose that change",
                    name(&key)
                )));
            }
            let record = replaced.before.as_deref().cloned();
            writes.push(Write { key, replaces: now, record });
        }
        let now = self.now();
        applied.undone = Some(now);
        let record = Some(Record::AppliedFix(Box::new(applied.clone())));
        writes.push(Write { key, replaces: Some(version), record });
        let what = ChangeKind::UndoFix(applied.check.to_string());
        match self
            .registry
            .commit(change(writes, what.clone(), format!("{id} {}", applied.finding), by, now))
            .await
        {
            Ok(_) => Ok(applied),
            Err(StoreError::Stale(key)) => {
                Err(conflict(format!("{} was changed in the meantime: look again", name(&key))))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The fixes that were made, newest first.
    pub async fn applied_fixes(&self) -> Result<Vec<AppliedFix>, HubError> {
        let stored = self.registry.list(Kind::AppliedFix, None, APPLIED_LISTED_MAX).await?;
        let mut fixes: Vec<AppliedFix> = stored
            .into_iter()
            .filter_map(|(_, stored)| match stored.record {
                Record::AppliedFix(applied) => Some(*applied),
                _ => None,
            })
            .collect();
        fixes.sort_by_key(|applied| std::cmp::Reverse(applied.time));
        Ok(fixes)
    }

    fn fix_id(&self) -> String {
        let mut bytes = [0_u8; 5];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The record under a key: as the plan will have it, or as it is.
    async fn planned(
        &self,
        plan: &mut Plan,
        key: &Key,
    ) -> Result<(Option<Versioned>, Option<Record>), HubError> {
        if let Some((before, after)) = plan.records.get(key) {
            return Ok((before.clone(), Some(after.clone())));
        }
        let stored = self.registry.load(key.clone()).await?;
        let record = stored.as_ref().map(|stored| stored.record.clone());
        Ok((stored, record))
    }

    async fn plan_new_key(&self, plan: &mut Plan, identity: &Identity, slot: Slot) -> Result<(), HubError> {
        let key = match &identity.module {
            None => Key::Device(identity.device.clone()),
            Some(module) => Key::Module(identity.device.clone(), module.clone()),
        };
        let (before, record) = self.planned(plan, &key).await?;
        let mut record = record.ok_or_else(|| gone(&key))?;
        let (authentication, etag) = match &mut record {
            Record::Device(device) => (&mut device.authentication, &mut device.etag),
            Record::Module(module) => (&mut module.authentication, &mut module.etag),
            _ => return Err(gone(&key)),
        };
        let Authentication::Sas { primary, secondary } = authentication else {
            return Err(conflict(format!("{} has no symmetric keys", name(&key))));
        };
        let sealed = match slot {
            Slot::Primary => primary,
            Slot::Secondary => secondary,
        };
        let new = seal_key(
            &self.new_key(),
            &identity.to_string(),
            (&key_place(identity), slot),
            &*self.secrets,
            self.now(),
        )
        .map_err(|_| HubError::new(HubErrorCode::ServerError, "The key could not be sealed"))?;
        plan.tell(name(&key), new_key_text(slot, &sealed.fingerprint));
        *sealed = new;
        *etag = self.new_etag();
        let named = identity.to_string();
        if !plan.cuts_off.contains(&named) {
            plan.cuts_off.push(named);
        }
        plan.records.insert(key, (before, record));
        Ok(())
    }

    async fn plan_disable(&self, plan: &mut Plan, device: &str, finding: &Finding) -> Result<(), HubError> {
        let key = Key::Device(DeviceId::parse(device).map_err(|e| invalid(e.to_string()))?);
        let (before, record) = self.planned(plan, &key).await?;
        let Some(Record::Device(mut device)) = record else { return Err(gone(&key)) };
        if device.status == Status::Disabled {
            return Err(conflict(format!("{} is disabled already", name(&key))));
        }
        device.status = Status::Disabled;
        device.status_reason = Some(format!("finding {} ({})", finding.id, finding.check));
        device.status_updated = Some(self.now());
        device.etag = self.new_etag();
        plan.tell(name(&key), "status: enabled → disabled");
        plan.cuts_off.push(device.id.to_string());
        plan.records.insert(key, (before, Record::Device(device)));
        Ok(())
    }

    async fn plan_policy_key(
        &self,
        plan: &mut Plan,
        policy: &PolicyName,
        slot: Slot,
    ) -> Result<(), HubError> {
        let key = Key::Policy(policy.clone());
        let (before, record) = self.planned(plan, &key).await?;
        let Some(Record::Policy(mut record)) = record else { return Err(gone(&key)) };
        let new = self.sealed_policy_key(policy, slot)?;
        let sealed = match slot {
            Slot::Primary => &mut record.primary,
            Slot::Secondary => &mut record.secondary,
        };
        plan.tell(name(&key), new_key_text(slot, &sealed.fingerprint));
        plan.tell(
            name(&key),
            "services and devices that use the old key are cut off until they have the new one",
        );
        *sealed = new;
        plan.records.insert(key, (before, Record::Policy(record)));
        Ok(())
    }

    async fn plan_policy(
        &self,
        plan: &mut Plan,
        policy: &PolicyName,
        rights: Rights,
    ) -> Result<(), HubError> {
        let key = Key::Policy(policy.clone());
        if self.registry.load(key.clone()).await?.is_some() {
            return Err(conflict(format!("{} exists already", name(&key))));
        }
        if self.registry.count(Kind::Policy).await? >= POLICIES_MAX as u64 {
            return Err(conflict(format!("A hub has at most {POLICIES_MAX} policies")));
        }
        plan.tell(name(&key), format!("is created with {rights} and two random keys"));
        let record = Policy {
            name: policy.clone(),
            rights,
            primary: self.sealed_policy_key(policy, Slot::Primary)?,
            secondary: self.sealed_policy_key(policy, Slot::Secondary)?,
            created: self.now(),
        };
        plan.records.insert(key, (None, Record::Policy(record)));
        Ok(())
    }

    async fn plan_setting(
        &self,
        plan: &mut Plan,
        setting: &str,
        change: impl FnOnce(&mut crate::settings::HubSettings) -> String,
    ) -> Result<(), HubError> {
        let (before, record) = self.planned(plan, &Key::Settings).await?;
        let mut settings = match record {
            Some(Record::Settings(settings)) => settings,
            _ => Default::default(),
        };
        let was = change(&mut settings);
        let now = serde_json::to_value(&settings).unwrap_or_default()[setting].to_string();
        let unit = if setting == "maxTokenLifetime" { " s" } else { "" };
        plan.tell("the settings of the hub", format!("{setting}: {was} → {now}{unit}"));
        plan.records.insert(Key::Settings, (before, Record::Settings(settings)));
        Ok(())
    }

    async fn plan_distrust(&self, plan: &mut Plan, authority: &str) -> Result<(), HubError> {
        let key = Key::Authority(authority.to_owned());
        let (before, record) = self.planned(plan, &key).await?;
        let Some(Record::Authority(mut record)) = record else { return Err(gone(&key)) };
        record.verified = false;
        plan.tell(name(&key), "verified: true → false; devices whose certificate leads to it are refused");
        plan.records.insert(key, (before, Record::Authority(record)));
        Ok(())
    }

    fn sealed_policy_key(
        &self,
        policy: &PolicyName,
        slot: Slot,
    ) -> Result<crate::record::SealedKey, HubError> {
        seal_key(&self.new_key(), policy.as_str(), (&policy_place(policy), slot), &*self.secrets, self.now())
            .map_err(|_| HubError::new(HubErrorCode::ServerError, "The key could not be sealed"))
    }
}

/// The most fixes that are listed.
const APPLIED_LISTED_MAX: usize = 1_000;

fn new_key_text(slot: Slot, old: &Fingerprint) -> String {
    let slot = if slot == Slot::Primary { "primaryKey" } else { "secondaryKey" };
    let old = old.short();
    format!("{slot}: fingerprint {old}… → a new random key of 32 bytes")
}

/// A record for people.
fn name(key: &Key) -> String {
    match key {
        Key::Device(device) => format!("device {device}"),
        Key::Module(device, module) => format!("module {device}/{module}"),
        Key::Policy(policy) => format!("policy {policy}"),
        Key::Authority(authority) => format!("authority {authority}"),
        Key::Settings => "the settings of the hub".to_owned(),
        other => format!("{other:?}"),
    }
}

fn gone(key: &Key) -> HubError {
    HubError::new(HubErrorCode::GenericNotFound, format!("There is no {} any more", name(key)))
}

fn conflict(text: impl Into<String>) -> HubError {
    HubError::new(HubErrorCode::GenericConflict, text)
}

fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
