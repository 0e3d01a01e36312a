//! Writes down who was used for what: once for all that happened in a few seconds, and after whoever it was has gone on.

use hub::activity::{Activity, PolicyUse};
use hub::hub::Hub;
use hub::identity::Identity;
use hub::ports::registry::StoreError;
use hub::record::{Key, Record};
use posture::usage::{Usage, Used};

/// Records that are written in one transaction.
const BATCH: usize = 512;

/// Writes everything down. What could not be written is given back with the reason.
pub(super) async fn write(hub: &Hub, usage: Usage) -> Result<(), (Usage, StoreError)> {
    let mut left = usage;
    if let Err(error) = policies(hub, &mut left).await {
        return Err((left, error));
    }
    // In the order in which they lie in the registry.
    let mut identities: Vec<(Identity, Used)> = left.identities.drain().collect();
    identities.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    while !identities.is_empty() {
        let rest = identities.split_off(identities.len().min(BATCH));
        if let Err(error) = write_identities(hub, &identities).await {
            left.identities.extend(identities.into_iter().chain(rest));
            return Err((left, error));
        }
        identities = rest;
    }
    Ok(())
}

async fn policies(hub: &Hub, left: &mut Usage) -> Result<(), StoreError> {
    let mut records = Vec::new();
    for (policy, used) in &left.policies {
        let key = Key::PolicyUse(policy.clone());
        let mut merged = match hub.registry.load(key.clone()).await?.map(|stored| stored.record) {
            Some(Record::PolicyUse(have)) => have,
            _ => PolicyUse::default(),
        };
        merged.merge(used.clone());
        records.push((key, Record::PolicyUse(merged)));
    }
    if !records.is_empty() {
        hub.registry.note(records).await?;
    }
    left.policies.clear();
    Ok(())
}

async fn write_identities(hub: &Hub, identities: &[(Identity, Used)]) -> Result<(), StoreError> {
    let mut records = Vec::with_capacity(identities.len());
    for (identity, used) in identities {
        let key = Key::Activity(identity.clone());
        // One that was admitted just now needs nothing of what was known before.
        let activity: Option<Activity> = match &used.admitted {
            Some(admitted) => Some((**admitted).clone()),
            None => match hub.registry.load(key.clone()).await?.map(|stored| stored.record) {
                Some(Record::Activity(activity)) => Some(activity),
                _ => None,
            },
        };
        records.extend(activity.map(|mut activity| {
            activity.ended = used.ended.or(activity.ended);
            (key, Record::Activity(activity))
        }));
    }
    hub.registry.note(records).await
}
