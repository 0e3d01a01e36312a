//! The rules of shared access policies (`docs/protocol/service-rest.md` §9).

use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::access::{DEFAULT_POLICIES, Policy, PolicyName, Rights};
use crate::authenticate::{open_key, policy_place, seal_key};
use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
pub use crate::limits::POLICIES_MAX;
use crate::ports::registry::{StoreError, Versioned, Write};
use crate::record::{Key, Kind, Record, SealedKey, Slot};
use crate::registry::{By, change};

/// A policy with its keys opened.
#[derive(Clone)]
pub struct PolicyView {
    /// The record.
    pub policy: Policy,
    /// The keys in base64, primary and secondary.
    pub keys: [Zeroizing<String>; 2],
}

impl Hub {
    /// Makes the default policies that do not exist yet, each with two random keys. Called when a hub starts; a
    /// policy that was deleted stays deleted, for they are made together with a hub's first policy only.
    pub async fn ensure_default_policies(&self, by: &By) -> Result<(), HubError> {
        if self.registry.count(Kind::Policy).await? > 0 {
            return Ok(());
        }
        let now = self.now();
        let mut writes = Vec::new();
        for (name, rights) in DEFAULT_POLICIES {
            let name = PolicyName::parse(name).map_err(|error| invalid(error.to_string()))?;
            let record = Some(Record::Policy(self.new_policy(&name, rights, now)?));
            writes.push(Write { key: Key::Policy(name), replaces: None, record });
        }
        match self
            .registry
            .commit(change(writes, PlainChange::CreatePolicies, "defaults".to_owned(), by, now))
            .await
        {
            Ok(_) | Err(StoreError::Stale(_)) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All policies.
    pub async fn policies(&self) -> Result<Vec<PolicyView>, HubError> {
        let stored = self.registry.list(Kind::Policy, None, POLICIES_MAX).await?;
        stored
            .into_iter()
            .filter_map(|(_, stored)| match stored.record {
                Record::Policy(policy) => Some(self.policy_view(policy)),
                _ => None,
            })
            .collect()
    }

    /// One policy with its keys.
    pub async fn policy_with_keys(&self, name: &PolicyName) -> Result<PolicyView, HubError> {
        let policy = self.policy(Some(name.as_str())).await?.ok_or_else(|| unknown(name))?;
        self.policy_view(policy)
    }

    /// Creates a policy, or changes the rights of one.
    pub async fn put_policy(
        &self,
        name: &PolicyName,
        rights: Rights,
        by: &By,
    ) -> Result<PolicyView, HubError> {
        let key = Key::Policy(name.clone());
        let count = self.registry.count(Kind::Policy).await?;
        let now = self.now();
        let policy = self
            .change(std::slice::from_ref(&key), |loaded| {
                let stored = loaded[0].as_ref();
                let (what, policy) = match as_policy(stored) {
                    Some(policy) => (PlainChange::UpdatePolicy, Policy { rights, ..policy.clone() }),
                    None if count >= POLICIES_MAX as u64 => {
                        return Err(HubError::new(
                            HubErrorCode::GenericConflict,
                            format!("A hub has at most {POLICIES_MAX} policies"),
                        ));
                    }
                    None => (PlainChange::CreatePolicy, self.new_policy(name, rights, now)?),
                };
                let record = Some(Record::Policy(policy.clone()));
                let write = Write { key: key.clone(), replaces: stored.map(|stored| stored.version), record };
                Ok((change(vec![write], what, name.to_string(), by, now), policy))
            })
            .await?;
        self.policy_view(policy)
    }

    /// Gives a policy a new key in one slot.
    pub async fn regenerate_policy_key(
        &self,
        name: &PolicyName,
        slot: Slot,
        by: &By,
    ) -> Result<PolicyView, HubError> {
        let key = Key::Policy(name.clone());
        let now = self.now();
        let policy = self
            .change(std::slice::from_ref(&key), |loaded| {
                let stored = loaded[0].as_ref();
                let mut policy = as_policy(stored).ok_or_else(|| unknown(name))?.clone();
                let sealed = self.sealed_new_key(name, slot, now)?;
                match slot {
                    Slot::Primary => policy.primary = sealed,
                    Slot::Secondary => policy.secondary = sealed,
                }
                let record = Some(Record::Policy(policy.clone()));
                let write = Write { key: key.clone(), replaces: stored.map(|stored| stored.version), record };
                Ok((change(vec![write], PlainChange::RegeneratePolicyKey, name.to_string(), by, now), policy))
            })
            .await?;
        self.policy_view(policy)
    }

    /// Deletes a policy.
    pub async fn delete_policy(&self, name: &PolicyName, by: &By) -> Result<(), HubError> {
        let key = Key::Policy(name.clone());
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let stored = loaded[0].as_ref().ok_or_else(|| unknown(name))?;
            let write = Write { key: key.clone(), replaces: Some(stored.version), record: None };
            Ok((change(vec![write], PlainChange::DeletePolicy, name.to_string(), by, now), ()))
        })
        .await
    }

    fn new_policy(&self, name: &PolicyName, rights: Rights, now: Timestamp) -> Result<Policy, HubError> {
        Ok(Policy {
            name: name.clone(),
            rights,
            primary: self.sealed_new_key(name, Slot::Primary, now)?,
            secondary: self.sealed_new_key(name, Slot::Secondary, now)?,
            created: now,
        })
    }

    fn sealed_new_key(&self, name: &PolicyName, slot: Slot, now: Timestamp) -> Result<SealedKey, HubError> {
        seal_key(&self.new_key(), name.as_str(), (&policy_place(name), slot), &*self.secrets, now)
            .map_err(|_| unopened(name))
    }

    fn policy_view(&self, policy: Policy) -> Result<PolicyView, HubError> {
        let place = policy_place(&policy.name);
        let open =
            |key, slot| open_key(key, &place, slot, &*self.secrets).ok_or_else(|| unopened(&policy.name));
        let keys = [open(&policy.primary, Slot::Primary)?, open(&policy.secondary, Slot::Secondary)?];
        Ok(PolicyView { policy, keys })
    }
}

fn as_policy(stored: Option<&Versioned>) -> Option<&Policy> {
    match &stored?.record {
        Record::Policy(policy) => Some(policy),
        _ => None,
    }
}

fn unknown(name: &PolicyName) -> HubError {
    HubError::new(HubErrorCode::GenericNotFound, format!("There is no shared access policy '{name}'"))
}

fn unopened(name: &PolicyName) -> HubError {
    HubError::new(HubErrorCode::ServerError, format!("The keys of the policy '{name}' do not open"))
}

fn invalid(text: String) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
