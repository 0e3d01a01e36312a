//! Gathers the facts of a look: walks devices, modules and their use side by side, in the order of their ids.

use std::borrow::Cow;
use std::collections::VecDeque;

use hub::activity::{Activity, PolicyUse};
use hub::authenticate::key_place;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::ports::registry::{StoreError, Versioned, Write};
use hub::record::{Authentication, Authority, Device, Key, Kind, Module, Record, Status};
use hub::settings::HubSettings;
use posture::Sweep;
use posture::facts::{Credential, PolicyFacts, Subject};

use super::keys;

/// Records that are read at once.
const PAGE: usize = 500;

/// Shows every identity to the checks. Gives what is left of the use of identities that are gone, to be removed: a
/// device may be deleted before its use is written down.
pub(super) async fn identities(
    hub: &Hub,
    settings: &HubSettings,
    sweep: &mut Sweep,
) -> Result<Vec<Write>, StoreError> {
    let mut devices = Cursor::new(hub, Kind::Device);
    let mut modules = Cursor::new(hub, Kind::Module);
    let mut uses = Cursor::new(hub, Kind::Activity);
    let mut orphans = Vec::new();
    while let Some((_, stored)) = devices.next().await? {
        let Record::Device(device) = stored.record else { continue };
        let identity = Identity::device(device.id.clone());
        let used = activity_of(&mut uses, &identity, &mut orphans).await?;
        show(hub, settings, sweep, &identity, &Registered::Device(&device), used.as_ref());
        while let Some((Key::Module(owner, _), _)) = modules.peek().await? {
            if *owner > device.id {
                break;
            }
            let Some((_, stored)) = modules.next().await? else { continue };
            let Record::Module(module) = stored.record else { continue };
            if module.device != device.id {
                continue;
            }
            let identity = Identity::module(device.id.clone(), module.id.clone());
            let used = activity_of(&mut uses, &identity, &mut orphans).await?;
            show(hub, settings, sweep, &identity, &Registered::Module(&module, device.status), used.as_ref());
        }
        // Other work of this thread, which is little, may go first.
        tokio::task::yield_now().await;
    }
    while let Some((key, stored)) = uses.next().await? {
        orphan(&mut orphans, key, stored.version);
    }
    Ok(orphans)
}

/// Orphans that one look removes.
const ORPHANS_MAX: usize = 1_000;

fn orphan(orphans: &mut Vec<Write>, key: Key, version: u64) {
    if orphans.len() < ORPHANS_MAX {
        orphans.push(Write { key, replaces: Some(version), record: None });
    }
}

enum Registered<'a> {
    Device(&'a Device),
    /// With the status of its device.
    Module(&'a Module, Status),
}

fn show(
    hub: &Hub,
    settings: &HubSettings,
    sweep: &mut Sweep,
    identity: &Identity,
    registered: &Registered<'_>,
    activity: Option<&Activity>,
) {
    let (created, status, authentication) = match registered {
        Registered::Device(device) => (device.created, device.status, &device.authentication),
        Registered::Module(module, status) => (module.created, *status, &module.authentication),
    };
    let name = match &identity.module {
        None => Cow::Borrowed(identity.device.as_str()),
        Some(_) => Cow::Owned(identity.to_string()),
    };
    let credential = match authentication {
        Authentication::Sas { primary, secondary } => {
            Credential::Keys(keys::facts(hub, || key_place(identity), &name, [primary, secondary]))
        }
        Authentication::SelfSigned { primary, secondary } => {
            Credential::Thumbprints([primary.as_ref(), secondary.as_ref()])
        }
        Authentication::CertificateAuthority => Credential::Authority,
        Authentication::None => Credential::None,
    };
    sweep.identity(&Subject {
        name: &name,
        status,
        created,
        credential,
        activity,
        connected: hub.bus.is_connected(identity),
        settings,
    });
}

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

/// The use of an identity; those before it are of identities that are gone.
async fn activity_of(
    uses: &mut Cursor<'_>,
    identity: &Identity,
    orphans: &mut Vec<Write>,
) -> Result<Option<Activity>, StoreError> {
    while let Some((Key::Activity(of), _)) = uses.peek().await? {
        let order = of.cmp(identity);
        if order.is_gt() {
            return Ok(None);
        }
        let Some((key, stored)) = uses.next().await? else { return Ok(None) };
        match stored.record {
            Record::Activity(activity) if order.is_eq() => return Ok(Some(activity)),
            _ => orphan(orphans, key, stored.version),
        }
    }
    Ok(None)
}

/// Walks the records of a kind in the order of their keys.
struct Cursor<'a> {
    hub: &'a Hub,
    kind: Kind,
    page: VecDeque<(Key, Versioned)>,
    after: Option<Key>,
    ended: bool,
}

impl<'a> Cursor<'a> {
    fn new(hub: &'a Hub, kind: Kind) -> Self {
        Self { hub, kind, page: VecDeque::new(), after: None, ended: false }
    }

    async fn peek(&mut self) -> Result<Option<&(Key, Versioned)>, StoreError> {
        if self.page.is_empty() && !self.ended {
            let page = self.hub.registry.list(self.kind, self.after.take(), PAGE).await?;
            self.ended = page.len() < PAGE;
            self.after = page.last().map(|(key, _)| key.clone());
            self.page = page.into();
        }
        Ok(self.page.front())
    }

    async fn next(&mut self) -> Result<Option<(Key, Versioned)>, StoreError> {
        self.peek().await?;
        Ok(self.page.pop_front())
    }
}
