use std::path::Path;

use hub::activity::CredentialUse;
use hub::decision::Door;
use hub::identity::{DeviceId, ModuleId};
use hub::record::{Device, Module, Slot, Thumbprint};
use store::memory::MemoryRegistry;
use store::sqlite::{SqliteConfig, SqliteRegistry};

use super::*;
use crate::secrets::KeyRing;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn device_id(name: &str) -> DeviceId {
    DeviceId::parse(name).expect("legal")
}

fn device(name: &str) -> Identity {
    Identity::device(device_id(name))
}

fn module(device: &str, name: &str) -> Identity {
    Identity::module(device_id(device), ModuleId::parse(name).expect("legal"))
}

/// The record of an identity that was made at this second; `mark` makes a difference that the guard sees.
fn record(identity: &Identity, created: i64, mark: char) -> Record {
    let thumbprint = Thumbprint::parse(&mark.to_string().repeat(40)).expect("a thumbprint");
    let authentication = Authentication::SelfSigned { primary: Some(thumbprint), secondary: None };
    let (generation, etag) = ("1".to_owned(), "e".to_owned());
    match identity.module.clone() {
        None => Record::Device(Device {
            id: identity.device.clone(),
            generation,
            etag,
            status: Status::Enabled,
            status_reason: None,
            status_updated: None,
            authentication,
            edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
            created: at(created),
        }),
        Some(id) => Record::Module(Module {
            device: identity.device.clone(),
            id,
            generation,
            etag,
            managed_by: None,
            authentication,
            created: at(created),
        }),
    }
}

fn activity(admitted: i64) -> Activity {
    Activity {
        admitted: at(admitted),
        ended: None,
        address: None,
        door: Some(Door::Mqtt),
        sdk: Some("sdk".to_owned()),
        credential: CredentialUse::Token { ends: admitted + 60, policy: None, slot: Some(Slot::Primary) },
    }
}

fn admitted(second: i64) -> Used {
    Used { admitted: Some(Box::new(activity(second))), ended: None }
}

fn ended(second: i64) -> Used {
    Used { admitted: None, ended: Some(at(second)) }
}

/// A registry, and what a guard beside it knows.
struct Site {
    registry: MemoryRegistry,
    secrets: KeyRing,
    fleet: Fleet,
}

impl Site {
    fn new(folder: &Path) -> Self {
        let secrets = KeyRing::open(folder, None).expect("a key ring");
        Self { registry: MemoryRegistry::new(10), secrets, fleet: Fleet::default() }
    }

    /// Writes or removes the record of a key.
    async fn put(&self, key: Key, record: Option<Record>) {
        let replaces = self.registry.load(key.clone()).await.expect("read").map(|stored| stored.version);
        let writes = vec![Write { key, replaces, record }];
        self.registry.commit(Change { writes, ..Change::default() }).await.expect("committed");
    }

    async fn refresh(&mut self, changed: &[&Identity]) {
        let changed = changed.iter().copied().cloned().collect();
        self.fleet.refresh(&self.registry, &self.secrets, &changed).await.expect("read");
    }

    async fn take_in(&mut self, identity: &Identity, used: Used) {
        self.fleet.take_in(HashMap::from([(identity.clone(), used)]));
        self.fleet.write_use(&self.registry).await.expect("written");
    }

    /// The use that rests.
    async fn written(&self, identity: &Identity) -> Option<Activity> {
        use_of(&self.registry, identity).await.expect("read").map(|used| *used)
    }

    /// What is known is what whoever reads all of it now would know.
    async fn is_in_step(&self) {
        let mut read = Fleet::default();
        read.read(&self.registry, &self.secrets).await.expect("read");
        assert_eq!(self.fleet, read);
    }
}

#[tokio::test]
async fn what_is_known_keeps_in_step_with_what_changes() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new(folder.path());
    let (pump, part, valve) = (device("pump"), module("pump", "part"), device("valve"));
    for identity in [&pump, &part, &valve] {
        site.put(key_of(identity), Some(record(identity, 100, 'A'))).await;
    }
    site.fleet.read(&site.registry, &site.secrets).await.expect("read");
    assert_eq!(site.fleet.members.keys().collect::<Vec<_>>(), [&pump, &part, &valve]);

    site.take_in(&pump, admitted(200)).await;
    site.take_in(&part, admitted(201)).await;
    site.is_in_step().await;
    site.take_in(&part, ended(202)).await;
    assert_eq!(site.written(&part).await.expect("a use").ended, Some(at(202)));
    site.is_in_step().await;

    // A change leaves the use alone; something new is found.
    site.put(key_of(&pump), Some(record(&pump, 100, 'B'))).await;
    let gauge = device("gauge");
    site.put(key_of(&gauge), Some(record(&gauge, 210, 'C'))).await;
    site.refresh(&[&pump, &gauge]).await;
    assert!(site.fleet.members[&pump].used.is_some());
    site.is_in_step().await;

    // What is deleted is gone, and nothing of it is written.
    for key in [key_of(&valve), key_of(&pump), key_of(&part), Key::Activity(pump.clone())] {
        site.put(key, None).await;
    }
    site.refresh(&[&valve, &pump, &part]).await;
    site.take_in(&valve, admitted(220)).await;
    assert_eq!(site.written(&valve).await, None);
    assert_eq!(site.fleet.members.keys().collect::<Vec<_>>(), [&gauge]);
    // This one lay in the registry still.
    assert_eq!(site.written(&part).await, None);
    site.is_in_step().await;
}

#[tokio::test]
async fn a_name_that_is_used_again_was_never_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new(folder.path());
    let pump = device("pump");
    site.put(key_of(&pump), Some(record(&pump, 100, 'A'))).await;
    site.refresh(&[&pump]).await;
    site.take_in(&pump, admitted(200)).await;
    site.put(key_of(&pump), Some(record(&pump, 300, 'A'))).await;
    site.refresh(&[&pump]).await;
    assert_eq!(site.fleet.members[&pump].used, None);
    site.is_in_step().await;
    // Nor is what happened to the earlier one its use.
    site.take_in(&pump, admitted(250)).await;
    site.take_in(&pump, ended(260)).await;
    assert_eq!(site.fleet.members[&pump].used, None);
    site.take_in(&pump, admitted(310)).await;
    assert_eq!(site.written(&pump).await, Some(activity(310)));
    site.is_in_step().await;
}

#[tokio::test]
async fn what_is_left_of_others_is_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new(folder.path());
    let gone: Vec<Identity> = (0..ORPHANS_MAX + 1).map(|number| device(&format!("gone-{number}"))).collect();
    for identity in &gone {
        site.put(Key::Activity(identity.clone()), Some(Record::Activity(activity(1)))).await;
    }
    site.fleet.read(&site.registry, &site.secrets).await.expect("read");
    assert_eq!(site.registry.count(Kind::Activity).await.expect("counted"), 0);
    site.is_in_step().await;
}

#[tokio::test]
async fn use_that_could_not_be_written_is_written_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut site = Site::new(folder.path());
    let closed = SqliteRegistry::open(&folder.path().join("registry.db"), &SqliteConfig::default());
    let closed = closed.expect("a registry");
    closed.close();
    let pump = device("pump");
    site.put(key_of(&pump), Some(record(&pump, 100, 'A'))).await;
    site.refresh(&[&pump]).await;
    site.fleet.take_in(HashMap::from([(pump.clone(), admitted(200))]));
    site.fleet.write_use(&closed).await.expect_err("it is closed");
    // Whoever reads all meanwhile does not forget it.
    site.fleet.read(&site.registry, &site.secrets).await.expect("read");
    assert_eq!(site.written(&pump).await, None);
    site.fleet.write_use(&site.registry).await.expect("written");
    assert_eq!(site.written(&pump).await, Some(activity(200)));
    site.is_in_step().await;
}
