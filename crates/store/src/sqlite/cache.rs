//! Records of which there are few, which seldom change, and which every connect asks for: they are kept in memory as they were
//! committed last.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hub::ports::registry::{StoreError, Versioned};
use hub::record::{Key, Kind};

/// What is remembered.
#[derive(Default)]
pub(super) struct Cache(RwLock<State>);

#[derive(Default)]
struct State {
    /// How often all was forgotten.
    forgotten: u64,
    records: HashMap<Key, Option<Versioned>>,
}

impl Cache {
    /// The record of a key, read where it is not kept.
    pub(super) fn load(
        &self,
        key: &Key,
        read: impl FnOnce() -> Result<Option<Versioned>, StoreError>,
    ) -> Result<Option<Versioned>, StoreError> {
        if !is_cached(key) {
            return read();
        }
        let forgotten = {
            let state = self.read();
            if let Some(found) = state.records.get(key) {
                return Ok(found.clone());
            }
            state.forgotten
        };
        let found = read()?;
        let mut state = self.write();
        // What was read before a change and arrives after it must not stay, nor what is not there: anybody may ask for anything.
        if state.forgotten == forgotten && (found.is_some() || *key == Key::Settings) {
            state.records.insert(key.clone(), found.clone());
        }
        Ok(found)
    }

    /// Is told of the keys of a commit, after it and before anybody else is.
    pub(super) fn committed<'a>(&self, mut keys: impl Iterator<Item = &'a Key>) {
        if keys.any(is_cached) {
            let mut state = self.write();
            state.forgotten += 1;
            state.records.clear();
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_cached(key: &Key) -> bool {
    matches!(key.kind(), Kind::Settings | Kind::Policy)
}

#[cfg(test)]
mod tests {
    use hub::access::PolicyName;
    use hub::record::Record;
    use hub::settings::HubSettings;

    use super::*;

    fn stored(version: u64) -> Option<Versioned> {
        Some(Versioned { version, record: Record::Settings(HubSettings::default()) })
    }

    fn version(loaded: Result<Option<Versioned>, StoreError>) -> Option<u64> {
        loaded.expect("a record").map(|stored| stored.version)
    }

    fn not_read() -> Result<Option<Versioned>, StoreError> {
        panic!("it was read again")
    }

    #[test]
    fn what_was_read_is_kept_until_it_changes() {
        let cache = Cache::default();
        assert_eq!(version(cache.load(&Key::Settings, || Ok(stored(1)))), Some(1));
        cache.committed([Key::UploadAccount].iter());
        assert_eq!(version(cache.load(&Key::Settings, not_read)), Some(1));
        cache.committed([Key::Settings].iter());
        assert_eq!(version(cache.load(&Key::Settings, || Ok(None))), None);
        assert_eq!(version(cache.load(&Key::Settings, not_read)), None);
    }

    #[test]
    fn what_was_read_before_a_change_does_not_stay() {
        let cache = Cache::default();
        let overtaken = cache.load(&Key::Settings, || {
            cache.committed([Key::Settings].iter());
            Ok(stored(1))
        });
        assert_eq!(version(overtaken), Some(1));
        assert_eq!(version(cache.load(&Key::Settings, || Ok(stored(2)))), Some(2));
    }

    #[test]
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let cache = Cache::default();
        for number in 0..1_000 {
            let key = Key::Policy(PolicyName::parse(&format!("p{number}")).expect("a name"));
            assert_eq!(version(cache.load(&key, || Ok(None))), None);
        }
        assert!(cache.read().records.is_empty());
    }
}
