//! What every registry does.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use holdfast_store::memory::MemoryRegistry;
use holdfast_store::sqlite::{SqliteConfig, SqliteRegistry};
use hub::activity::{Activity, CredentialUse};
use hub::audit::BLOCK_RECORDS;
use hub::audit::retention::STEP_RECORDS;
use hub::decision::{Act, Decision, DecisionFilter};
use hub::deed::{ChangeKind, PlainChange};
use hub::identity::{DeviceId, Identity, ModuleId};
use hub::ports::registry::{Change, Committed, Registry, StoreError, Write};
use hub::record::{Authentication, ConsumerGroup, Device, Key, Kind, Record, Session, Status, Subscription};
use hub::refusal::Refusal;
use hub::twin::{DesiredChange, Twin};
use jiff::Timestamp;

use crate::wait;

macro_rules! registry_battery {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            fn check(test: impl FnOnce(&dyn Registry)) {
                // The second value keeps the directory of the adapter, if it has one.
                let (registry, _kept) = $make;
                test(&registry);
            }

            #[test]
            fn a_record_is_made_replaced_and_removed_by_version() {
                check(super::a_record_is_made_replaced_and_removed_by_version);
            }
            #[test]
            fn a_note_is_written_whatever_was_there_and_tells_nobody() {
                check(super::a_note_is_written_whatever_was_there_and_tells_nobody);
            }
            #[test]
            fn many_are_loaded_in_their_order_as_they_were_written_last() {
                check(super::many_are_loaded_in_their_order_as_they_were_written_last);
            }
            #[test]
            fn a_stale_write_undoes_the_whole_change() {
                check(super::a_stale_write_undoes_the_whole_change);
            }
            #[test]
            fn a_kind_is_listed_in_pages_and_counted() {
                check(super::a_kind_is_listed_in_pages_and_counted);
            }
            #[test]
            fn what_belongs_to_a_device_is_listed_and_the_disabled_are_counted() {
                check(super::what_belongs_to_a_device_is_listed_and_the_disabled_are_counted);
            }
            #[test]
            fn the_children_of_a_scope_are_listed_page_by_page() {
                check(super::the_children_of_a_scope_are_listed_page_by_page);
            }
            #[test]
            fn decisions_are_found_by_what_they_are_about() {
                check(super::decisions_are_found_by_what_they_are_about);
            }
            #[test]
            fn the_oldest_decisions_go_but_never_those_about_changes_that_are_no_routine() {
                check(super::the_oldest_decisions_go_but_never_those_about_changes_that_are_no_routine);
            }
            #[test]
            fn what_changes_announce_is_told_in_the_order_of_their_commits() {
                check(super::what_changes_announce_is_told_in_the_order_of_their_commits);
            }
            #[test]
            fn watchers_are_told_committed_keys_only() {
                check(super::watchers_are_told_committed_keys_only);
            }
            #[test]
            fn of_two_that_replace_the_same_version_one_wins() {
                check(super::of_two_that_replace_the_same_version_one_wins);
            }
        }
    };
}

/// How many decisions the registries of the battery keep.
const DECISIONS_MAX: u64 = 50;

registry_battery!(memory, (MemoryRegistry::new(DECISIONS_MAX), ()));
registry_battery!(sqlite, {
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig { decisions_max: DECISIONS_MAX, ..SqliteConfig::default() };
    (SqliteRegistry::open(&directory.path().join("registry.db"), &config).unwrap(), directory)
});

pub(crate) fn group(name: &str) -> Key {
    Key::ConsumerGroup(name.to_owned())
}

pub(crate) fn group_record(name: &str) -> Option<Record> {
    Some(Record::ConsumerGroup(ConsumerGroup { name: name.to_owned(), created: Timestamp::UNIX_EPOCH }))
}

pub(crate) fn write(key: Key, replaces: Option<u64>, record: Option<Record>) -> Change {
    Change { writes: vec![Write { key, replaces, record }], ..Change::default() }
}

pub(crate) fn changed(what: &str) -> Decision {
    let act = Act::Change {
        what: ChangeKind::from(std::borrow::Cow::from(what)),
        target: "somebody".to_owned(),
        routine: false,
    };
    Decision::new(Timestamp::UNIX_EPOCH, act)
}

pub(crate) fn all_decisions() -> DecisionFilter {
    DecisionFilter { limit: usize::MAX, ..DecisionFilter::default() }
}

fn a_record_is_made_replaced_and_removed_by_version(registry: &dyn Registry) {
    let commit = |change| wait(registry.commit(change));
    let key = || group("g");
    assert_eq!(wait(registry.load(key())), Ok(None));
    assert_eq!(commit(write(key(), Some(1), group_record("G"))), Err(StoreError::Stale(key())));
    assert_eq!(commit(write(key(), None, group_record("G"))), Ok(vec![1]));
    assert_eq!(commit(write(key(), None, group_record("G"))), Err(StoreError::Stale(key())));
    assert_eq!(commit(write(key(), Some(1), group_record("H"))), Ok(vec![2]));
    assert_eq!(commit(write(key(), Some(1), group_record("I"))), Err(StoreError::Stale(key())));
    let found = wait(registry.load(key())).unwrap().unwrap();
    assert_eq!((found.version, Some(found.record)), (2, group_record("H")));
    assert_eq!(commit(write(key(), Some(1), None)), Err(StoreError::Stale(key())));
    assert_eq!(commit(write(key(), Some(2), None)), Ok(vec![0]));
    assert_eq!(wait(registry.load(key())), Ok(None));
    assert_eq!(commit(write(key(), None, group_record("J"))), Ok(vec![1]));
}

fn a_note_is_written_whatever_was_there_and_tells_nobody(registry: &dyn Registry) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = told.clone();
    registry.watch(Arc::new(move |committed: Committed<'_>| {
        seen.lock().unwrap().extend(committed.keys.to_vec())
    }));
    let note = |name: &str, text: &str| (group(name), group_record(text).unwrap());
    wait(registry.note(vec![note("a", "first"), note("b", "other")])).unwrap();
    wait(registry.note(vec![note("a", "second"), note("a", "third")])).unwrap();
    let found = wait(registry.load(group("a"))).unwrap().unwrap();
    assert_eq!((found.version, Some(found.record)), (3, group_record("third")));
    assert!(told.lock().unwrap().is_empty());
    assert_eq!(wait(registry.decisions(all_decisions())), Ok(vec![]));
    // A version that somebody read before is stale.
    assert_eq!(wait(registry.commit(write(group("a"), Some(1), None))), Err(StoreError::Stale(group("a"))));
    assert_eq!(wait(registry.commit(write(group("a"), Some(3), None))), Ok(vec![0]));
}

/// Of kinds that an adapter may keep in memory and of kinds that it may not.
fn many_are_loaded_in_their_order_as_they_were_written_last(registry: &dyn Registry) {
    let identity = Identity::device(DeviceId::parse("d").unwrap());
    let (twin, last_use) = (Key::Twin(identity.clone()), Key::Activity(identity.clone()));
    let keys =
        [group("a"), twin.clone(), group("none"), last_use.clone(), Key::Inbox(identity), twin.clone()];
    let versions = || {
        let loaded = wait(registry.load_many(keys.to_vec())).unwrap();
        loaded.into_iter().map(|stored| stored.map(|stored| stored.version)).collect::<Vec<_>>()
    };
    assert_eq!(wait(registry.load_many(Vec::new())), Ok(vec![]));
    assert_eq!(versions(), [None; 6]);
    let twin_record = || Some(Record::Twin(Box::new(Twin::new("1", Timestamp::UNIX_EPOCH))));
    let credential = CredentialUse::Token { ends: 0, policy: None, slot: None };
    let admitted = Timestamp::UNIX_EPOCH;
    let used = Activity { admitted, ended: None, address: None, door: None, sdk: None, credential };
    wait(registry.commit(write(group("a"), None, group_record("a")))).unwrap();
    wait(registry.commit(write(twin.clone(), None, twin_record()))).unwrap();
    assert_eq!(versions(), [Some(1), Some(1), None, None, None, Some(1)]);
    for version in 1..=2 {
        wait(registry.note(vec![(last_use.clone(), Record::Activity(used.clone()))])).unwrap();
        wait(registry.commit(write(twin.clone(), Some(version), twin_record()))).unwrap();
        assert_eq!(versions(), [Some(1), Some(version + 1), None, Some(version), None, Some(version + 1)]);
    }
    wait(registry.commit(write(twin, Some(3), None))).unwrap();
    assert_eq!(versions(), [Some(1), None, None, Some(2), None, None]);
}

fn a_stale_write_undoes_the_whole_change(registry: &dyn Registry) {
    wait(registry.commit(write(group("there"), None, group_record("there")))).unwrap();
    let change = Change {
        writes: vec![
            Write { key: group("new"), replaces: None, record: group_record("new") },
            Write { key: group("there"), replaces: Some(7), record: None },
        ],
        decision: Some(changed("two at once")),
        ..Change::default()
    };
    assert_eq!(wait(registry.commit(change.clone())), Err(StoreError::Stale(group("there"))));
    assert_eq!(wait(registry.load(group("new"))), Ok(None));
    assert_eq!(wait(registry.count(Kind::ConsumerGroup)), Ok(1));
    assert_eq!(wait(registry.decisions(all_decisions())), Ok(vec![]));
    let mut change = change;
    change.writes[1].replaces = Some(1);
    assert_eq!(wait(registry.commit(change)), Ok(vec![1, 0]));
    assert_eq!(wait(registry.count(Kind::ConsumerGroup)), Ok(1));
    assert_eq!(wait(registry.decisions(all_decisions())).unwrap().len(), 1);
}

fn a_kind_is_listed_in_pages_and_counted(registry: &dyn Registry) {
    let session = |device: &str, module: Option<&str>| {
        let identity = Identity {
            device: DeviceId::parse(device).unwrap(),
            module: module.map(|module| ModuleId::parse(module).unwrap()),
        };
        let subscriptions = vec![Subscription { filter: format!("devices/{device}/#"), qos: 1 }];
        let record = Record::Session(Session { generation: "1".into(), subscriptions });
        Write { key: Key::Session(identity), replaces: None, record: Some(record) }
    };
    let writes = vec![
        session("b", None),
        session("a", Some("z")),
        session("a", None),
        session("a!", None),
        session("A", Some("$edgeAgent")),
        Write { key: group("a"), replaces: None, record: group_record("a") },
    ];
    let mut keys: Vec<_> = writes[..5].iter().map(|write| write.key.clone()).collect();
    keys.sort();
    wait(registry.commit(Change { writes, ..Change::default() })).unwrap();
    assert_eq!(wait(registry.count(Kind::Session)), Ok(5));
    assert_eq!(wait(registry.count(Kind::Device)), Ok(0));
    let mut listed = Vec::new();
    loop {
        let page = wait(registry.list(Kind::Session, listed.last().cloned(), 2)).unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 2);
        listed.extend(page.into_iter().map(|(key, _)| key));
    }
    assert_eq!(listed, keys);
}

fn device_record(id: &str, status: Status, parent: Option<&str>) -> Write {
    let id = DeviceId::parse(id).unwrap();
    let record = Record::Device(Device {
        id: id.clone(),
        generation: "1".into(),
        etag: "1".into(),
        status,
        status_reason: None,
        status_updated: None,
        authentication: Authentication::None,
        edge: false,
        device_scope: None,
        parent_scopes: parent.map(str::to_owned).into_iter().collect(),
        created: Timestamp::UNIX_EPOCH,
    });
    Write { key: Key::Device(id), replaces: None, record: Some(record) }
}

fn the_children_of_a_scope_are_listed_page_by_page(registry: &dyn Registry) {
    let (one, other) = ("ms-azure-iot-edge://one-1", "ms-azure-iot-edge://one-12");
    let child = |id: &str, parent| device_record(id, Status::Enabled, parent);
    let writes = vec![
        child("d3", Some(one)),
        child("d1", Some(one)),
        child("d2", Some(other)),
        child("d4", None),
        child("d5", Some(one)),
    ];
    wait(registry.commit(Change { writes, ..Change::default() })).unwrap();
    let listed = |scope: &str, after: Option<&str>, limit| {
        let after = after.map(|id| DeviceId::parse(id).unwrap());
        let children = wait(registry.children(scope.to_owned(), after, limit)).unwrap();
        children.into_iter().map(|(key, _)| key.parts().0.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(one, None, 10), ["d1", "d3", "d5"]);
    assert_eq!(listed(one, None, 2), ["d1", "d3"]);
    assert_eq!(listed(one, Some("d3"), 2), ["d5"]);
    assert_eq!(listed("nobody", None, 10), [] as [&str; 0]);
    // One moves, one goes.
    let moved = Write { replaces: Some(1), ..child("d3", Some(other)) };
    let gone = Write { replaces: Some(1), record: None, ..child("d5", None) };
    wait(registry.commit(Change { writes: vec![moved, gone], ..Change::default() })).unwrap();
    assert_eq!(listed(one, None, 10), ["d1"]);
    assert_eq!(listed(other, None, 10), ["d2", "d3"]);
}

fn what_belongs_to_a_device_is_listed_and_the_disabled_are_counted(registry: &dyn Registry) {
    let device = |id: &str, status| device_record(id, status, None);
    let session = |device: &str, module: &str| {
        let (device, module) = (DeviceId::parse(device).unwrap(), ModuleId::parse(module).unwrap());
        let record = Record::Session(Session { generation: "1".into(), subscriptions: vec![] });
        Write { key: Key::Session(Identity::module(device, module)), replaces: None, record: Some(record) }
    };
    let mut disabled = device("d2", Status::Disabled);
    let writes = vec![
        device("d", Status::Enabled),
        device("d1", Status::Disabled),
        disabled.clone(),
        session("d", "z"),
        session("d1", "a"),
        session("d", "a"),
    ];
    wait(registry.commit(Change { writes, ..Change::default() })).unwrap();
    assert_eq!(wait(registry.count_disabled()), Ok(2));
    (disabled.replaces, disabled.record) = (Some(1), device("d2", Status::Enabled).record);
    wait(registry.commit(Change { writes: vec![disabled], ..Change::default() })).unwrap();
    assert_eq!(wait(registry.count_disabled()), Ok(1));
    let listed = wait(registry.list_of(Kind::Session, DeviceId::parse("d").unwrap())).unwrap();
    let keys: Vec<_> = listed.into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, [session("d", "a").key, session("d", "z").key]);
}

fn decisions_are_found_by_what_they_are_about(registry: &dyn Registry) {
    let decision = |identity: &str, address: &str, refused: bool| {
        let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
        decision.identity = Some(identity.to_owned());
        decision.origin.address = Some(address.parse().unwrap());
        decision.refusal = refused.then_some(Refusal::NoCredential);
        decision
    };
    let sent = [
        decision("d1", "10.0.0.1", false),
        decision("d1/m", "10.0.0.2", true),
        decision("d10", "10.0.0.1", true),
        decision("d1", "::1", true),
        decision("d2", "10.0.0.1", false),
    ];
    wait(registry.record(sent.iter().cloned().map(Box::new).collect())).unwrap();
    wait(registry.record(vec![])).unwrap();
    let found = |filter: DecisionFilter| -> Vec<usize> {
        let found = wait(registry.decisions(filter)).unwrap();
        assert!(found.is_sorted_by(|a, b| a.number > b.number));
        found.iter().map(|found| sent.iter().position(|sent| *sent == found.record).unwrap()).collect()
    };
    let all = all_decisions;
    assert_eq!(found(all()), [4, 3, 2, 1, 0]);
    assert_eq!(found(DecisionFilter { limit: 2, ..all() }), [4, 3]);
    let device = |device: &str| DecisionFilter { device: Some(device.to_owned()), ..all() };
    assert_eq!(found(device("d1")), [3, 1, 0]);
    assert_eq!(found(DecisionFilter { refused_only: true, ..device("d1") }), [3, 1]);
    let address = |address: &str| DecisionFilter { address: Some(address.parse().unwrap()), ..all() };
    assert_eq!(found(address("10.0.0.1")), [4, 2, 0]);
    assert_eq!(found(DecisionFilter { refused_only: true, ..address("10.0.0.1") }), [2]);
    assert_eq!(found(DecisionFilter { device: Some("d1".into()), ..address("::1") }), [3]);
    assert_eq!(found(DecisionFilter { refused_only: true, ..all() }), [3, 2, 1]);
    let third = wait(registry.decisions(all())).unwrap()[2].number;
    assert_eq!(found(DecisionFilter { before: Some(third), ..all() }), [1, 0]);
    let mut late = Decision::new(Timestamp::UNIX_EPOCH + jiff::SignedDuration::from_hours(1), Act::Token);
    late.identity = Some("d1".to_owned());
    wait(registry.record(vec![Box::new(late.clone())])).unwrap();
    let of = |filter| wait(registry.decisions(filter)).unwrap();
    let kind = |kind: &str| DecisionFilter { kind: Some(kind.to_owned()), ..device("d1") };
    assert_eq!(of(kind("token")).iter().map(|found| &found.record).collect::<Vec<_>>(), [&late]);
    assert_eq!(of(DecisionFilter { limit: 1, ..kind("connect") })[0].record, sent[3]);
    assert_eq!(of(DecisionFilter { since: Some(late.time), ..all() }).len(), 1);
    assert_eq!(of(DecisionFilter { until: Some(late.time), ..all() }).len(), 5);
}

fn the_oldest_decisions_go_but_never_those_about_changes_that_are_no_routine(registry: &dyn Registry) {
    let mut change = write(group("g"), None, group_record("g"));
    change.decision = Some(changed("make a group"));
    wait(registry.commit(change)).unwrap();
    let connect = |device: u64| {
        let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
        decision.identity = Some(format!("d{device}"));
        decision
    };
    // A change of a twin counts as a connection does.
    let mut routine = write(group("h"), None, group_record("h"));
    let mut decision = changed("update twin");
    decision.act =
        Act::Change { what: PlainChange::UpdateTwin.into(), target: "d0".to_owned(), routine: true };
    routine.decision = Some(decision.clone());
    wait(registry.commit(routine)).unwrap();
    let most = DECISIONS_MAX + STEP_RECORDS;
    let all: Vec<_> = (1..most).map(connect).map(Box::new).collect();
    wait(registry.record(all)).unwrap();
    assert_eq!(wait(registry.decisions(all_decisions())).unwrap().len() as u64, most + 1);
    wait(registry.record(vec![Box::new(connect(most))])).unwrap();
    let left = wait(registry.decisions(all_decisions())).unwrap();
    let bounded = left.iter().filter(|left| left.record.act == Act::Connect).count() as u64;
    assert!((DECISIONS_MAX..DECISIONS_MAX + BLOCK_RECORDS).contains(&bounded), "{bounded}");
    assert!(left.iter().all(|left| left.record != decision), "the change of the twin is gone");
    let oldest = &left[left.len() - 1];
    assert_eq!((oldest.number, &oldest.record), (1, &changed("make a group")));
    let (newest, statement) = (&left[1], &left[0]);
    assert_eq!((newest.number, &newest.record), (most + 2, &connect(most)));
    let dropped = most + 1 - bounded;
    let act = Act::Retention { first: 1, last: dropped + 1, kept: vec![1] };
    assert_eq!((statement.number, &statement.record.act), (most + 3, &act));
    assert_eq!(left[left.len() - 2].number, dropped + 2);
    let changes = DecisionFilter { kind: Some("change".to_owned()), ..all_decisions() };
    assert_eq!(wait(registry.decisions(changes)).unwrap().len(), 1);
}

fn what_changes_announce_is_told_in_the_order_of_their_commits(registry: &dyn Registry) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    registry.watch(Arc::new(move |committed: Committed<'_>| {
        sink.lock().unwrap().extend(committed.announces.map(|change| change.version));
    }));
    let identity = Identity::parse("pump").unwrap();
    // Each takes what it finds further by one: what is told must rise by one too.
    let raise = || loop {
        let version = wait(registry.load(group("a"))).unwrap().map(|found| found.version);
        let next = version.unwrap_or_default() + 1;
        let change = DesiredChange { identity: identity.clone(), version: next, body: Bytes::new() };
        let change =
            Change { announces: Some(Arc::new(change)), ..write(group("a"), version, group_record("a")) };
        if wait(registry.commit(change)).is_ok() {
            return;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..25).for_each(|_| raise()));
        }
    });
    assert_eq!(*told.lock().unwrap(), (1..=100).collect::<Vec<_>>());
}

fn watchers_are_told_committed_keys_only(registry: &dyn Registry) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&told);
    registry.watch(Arc::new(move |committed| sink.lock().unwrap().extend_from_slice(committed.keys)));
    wait(registry.commit(write(group("a"), None, group_record("a")))).unwrap();
    wait(registry.commit(write(group("b"), Some(9), group_record("b")))).unwrap_err();
    wait(registry.record(vec![Box::new(changed("nothing"))])).unwrap();
    wait(registry.commit(write(group("a"), Some(1), None))).unwrap();
    assert_eq!(*told.lock().unwrap(), [group("a"), group("a")]);
}

fn of_two_that_replace_the_same_version_one_wins(registry: &dyn Registry) {
    wait(registry.commit(write(group("g"), None, group_record("0")))).unwrap();
    let wins: usize = std::thread::scope(|scope| {
        let attempts: Vec<_> = (0..8)
            .map(|n| {
                scope.spawn(move || {
                    let mut wins = 0;
                    for version in 1..=20 {
                        let record = group_record(&format!("{n}"));
                        match wait(registry.commit(write(group("g"), Some(version), record))) {
                            Ok(versions) => {
                                assert_eq!(versions, [version + 1]);
                                wins += 1;
                            }
                            Err(error) => assert_eq!(error, StoreError::Stale(group("g"))),
                        }
                    }
                    wins
                })
            })
            .collect();
        attempts.into_iter().map(|attempt| attempt.join().unwrap()).sum()
    });
    let version = wait(registry.load(group("g"))).unwrap().unwrap().version;
    assert_eq!(version, 1 + wins as u64);
}
