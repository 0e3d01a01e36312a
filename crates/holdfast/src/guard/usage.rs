//! Writes down who was used for what: once for all that happened in a few seconds, and after whoever it was has gone on.

use hub::hub::Hub;
use hub::identity::Identity;
use hub::ports::registry::{Change, StoreError, Write};
use hub::record::{Key, Record};
use posture::usage::{Usage, Used};

/// Records that are written in one transaction.
const BATCH: usize = 256;

/// Writes everything down. What could not be written is given back with the reason.
pub(super) async fn write(hub: &Hub, usage: Usage) -> Result<(), (Usage, StoreError)> {
    let mut left = usage;
    while !left.identities.is_empty() || !left.policies.is_empty() {
        let mut writes = Vec::with_capacity(BATCH);
        let mut taken = Usage::default();
        let keys: Vec<Identity> = left.identities.keys().take(BATCH).cloned().collect();
        for identity in keys {
            let Some(used) = left.identities.remove(&identity) else { continue };
            let write = identity_write(hub, &identity, &used).await;
            taken.identities.insert(identity, used);
            match write {
                Ok(write) => writes.extend(write),
                Err(error) => return Err((together(left, taken), error)),
            }
        }
        if writes.len() < BATCH {
            for (policy, used) in left.policies.drain() {
                let key = Key::PolicyUse(policy.clone());
                let stored = hub.registry.load(key.clone()).await.ok().flatten();
                let replaces = stored.as_ref().map(|stored| stored.version);
                let mut merged = match stored.map(|stored| stored.record) {
                    Some(Record::PolicyUse(have)) => have,
                    _ => Default::default(),
                };
                merged.merge(used.clone());
                writes.push(Write { key, replaces, record: Some(Record::PolicyUse(merged)) });
                taken.policies.insert(policy, used);
            }
        }
        match hub.registry.commit(Change { writes, decision: None }).await {
            Ok(_) => {}
            // A device was deleted in between, most likely; what was seen of the others still counts.
            Err(error) => return Err((together(left, taken), error)),
        }
    }
    Ok(())
}

/// What to write of one identity: nothing when it is none of the hub's any more.
async fn identity_write(hub: &Hub, identity: &Identity, used: &Used) -> Result<Option<Write>, StoreError> {
    let registered = match &identity.module {
        None => Key::Device(identity.device.clone()),
        Some(module) => Key::Module(identity.device.clone(), module.clone()),
    };
    if hub.registry.load(registered).await?.is_none() {
        return Ok(None);
    }
    let key = Key::Activity(identity.clone());
    let stored = hub.registry.load(key.clone()).await?;
    let replaces = stored.as_ref().map(|stored| stored.version);
    let before = stored.and_then(|stored| match stored.record {
        Record::Activity(activity) => Some(activity),
        _ => None,
    });
    Ok(used.admitted.clone().or(before).map(|mut activity| {
        activity.ended = used.ended.or(activity.ended);
        Write { key, replaces, record: Some(Record::Activity(activity)) }
    }))
}

fn together(mut left: Usage, taken: Usage) -> Usage {
    left.identities.extend(taken.identities);
    left.policies.extend(taken.policies);
    left
}
