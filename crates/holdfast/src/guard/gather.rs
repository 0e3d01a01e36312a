//! Gathers the facts of a look that are not about single identities, page by page.

use std::collections::VecDeque;

use hub::activity::PolicyUse;
use hub::hub::Hub;
use hub::ports::registry::{Registry, StoreError, Versioned};
use hub::record::{Authority, Key, Kind, Record};
use posture::facts::PolicyFacts;

/// Records that are read at once.
const PAGE: usize = 500;

/// The policies with their keys and their use.
pub(super) async fn policies(hub: &Hub) -> Result<Vec<PolicyFacts>, StoreError> {
    let mut facts = Vec::new();
    for (_, stored) in hub.registry.list(Kind::Policy, None, PAGE).await? {
        let Record::Policy(policy) = stored.record else { continue };
        let used = match hub.registry.load(Key::PolicyUse(policy.name.clone())).await?.map(|s| s.record) {
            Some(Record::PolicyUse(used)) => used,
            _ => PolicyUse::default(),
        };
        facts.push(PolicyFacts { policy, used });
    }
    Ok(facts)
}

/// The certificate authorities of devices.
pub(super) async fn authorities(hub: &Hub) -> Result<Vec<Authority>, StoreError> {
    let stored = hub.registry.list(Kind::Authority, None, PAGE).await?;
    Ok(stored
        .into_iter()
        .filter_map(|(_, stored)| match stored.record {
            Record::Authority(authority) => Some(authority),
            _ => None,
        })
        .collect())
}

/// Walks the records of a kind in the order of their keys.
pub(super) struct Cursor<'a> {
    registry: &'a dyn Registry,
    kind: Kind,
    page: VecDeque<(Key, Versioned)>,
    after: Option<Key>,
    ended: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(registry: &'a dyn Registry, kind: Kind) -> Self {
        Self { registry, kind, page: VecDeque::new(), after: None, ended: false }
    }

    pub(super) async fn next(&mut self) -> Result<Option<(Key, Versioned)>, StoreError> {
        if self.page.is_empty() && !self.ended {
            let page = self.registry.list(self.kind, self.after.take(), PAGE).await?;
            self.ended = page.len() < PAGE;
            self.after = page.last().map(|(key, _)| key.clone());
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }
}
