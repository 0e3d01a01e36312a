//! Writes down what policies were used for: once for all that happened in a few seconds, and after whoever it was has gone on.

use std::collections::HashMap;

use hub::access::PolicyName;
use hub::activity::PolicyUse;
use hub::ports::registry::{Registry, StoreError};
use hub::record::{Key, Record};

/// Adds this use to what the registry has.
pub(super) async fn write(
    registry: &dyn Registry,
    used: &HashMap<PolicyName, PolicyUse>,
) -> Result<(), StoreError> {
    let mut records = Vec::new();
    for (policy, used) in used {
        let key = Key::PolicyUse(policy.clone());
        let mut merged = match registry.load(key.clone()).await?.map(|stored| stored.record) {
            Some(Record::PolicyUse(have)) => have,
            _ => PolicyUse::default(),
        };
        merged.merge(used.clone());
        records.push((key, Record::PolicyUse(merged)));
    }
    match records.is_empty() {
        true => Ok(()),
        false => registry.note(records).await,
    }
}
