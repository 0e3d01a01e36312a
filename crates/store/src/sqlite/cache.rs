//! Records that every connect asks for, kept in memory as they were committed last: the settings, the policies, and the
//! identities and sessions that were written or asked for lately.

use std::sync::Arc;
use std::time::Duration;

use hub::ports::registry::{StoreError, Versioned};
use hub::record::{Key, Kind, Record};
use quick_cache::sync::{Cache as Bounded, GuardResult};

/// Records that are kept at most: those of 32,768 devices, each with its session or with the knowledge that it has none. A device
/// takes about 1 KiB.
const RECORDS_MAX: usize = 65_536;

/// What is remembered. What nobody asks for makes room for what is asked for.
pub(super) struct Cache(Bounded<Key, Kept>);

/// `None`: there is no such record.
type Kept = Option<Arc<Versioned>>;

impl Default for Cache {
    fn default() -> Self {
        Self(Bounded::new(RECORDS_MAX))
    }
}

impl Cache {
    /// The record of a key, read where it is not kept.
    pub(super) fn load(
        &self,
        key: &Key,
        read: impl FnOnce() -> Result<Option<Versioned>, StoreError>,
    ) -> Result<Option<Versioned>, StoreError> {
        if !is_cached(key.kind()) {
            return read();
        }
        match self.0.get_value_or_guard(key, Some(Duration::ZERO)) {
            GuardResult::Value(kept) => Ok(kept.map(Arc::unwrap_or_clone)),
            GuardResult::Guard(place) => {
                let found = read()?;
                if found.is_some() || is_asked_for_by_its_owner(key.kind()) {
                    // Its place is gone if the key was committed meanwhile: what was read may be from before that.
                    let _ = place.insert(found.clone().map(Arc::new));
                }
                Ok(found)
            }
            // Another thread is reading it.
            GuardResult::Timeout => read(),
        }
    }

    /// Is told of a write and the version after it, when it is committed and before anybody else is told.
    pub(super) fn committed(&self, key: &Key, version: u64, record: Option<Record>) {
        match record {
            _ if !is_cached(key.kind()) => {}
            Some(record) => self.0.insert(key.clone(), Some(Arc::new(Versioned { version, record }))),
            None => {
                self.0.remove(key);
            }
        }
    }
}

fn is_cached(kind: Kind) -> bool {
    matches!(kind, Kind::Settings | Kind::Policy | Kind::Device | Kind::Module | Kind::Session)
}

/// Whether it is worth keeping that there is no such record. Names of identities and policies are whatever somebody says that
/// his is; a session is asked for when he has proved it.
fn is_asked_for_by_its_owner(kind: Kind) -> bool {
    matches!(kind, Kind::Settings | Kind::Session)
}

#[cfg(test)]
mod tests {
    use hub::access::PolicyName;
    use hub::identity::{DeviceId, Identity};
    use hub::settings::HubSettings;

    use super::*;

    fn settings() -> Record {
        Record::Settings(HubSettings::default())
    }

    fn stored(version: u64) -> Option<Versioned> {
        Some(Versioned { version, record: settings() })
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
        cache.committed(&Key::UploadAccount, 7, Some(settings()));
        assert_eq!(version(cache.load(&Key::Settings, not_read)), Some(1));
        cache.committed(&Key::Settings, 2, Some(settings()));
        assert_eq!(version(cache.load(&Key::Settings, not_read)), Some(2));
    }

    #[test]
    fn what_was_removed_is_read_again() {
        let cache = Cache::default();
        cache.committed(&Key::Settings, 1, Some(settings()));
        cache.committed(&Key::Settings, 0, None);
        assert_eq!(version(cache.load(&Key::Settings, || Ok(None))), None);
        assert_eq!(version(cache.load(&Key::Settings, not_read)), None);
    }

    #[test]
    fn what_was_read_before_a_change_does_not_stay() {
        for removed in [false, true] {
            let cache = Cache::default();
            let overtaken = cache.load(&Key::Settings, || {
                cache.committed(&Key::Settings, 2, (!removed).then(settings));
                Ok(stored(1))
            });
            assert_eq!(version(overtaken), Some(1));
            assert_eq!(version(cache.load(&Key::Settings, || Ok(stored(2)))), Some(2));
        }
    }

    #[test]
    fn a_read_that_fails_leaves_nothing() {
        let cache = Cache::default();
        let failed = cache.load(&Key::Settings, || Err(StoreError::NoSpace));
        assert_eq!(failed, Err(StoreError::NoSpace));
        assert_eq!(version(cache.load(&Key::Settings, || Ok(stored(1)))), Some(1));
    }

    #[test]
    fn whoever_asks_while_another_reads_reads_too() {
        let cache = Cache::default();
        let outer = cache.load(&Key::Settings, || {
            assert_eq!(version(cache.load(&Key::Settings, || Ok(stored(1)))), Some(1));
            Ok(stored(1))
        });
        assert_eq!(version(outer), Some(1));
        assert_eq!(version(cache.load(&Key::Settings, not_read)), Some(1));
    }

    #[test]
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let cache = Cache::default();
        for number in 0..1_000 {
            let policy = Key::Policy(PolicyName::parse(&format!("p{number}")).expect("a name"));
            let device = Key::Device(DeviceId::parse(&format!("d{number}")).expect("an id"));
            assert_eq!(version(cache.load(&policy, || Ok(None))), None);
            assert_eq!(version(cache.load(&device, || Ok(None))), None);
        }
        assert!(cache.0.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let cache = Cache::default();
        for number in 0..RECORDS_MAX * 2 {
            let device = DeviceId::parse(&format!("d{number}")).expect("an id");
            let session = Key::Session(Identity::device(device));
            assert_eq!(version(cache.load(&session, || Ok(None))), None);
        }
        assert!((RECORDS_MAX / 2..=RECORDS_MAX).contains(&cache.0.len()), "{}", cache.0.len());
    }
}
