//! The rules of consumer groups of the built-in endpoint (`docs/protocol/event-hubs-endpoint.md` §2).

use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
pub use crate::limits::CONSUMER_GROUPS_MAX;
use crate::ports::registry::Write;
use crate::record::{ConsumerGroup, Key, Kind, Record};
use crate::registry::{By, change};

/// The group that always exists.
pub const DEFAULT_CONSUMER_GROUP: &str = "$Default";
/// The longest name, in characters.
const NAME_CHARS_MAX: usize = 50;

impl Hub {
    /// The names of all groups, the default one first.
    pub async fn consumer_groups(&self) -> Result<Vec<String>, HubError> {
        let stored = self.registry.list(Kind::ConsumerGroup, None, CONSUMER_GROUPS_MAX).await?;
        let named = stored.into_iter().filter_map(|(_, stored)| match stored.record {
            Record::ConsumerGroup(group) => Some(group.name),
            _ => None,
        });
        Ok(std::iter::once(DEFAULT_CONSUMER_GROUP.to_owned()).chain(named).collect())
    }

    /// Creates a group. Names are compared without case.
    pub async fn create_consumer_group(&self, name: &str, by: &By) -> Result<(), HubError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if name.is_empty() || name.len() > NAME_CHARS_MAX || !name.chars().all(legal) {
            let text =
                format!("The name of a consumer group is 1 to {NAME_CHARS_MAX} of letters, digits and . _ -");
            return Err(HubError::new(HubErrorCode::ArgumentInvalid, text));
        }
        if self.registry.count(Kind::ConsumerGroup).await? + 1 >= CONSUMER_GROUPS_MAX as u64 {
            let text = format!("A hub has at most {CONSUMER_GROUPS_MAX} consumer groups");
            return Err(HubError::new(HubErrorCode::GenericConflict, text));
        }
        let (key, now) = (Key::ConsumerGroup(name.to_ascii_lowercase()), self.now());
        self.change(std::slice::from_ref(&key), |loaded| {
            if loaded[0].is_some() {
                let text = format!("There is a consumer group '{name}' already");
                return Err(HubError::new(HubErrorCode::GenericConflict, text));
            }
            let record = Some(Record::ConsumerGroup(ConsumerGroup { name: name.to_owned(), created: now }));
            let write = Write { key: key.clone(), replaces: None, record };
            Ok((change(vec![write], PlainChange::CreateConsumerGroup, name.to_owned(), by, now), ()))
        })
        .await
    }

    /// Deletes a group. The default one cannot be.
    pub async fn delete_consumer_group(&self, name: &str, by: &By) -> Result<(), HubError> {
        let (group, now) = (name.to_ascii_lowercase(), self.now());
        let keys = [Key::ConsumerGroup(group.clone()), Key::ReadPositions(group)];
        self.change(&keys, |loaded| {
            let stored = loaded[0].as_ref().ok_or_else(|| {
                HubError::new(
                    HubErrorCode::GenericNotFound,
                    format!("There is no consumer group '{name}' to delete"),
                )
            })?;
            let gone = |key: &Key, version| Write { key: key.clone(), replaces: Some(version), record: None };
            let mut writes = vec![gone(&keys[0], stored.version)];
            writes.extend(loaded[1].as_ref().map(|positions| gone(&keys[1], positions.version)));
            Ok((change(writes, PlainChange::DeleteConsumerGroup, name.to_owned(), by, now), ()))
        })
        .await?;
        self.positions.forget(name);
        Ok(())
    }
}
