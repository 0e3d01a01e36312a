//! What the guard knows of each identity: read once, and kept in step with what is committed and with who is used. So a look
//! reads what changed since the one before, and not the fleet; it takes some 400 bytes for each identity.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};

use hub::activity::Activity;
use hub::authenticate::key_place;
use hub::identity::Identity;
use hub::ports::bus::Bus;
use hub::ports::registry::{Change, Registry, StoreError, Write};
use hub::ports::secrets::Secrets;
use hub::record::{Authentication, Key, Kind, Record, Status};
use hub::settings::HubSettings;
use jiff::Timestamp;
use posture::Sweep;
use posture::facts::{Credential, Subject};
use posture::usage::Used;

use super::gather::Cursor;
use super::keys;

/// Records of use that are written in one transaction.
const BATCH: usize = 512;
/// Leftovers that are removed in one transaction.
const ORPHANS_MAX: usize = 1_000;
/// Identities after which other work of the thread, which is little, may go first.
const SHOWN_AT_ONCE: usize = 1_000;

/// The identities, in the order of their ids.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fleet {
    members: BTreeMap<Identity, Member>,
}

#[derive(Debug, PartialEq)]
struct Member {
    created: Timestamp,
    /// Of a module it says nothing: it is as its device is.
    status: Status,
    credential: Credential,
    /// Its last use since it was made.
    used: Option<Box<Activity>>,
    /// Whether the registry does not know of that use yet.
    unwritten: bool,
}

impl Member {
    /// What the record of an identity says of it; `None` for one of something else.
    fn of(identity: &Identity, record: &Record, secrets: &dyn Secrets) -> Option<Self> {
        let (created, status, authentication) = match record {
            Record::Device(device) => (device.created, device.status, &device.authentication),
            Record::Module(module) => (module.created, Status::Enabled, &module.authentication),
            _ => return None,
        };
        let credential = match authentication {
            Authentication::Sas { primary, secondary } => {
                let place = || key_place(identity);
                Credential::Keys(keys::facts(secrets, place, &name(identity), [primary, secondary]))
            }
            Authentication::SelfSigned { primary, secondary } => {
                Credential::Thumbprints([primary.clone(), secondary.clone()])
            }
            Authentication::CertificateAuthority => Credential::Authority,
            Authentication::None => Credential::None,
        };
        Some(Self { created, status, credential, used: None, unwritten: false })
    }

    /// Takes a use over, unless it is of an earlier identity of that name.
    fn take_use(&mut self, used: Box<Activity>, unwritten: bool) {
        if used.admitted >= self.created {
            self.used = Some(used);
            self.unwritten = unwritten;
        }
    }
}

fn name(identity: &Identity) -> Cow<'_, str> {
    match &identity.module {
        None => Cow::Borrowed(identity.device.as_str()),
        Some(_) => Cow::Owned(identity.to_string()),
    }
}

impl Fleet {
    /// Reads all identities and their use. What is left of the use of others is removed: a device may be deleted before its
    /// use is written down.
    pub(super) async fn read(
        &mut self,
        registry: &dyn Registry,
        secrets: &dyn Secrets,
    ) -> Result<(), StoreError> {
        let mut members = Vec::new();
        for kind in [Kind::Device, Kind::Module] {
            let mut records = Cursor::new(registry, kind);
            while let Some((key, stored)) = records.next().await? {
                let Some(identity) = identity_of(&key) else { continue };
                let member = Member::of(&identity, &stored.record, secrets);
                members.extend(member.map(|member| (identity, member)));
            }
        }
        // Built at once, it has no room that stays empty.
        let mut members = BTreeMap::from_iter(members);
        let mut orphans = Vec::new();
        let mut uses = Cursor::new(registry, Kind::Activity);
        while let Some((key, stored)) = uses.next().await? {
            let (Key::Activity(identity), Record::Activity(activity)) = (&key, stored.record) else {
                continue;
            };
            match members.get_mut(identity) {
                Some(member) => member.take_use(Box::new(activity), false),
                None => orphans.push((key, stored.version)),
            }
        }
        let unwritten = std::mem::replace(&mut self.members, members).into_iter();
        for (identity, known) in unwritten.filter(|(_, known)| known.unwritten) {
            if let (Some(member), Some(used)) = (self.members.get_mut(&identity), known.used) {
                member.take_use(used, true);
            }
        }
        remove(registry, orphans).await;
        Ok(())
    }

    /// Reads these identities, which were made, changed or deleted.
    pub(super) async fn refresh(
        &mut self,
        registry: &dyn Registry,
        secrets: &dyn Secrets,
        changed: &HashSet<Identity>,
    ) -> Result<(), StoreError> {
        let mut orphans = Vec::new();
        for identity in changed {
            let stored = registry.load(key_of(identity)).await?;
            let found = stored.and_then(|stored| Member::of(identity, &stored.record, secrets));
            let known = self.members.remove(identity);
            let Some(mut member) = found else {
                let key = Key::Activity(identity.clone());
                let left = registry.load(key.clone()).await?;
                orphans.extend(left.map(|left| (key, left.version)));
                continue;
            };
            let (used, unwritten) = match known {
                Some(known) => (known.used, known.unwritten),
                None => (use_of(registry, identity).await?, false),
            };
            if let Some(used) = used {
                member.take_use(used, unwritten);
            }
            self.members.insert(identity.clone(), member);
        }
        remove(registry, orphans).await;
        Ok(())
    }

    /// Takes in who was used. Those who are gone by now are nobody's concern.
    pub(super) fn take_in(&mut self, used: HashMap<Identity, Used>) {
        for (identity, used) in used {
            let Some(member) = self.members.get_mut(&identity) else { continue };
            if let Some(admitted) = used.admitted {
                member.take_use(admitted, true);
            }
            if let (Some(ended), Some(last)) = (used.ended, &mut member.used) {
                last.ended = Some(ended);
                member.unwritten = true;
            }
        }
    }

    /// Writes down who was used, in the order in which it lies in the registry. What could not be written stays to be
    /// written.
    pub(super) async fn write_use(&mut self, registry: &dyn Registry) -> Result<(), StoreError> {
        let mut unwritten = self.members.iter_mut().filter(|(_, member)| member.unwritten);
        loop {
            let batch: Vec<_> = unwritten.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return Ok(());
            }
            let record = |(identity, member): &(&Identity, &mut Member)| {
                let used = member.used.as_deref()?.clone();
                Some((Key::Activity((*identity).clone()), Record::Activity(used)))
            };
            registry.note(batch.iter().filter_map(record).collect()).await?;
            batch.into_iter().for_each(|(_, member)| member.unwritten = false);
        }
    }

    /// Shows every identity to the checks.
    pub(super) async fn show(&self, bus: &dyn Bus, settings: &HubSettings, sweep: &mut Sweep) {
        let mut status = Status::Enabled;
        for (at, (identity, member)) in self.members.iter().enumerate() {
            if identity.module.is_none() {
                status = member.status;
            }
            sweep.identity(&Subject {
                name: &name(identity),
                status,
                created: member.created,
                credential: &member.credential,
                activity: member.used.as_deref(),
                connected: bus.is_connected(identity),
                settings,
            });
            if at % SHOWN_AT_ONCE == 0 {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// The identity whose record this is the key of.
pub(super) fn identity_of(key: &Key) -> Option<Identity> {
    match key {
        Key::Device(device) => Some(Identity::device(device.clone())),
        Key::Module(device, module) => Some(Identity::module(device.clone(), module.clone())),
        _ => None,
    }
}

fn key_of(identity: &Identity) -> Key {
    match &identity.module {
        None => Key::Device(identity.device.clone()),
        Some(module) => Key::Module(identity.device.clone(), module.clone()),
    }
}

async fn use_of(registry: &dyn Registry, identity: &Identity) -> Result<Option<Box<Activity>>, StoreError> {
    let stored = registry.load(Key::Activity(identity.clone())).await?;
    Ok(stored.and_then(|stored| match stored.record {
        Record::Activity(activity) => Some(Box::new(activity)),
        _ => None,
    }))
}

/// Removes what is left of the use of identities that are gone.
async fn remove(registry: &dyn Registry, orphans: Vec<(Key, u64)>) {
    for orphans in orphans.chunks(ORPHANS_MAX) {
        let write =
            |(key, version): &(Key, u64)| Write { key: key.clone(), replaces: Some(*version), record: None };
        let writes = orphans.iter().map(write).collect();
        // One of them was used again: it is read again when it changes, and all are when the hub starts.
        let removed = registry.commit(Change { writes, ..Change::default() }).await;
        tracing::debug!(?removed, "the use of identities that are gone was removed");
    }
}

#[cfg(test)]
#[path = "fleet_tests.rs"]
mod tests;
