//! Refusals and ends looked at again, when somebody asks: what the log and the registry know by then is added before
//! they are put into words. Nothing here runs for a client.

use crate::decision::{Act, Decision, DecisionFilter, Numbered};
use crate::deed::{ChangeKind, PlainChange};
use crate::explain::{Explanation, explain, near_misses};
use crate::hub::Hub;
use crate::ports::registry::StoreError;
use crate::record::Kind;
use crate::refusal::{ChangeFacts, Newcomer, Refusal};

/// Changes of one device that are looked through for the one that explains a refusal.
const CHANGES_MAX: usize = 50;
/// Decisions around the end of a connection that are looked through for the newer one.
const NEIGHBOURS_MAX: usize = 200;
/// Admitted connections that are looked through for a chain that had the intermediate.
const CHAINS_MAX: usize = 1_000;

/// A refusal in plain words.
#[derive(Debug, Clone)]
pub struct Explained {
    /// The decision.
    pub decision: Numbered<Decision>,
    /// What it means.
    pub explanation: Explanation,
}

impl Hub {
    /// The refusals and ends that a filter names, newest first, each explained.
    pub async fn why(&self, filter: DecisionFilter) -> Result<Vec<Explained>, StoreError> {
        let filter = DecisionFilter { refused_only: true, ..filter };
        let mut all = Vec::new();
        for mut decision in self.registry.decisions(filter).await? {
            self.complete(&mut decision).await?;
            if let Some(explanation) = explain(&decision.record) {
                all.push(Explained { decision, explanation });
            }
        }
        // A search for the mistake behind a signature holds a record back, so that numbers may differ from times.
        all.sort_by_key(|explained| {
            std::cmp::Reverse((explained.decision.record.time, explained.decision.number))
        });
        Ok(all)
    }

    /// Adds to a refusal what is known now.
    async fn complete(&self, decision: &mut Numbered<Decision>) -> Result<(), StoreError> {
        let (number, record) = (decision.number, &decision.record);
        let claimed = record.identity.clone().unwrap_or_default();
        let (device, module) = claimed.split_once('/').unwrap_or((&claimed, ""));
        let sharper = match &record.refusal {
            Some(Refusal::UnknownDevice { .. }) => {
                match self.change_of(device, number, |what| *what == PlainChange::DeleteDevice).await? {
                    Some(change) => Some(Refusal::DeletedDevice { change: Box::new(change) }),
                    None => Some(Refusal::UnknownDevice { near: self.near_devices(device).await? }),
                }
            }
            Some(Refusal::UnknownModule { .. }) => {
                Some(Refusal::UnknownModule { near: self.near_modules(device, module).await? })
            }
            Some(Refusal::UnknownPolicy { policy, .. }) => {
                let policies = self.registry.list(Kind::Policy, None, crate::policies::POLICIES_MAX).await?;
                let names: Vec<String> = policies.iter().map(|(key, _)| key.parts().0.to_owned()).collect();
                let near = near_misses(policy, names.iter().map(String::as_str));
                Some(Refusal::UnknownPolicy { policy: policy.clone(), near })
            }
            Some(Refusal::WrongKey { holder, unsearched, .. }) => {
                let replaced = ChangeKind::may_replace_keys;
                let change = self.change_of(device, number, replaced).await?;
                Some(Refusal::WrongKey {
                    holder: holder.clone(),
                    change: change.map(Box::new),
                    unsearched: *unsearched,
                })
            }
            Some(Refusal::UnknownConsumerGroup { group, .. }) => {
                let groups = self.registry.list(Kind::ConsumerGroup, None, 20).await?;
                let groups = groups.iter().map(|(key, _)| key.parts().0.to_owned());
                let groups = std::iter::once("$Default".to_owned()).chain(groups).collect();
                Some(Refusal::UnknownConsumerGroup { group: group.clone(), groups })
            }
            Some(Refusal::UntrustedChain { issuer, authorities, .. })
                if record.facts.chain.len() == 1 && !authorities.contains(issuer) =>
            {
                self.was_sent_by_others(issuer).await?.then(|| Refusal::IntermediateMissing {
                    issuer: issuer.clone(),
                    authorities: authorities.clone(),
                })
            }
            Some(Refusal::TakenOver { .. }) => {
                Some(Refusal::TakenOver { by: self.newcomer(decision, device).await?.map(Box::new) })
            }
            Some(Refusal::RightEnded { because, .. }) => {
                let change = self.change_before(device, number).await?;
                Some(Refusal::RightEnded { because: because.clone(), change: change.map(Box::new) })
            }
            _ => None,
        };
        if let Some(sharper) = sharper {
            decision.record.refusal = Some(sharper);
        }
        Ok(())
    }

    /// The last change of a device before a decision that did such a thing.
    async fn change_of(
        &self,
        device: &str,
        before: u64,
        did: impl Fn(&ChangeKind) -> bool,
    ) -> Result<Option<ChangeFacts>, StoreError> {
        if device.is_empty() {
            return Ok(None);
        }
        let changes = self.changes(Some(device), before).await?;
        Ok(changes.into_iter().find(|change| did(&change.what) && change.target == device))
    }

    /// The last change before a decision that may have ended the right of a device: of the device, or of what all
    /// depend on.
    async fn change_before(&self, device: &str, before: u64) -> Result<Option<ChangeFacts>, StoreError> {
        let own =
            self.changes(Some(device), before).await?.into_iter().find(|change| !change.what.is_of_twin());
        let shared = self.changes(None, before).await?.into_iter().find(|change| change.what.concerns_all());
        Ok([own, shared].into_iter().flatten().max_by_key(|change| change.time))
    }

    async fn changes(&self, device: Option<&str>, before: u64) -> Result<Vec<ChangeFacts>, StoreError> {
        let filter = DecisionFilter {
            device: device.map(str::to_owned),
            kind: Some("change".to_owned()),
            before: Some(before),
            limit: CHANGES_MAX,
            ..DecisionFilter::default()
        };
        let changes = self.registry.decisions(filter).await?.into_iter().filter_map(|numbered| {
            let decision = numbered.record;
            let Act::Change { what, target, .. } = decision.act else { return None };
            Some(ChangeFacts {
                what,
                target,
                actor: decision.actor,
                address: decision.origin.address,
                time: decision.time,
            })
        });
        Ok(changes.collect())
    }

    /// The connection of the same identity that was admitted last when this one ended. Both are decided within
    /// moments, and their records may stand in either order.
    async fn newcomer(
        &self,
        ended: &Numbered<Decision>,
        device: &str,
    ) -> Result<Option<Newcomer>, StoreError> {
        let filter = DecisionFilter {
            device: Some(device.to_owned()),
            before: Some(ended.number + NEIGHBOURS_MAX as u64),
            limit: NEIGHBOURS_MAX,
            ..DecisionFilter::default()
        };
        let around = self.registry.decisions(filter).await?;
        let newer = around.into_iter().map(|numbered| numbered.record).find(|decision| {
            decision.act == Act::Connect
                && decision.refusal.is_none()
                && decision.identity == ended.record.identity
                && decision.time <= ended.record.time
                && decision.origin != ended.record.origin
        });
        Ok(newer.map(|decision| Newcomer {
            address: decision.origin.address,
            port: decision.origin.port,
            sdk: decision.facts.sdk,
            time: decision.time,
        }))
    }

    /// Whether a client that was admitted sent a certificate of this subject above its own: then it is an intermediate.
    async fn was_sent_by_others(&self, subject: &str) -> Result<bool, StoreError> {
        let filter = DecisionFilter { limit: CHAINS_MAX, ..DecisionFilter::default() };
        let decisions = self.registry.decisions(filter).await?;
        Ok(decisions.iter().any(|numbered| {
            let decision = &numbered.record;
            let above = decision.facts.chain.iter().skip(1);
            decision.refusal.is_none() && above.into_iter().any(|certificate| certificate.subject == subject)
        }))
    }
}
