//! Records that are asked for all the time, kept in memory as they were committed last: the settings and the policies, and of the
//! identities that were written or asked for lately the record, the session, the twin, the queue and the last use.

use std::sync::Arc;
use std::time::Duration;

use hub::ports::registry::{StoreError, Versioned};
use hub::record::{Key, Kind, Record};
use hub::twin::Members;
use quick_cache::sync::{Cache as Bounded, DefaultLifecycle, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Weighter};
use serde_json::Value;

/// What is kept at most, in units of about 1 KiB: a record takes one, a twin or a queue as many as it is large.
const UNITS_MAX: u64 = 65_536;

/// What is remembered. What nobody asks for makes room for what is asked for.
pub(super) struct Cache(Bounded<Key, Kept, Units>);

/// `None`: there is no such record.
type Kept = Option<Arc<Versioned>>;

/// The place that a record gets that is being read.
type Place<'a> = PlaceholderGuard<'a, Key, Kept, Units, DefaultHashBuilder, DefaultLifecycle<Key, Kept>>;

impl Default for Cache {
    fn default() -> Self {
        Self(Bounded::with_weighter(UNITS_MAX as usize, UNITS_MAX, Units))
    }
}

impl Cache {
    /// The records of these keys. Those that are not kept are read, all at once.
    pub(super) fn load(
        &self,
        keys: &[Key],
        read: impl FnOnce(&[&Key]) -> Result<Vec<Option<Versioned>>, StoreError>,
    ) -> Result<Vec<Option<Versioned>>, StoreError> {
        let mut loaded = Vec::with_capacity(keys.len());
        let (mut missing, mut places) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            let (kept, place) = self.kept_or_place(key);
            if kept.is_none() {
                missing.push(key);
                places.push((at, place));
            }
            loaded.push(kept.flatten().map(Arc::unwrap_or_clone));
        }
        if missing.is_empty() {
            return Ok(loaded);
        }
        for ((at, place), found) in places.into_iter().zip(read(&missing)?) {
            if let Some(place) = place
                && (found.is_some() || is_asked_for_by_its_owner(keys[at].kind()))
            {
                // Its place is gone if the key was committed meanwhile: what was read may be from before that.
                let _ = place.insert(found.clone().map(Arc::new));
            }
            loaded[at] = found;
        }
        Ok(loaded)
    }

    /// What is kept of a key; else its place, unless it is never kept or another thread is reading it.
    fn kept_or_place<'a>(&'a self, key: &Key) -> (Option<Kept>, Option<Place<'a>>) {
        if !is_cached(key.kind()) {
            return (None, None);
        }
        match self.0.get_value_or_guard(key, Some(Duration::ZERO)) {
            GuardResult::Value(kept) => (Some(kept), None),
            GuardResult::Guard(place) => (None, Some(place)),
            GuardResult::Timeout => (None, None),
        }
    }

    /// Is told of a write and the version after it, when it is committed and before anybody else is told.
    pub(super) fn committed(&self, key: &Key, version: u64, record: Option<Record>) {
        match record {
            _ if !is_cached(key.kind()) => {}
            Some(record) => self.0.insert(key.clone(), Some(Arc::new(Versioned { version, record }))),
            None => self.forget(key),
        }
    }

    /// Is told of a record that was written in another way.
    pub(super) fn forget(&self, key: &Key) {
        self.0.remove(key);
    }
}

fn is_cached(kind: Kind) -> bool {
    matches!(kind, Kind::Settings | Kind::Policy | Kind::Device | Kind::Module | Kind::Session)
        || is_asked_for_with_its_identity(kind)
}

/// What the answer about an identity shows beside its record.
fn is_asked_for_with_its_identity(kind: Kind) -> bool {
    matches!(kind, Kind::Twin | Kind::Inbox | Kind::Activity)
}

/// Whether it is worth keeping that there is no such record. Names of identities and policies are whatever somebody says that
/// his is; a session is asked for when he has proved it, and a queue or a last use mostly of an identity that there is.
fn is_asked_for_by_its_owner(kind: Kind) -> bool {
    matches!(kind, Kind::Settings | Kind::Session | Kind::Inbox | Kind::Activity)
}

/// How much room a record takes.
#[derive(Clone)]
struct Units;

impl Weighter<Key, Kept> for Units {
    fn weight(&self, _: &Key, kept: &Kept) -> u64 {
        match kept.as_ref().map(|stored| &stored.record) {
            Some(Record::Twin(twin)) => {
                let sections = [&twin.tags, &twin.desired.properties, &twin.reported.properties];
                // Beside each property lies when it was changed.
                let bytes: usize = sections.map(members).iter().sum::<usize>() * 2;
                1 + bytes as u64 / 1_024
            }
            Some(Record::Inbox(queue)) => 1 + queue.entries.len() as u64 / 4,
            Some(_) | None => 1,
        }
    }
}

/// About what they take in memory.
fn members(members: &Members) -> usize {
    members.iter().map(|(name, value)| name.len() + 64 + bytes(value)).sum()
}

fn bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 32,
        Value::String(text) => 32 + text.len(),
        Value::Array(values) => 32 + values.iter().map(bytes).sum::<usize>(),
        Value::Object(object) => 96 + members(object),
    }
}

#[cfg(test)]
mod tests {
    use hub::access::PolicyName;
    use hub::identity::{DeviceId, Identity};
    use hub::settings::HubSettings;
    use hub::twin::Twin;

    use super::*;

    fn settings() -> Record {
        Record::Settings(HubSettings::default())
    }

    fn stored(version: u64) -> Option<Versioned> {
        Some(Versioned { version, record: settings() })
    }

    /// One record, as most tests ask for it.
    fn load(
        cache: &Cache,
        key: &Key,
        read: impl FnOnce() -> Result<Option<Versioned>, StoreError>,
    ) -> Result<Option<Versioned>, StoreError> {
        let loaded = cache.load(std::slice::from_ref(key), |missing| {
            assert_eq!(missing, [key]);
            Ok(vec![read()?])
        });
        Ok(loaded?.pop().flatten())
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
        assert_eq!(version(load(&cache, &Key::Settings, || Ok(stored(1)))), Some(1));
        cache.committed(&Key::UploadAccount, 7, Some(settings()));
        assert_eq!(version(load(&cache, &Key::Settings, not_read)), Some(1));
        cache.committed(&Key::Settings, 2, Some(settings()));
        assert_eq!(version(load(&cache, &Key::Settings, not_read)), Some(2));
    }

    #[test]
    fn what_was_removed_is_read_again() {
        let cache = Cache::default();
        cache.committed(&Key::Settings, 1, Some(settings()));
        cache.committed(&Key::Settings, 0, None);
        assert_eq!(version(load(&cache, &Key::Settings, || Ok(None))), None);
        assert_eq!(version(load(&cache, &Key::Settings, not_read)), None);
    }

    #[test]
    fn what_was_read_before_a_change_does_not_stay() {
        for removed in [false, true] {
            let cache = Cache::default();
            let overtaken = load(&cache, &Key::Settings, || {
                cache.committed(&Key::Settings, 2, (!removed).then(settings));
                Ok(stored(1))
            });
            assert_eq!(version(overtaken), Some(1));
            assert_eq!(version(load(&cache, &Key::Settings, || Ok(stored(2)))), Some(2));
        }
    }

    #[test]
    fn a_read_that_fails_leaves_nothing() {
        let cache = Cache::default();
        let failed = load(&cache, &Key::Settings, || Err(StoreError::NoSpace));
        assert_eq!(failed, Err(StoreError::NoSpace));
        assert_eq!(version(load(&cache, &Key::Settings, || Ok(stored(1)))), Some(1));
    }

    #[test]
    fn whoever_asks_while_another_reads_reads_too() {
        let cache = Cache::default();
        let outer = load(&cache, &Key::Settings, || {
            assert_eq!(version(load(&cache, &Key::Settings, || Ok(stored(1)))), Some(1));
            Ok(stored(1))
        });
        assert_eq!(version(outer), Some(1));
        assert_eq!(version(load(&cache, &Key::Settings, not_read)), Some(1));
    }

    #[test]
    fn names_that_nobody_has_do_not_fill_the_memory() {
        let cache = Cache::default();
        for number in 0..1_000 {
            let policy = Key::Policy(PolicyName::parse(&format!("p{number}")).expect("a name"));
            let device = Key::Device(DeviceId::parse(&format!("d{number}")).expect("an id"));
            assert_eq!(version(load(&cache, &policy, || Ok(None))), None);
            assert_eq!(version(load(&cache, &device, || Ok(None))), None);
        }
        assert!(cache.0.is_empty());
    }

    #[test]
    fn no_more_than_so_many_are_kept() {
        let cache = Cache::default();
        for number in 0..UNITS_MAX as usize * 2 {
            let device = DeviceId::parse(&format!("d{number}")).expect("an id");
            let session = Key::Session(Identity::device(device));
            assert_eq!(version(load(&cache, &session, || Ok(None))), None);
        }
        assert!((UNITS_MAX as usize / 2..=UNITS_MAX as usize).contains(&cache.0.len()), "{}", cache.0.len());
    }

    #[test]
    fn of_many_only_those_are_read_that_are_not_kept_and_all_come_in_their_order() {
        let cache = Cache::default();
        let device = |number: u32| DeviceId::parse(&format!("d{number}")).expect("an id");
        let keys: Vec<Key> = (0..4).map(|number| Key::Session(Identity::device(device(number)))).collect();
        cache.committed(&keys[1], 7, Some(settings()));
        let mut asked = Vec::new();
        let loaded = cache.load(&keys, |missing| {
            asked = missing.iter().map(|key| (*key).clone()).collect();
            Ok(vec![stored(1), None, stored(3)])
        });
        let versions: Vec<_> =
            loaded.expect("records").iter().map(|stored| stored.as_ref().map(|s| s.version)).collect();
        assert_eq!(versions, [Some(1), Some(7), None, Some(3)]);
        assert_eq!(asked, [keys[0].clone(), keys[2].clone(), keys[3].clone()]);
        // Those that were read are kept, that there is none included.
        let again = cache.load(&keys, |_| panic!("it was read again")).expect("records");
        assert_eq!(again.iter().flatten().count(), 3);
    }

    #[test]
    fn large_twins_make_room_for_others_as_they_are_large() {
        let cache = Cache::default();
        let mut twin = Twin::new("1", jiff::Timestamp::UNIX_EPOCH);
        let text = serde_json::Value::String("x".repeat(16_000));
        twin.desired.properties.insert("large".to_owned(), text);
        for number in 0..10_000 {
            let device = DeviceId::parse(&format!("d{number}")).expect("an id");
            cache.committed(
                &Key::Twin(Identity::device(device)),
                1,
                Some(Record::Twin(Box::new(twin.clone()))),
            );
        }
        // Each takes 32 units.
        assert!((1_000..=2_100).contains(&cache.0.len()), "{}", cache.0.len());
    }
}
