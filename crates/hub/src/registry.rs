//! The rules of the identity registry (`docs/protocol/service-rest.md` §3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::activity::Activity;
use crate::authenticate::{key_place, open_key, seal_key};
use crate::decision::{Act, Decision, Origin};
use crate::deed::{ChangeKind, PlainChange};
use crate::edge::{Moved, own_scope, parent_named};
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::{DeviceId, Identity, ModuleId};
use crate::inbox::waiting;
pub use crate::limits::BULK_MAX;
pub use crate::limits::LIST_MAX;
use crate::ports::registry::{Change, StoreError, Versioned, Write};
use crate::ports::secrets::{SecretError, Secrets};
use crate::record::{Authentication, Device, Key, Kind, Module, Record, Slot, Status, Thumbprint};
use crate::twin::Twin;

/// The longest status reason, in characters.
pub const STATUS_REASON_CHARS_MAX: usize = 128;
/// The shortest and the longest symmetric key, in decoded bytes.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

/// Who makes a change, for its record.
#[derive(Debug, Clone)]
pub struct By {
    /// A policy, or `operator`.
    pub actor: String,
    /// From where.
    pub origin: Origin,
}

/// The writable part of a device, as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceSpec {
    /// The status; absent means enabled on creation, unchanged on update.
    pub status: Option<Status>,
    /// The reason of the status.
    pub status_reason: Option<String>,
    /// How it proves who it is; absent means new keys on creation, unchanged on update.
    pub authentication: Option<AuthenticationSpec>,
    /// Whether it is an edge device; counts on creation only.
    pub edge: bool,
    /// The parent's scope, for a leaf; empty for none, absent for the one that it has.
    pub device_scope: Option<String>,
    /// The scope of the parent, for an edge device: at most one.
    pub parent_scopes: Option<Vec<String>>,
}

/// The writable part of a module, as it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModuleSpec {
    /// Who manages it.
    pub managed_by: Option<String>,
    /// How it proves who it is; absent means new keys on creation, unchanged on update.
    pub authentication: Option<AuthenticationSpec>,
}

/// How an identity is to prove who it is, as it was given.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct AuthenticationSpec {
    /// The type; absent means `selfSigned` when there is a thumbprint, else `sas`.
    pub kind: Option<String>,
    /// The symmetric keys in base64; both or neither, and neither means new ones.
    pub keys: [Option<Zeroizing<String>>; 2],
    /// The thumbprints.
    pub thumbprints: [Option<String>; 2],
}

impl std::fmt::Debug for AuthenticationSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthenticationSpec").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever the etag is, but the record must exist.
    Any,
    /// This etag.
    Etag(String),
}

/// A device with its keys opened and its live state.
#[derive(Clone)]
pub struct DeviceView {
    /// The record.
    pub device: Device,
    /// The keys in base64, when it has keys.
    pub keys: Option<[Zeroizing<String>; 2]>,
    /// Whether it is connected.
    pub connected: bool,
    /// Its last use, as far as it is written down; `None` when it was never used.
    pub activity: Option<Activity>,
    /// Device-bound messages that wait for it.
    pub messages_waiting: usize,
}

/// What was loaded of a key.
type Stored = Option<Versioned>;

/// A module with its keys opened and its live state.
#[derive(Clone)]
pub struct ModuleView {
    /// The record.
    pub module: Module,
    /// The keys in base64, when it has keys.
    pub keys: Option<[Zeroizing<String>; 2]>,
    /// Whether it is connected.
    pub connected: bool,
    /// Its last use, as far as it is written down; `None` when it was never used.
    pub activity: Option<Activity>,
    /// Device-bound messages that wait for it.
    pub messages_waiting: usize,
}

impl Hub {
    /// A device.
    pub async fn device(&self, id: &DeviceId) -> Result<DeviceView, HubError> {
        let stored = self.registry.load(Key::Device(id.clone())).await?;
        self.device_view(as_device(stored.as_ref()).ok_or_else(|| unknown_device(id))?.clone()).await
    }

    /// The first devices by id after `after`, at most `top` and at most [`LIST_MAX`].
    pub async fn devices(&self, after: Option<DeviceId>, top: usize) -> Result<Vec<DeviceView>, HubError> {
        let stored = self.registry.list(Kind::Device, after.map(Key::Device), top.clamp(1, LIST_MAX)).await?;
        let device = |(_, stored): (Key, Versioned)| match stored.record {
            Record::Device(device) => Some(device),
            _ => None,
        };
        self.device_views(stored.into_iter().filter_map(device).collect()).await
    }

    /// Creates a device (`if_match` absent) or replaces its writable part.
    pub async fn put_device(
        &self,
        id: &DeviceId,
        spec: DeviceSpec,
        if_match: Option<IfMatch>,
        by: &By,
    ) -> Result<DeviceView, HubError> {
        check_reason(spec.status_reason.as_deref())?;
        if spec.device_scope.is_some() || spec.parent_scopes.is_some() {
            let stored = self.registry.load(Key::Device(id.clone())).await?;
            self.check_parent(id, as_device(stored.as_ref()), &spec).await?;
        }
        let identity = Identity::device(id.clone());
        let keys = [Key::Device(id.clone()), Key::Twin(identity.clone()), Key::Session(identity)];
        let now = self.now();
        let device = self
            .change(&keys, |loaded| {
                let stored = loaded[0].as_ref();
                let (device, mut writes) = match (as_device(stored), &if_match) {
                    (None, Some(_)) => return Err(unknown_device(id)),
                    (Some(_), None) => {
                        let text = format!("A device with ID '{id}' is already registered.");
                        return Err(HubError::new(HubErrorCode::DeviceAlreadyExists, text));
                    }
                    (Some(device), Some(wanted)) => {
                        check_etag(wanted, &device.etag)?;
                        (self.updated_device(device, &spec, now)?, Vec::new())
                    }
                    (None, None) => {
                        let (device, mut writes) = self.new_device(id, &spec, now)?;
                        writes.push(first_twin(&keys[1], loaded[1].as_ref(), &device.generation, now));
                        writes.extend(no_session(&keys[2], loaded[2].as_ref()));
                        (device, writes)
                    }
                };
                let what =
                    if stored.is_some() { PlainChange::UpdateDevice } else { PlainChange::CreateDevice };
                let version = stored.map(|stored| stored.version);
                let record = Some(Record::Device(device.clone()));
                let events = self.made(&writes, now);
                let parent = Moved::between(as_device(stored), &device);
                writes.insert(0, Write { key: keys[0].clone(), replaces: version, record });
                let mut change = change(writes, what, id.to_string(), by, now);
                if let Some(decision) = &mut change.decision {
                    decision.parent = parent.map(Box::new);
                }
                Ok((Change { events, ..change }, device))
            })
            .await?;
        self.device_view(device).await
    }

    /// Deletes a device with its modules, twins and sessions.
    pub async fn delete_device(
        &self,
        id: &DeviceId,
        if_match: Option<IfMatch>,
        by: &By,
    ) -> Result<(), HubError> {
        let mut keys = vec![Key::Device(id.clone())];
        let kinds = [
            Kind::Module,
            Kind::Session,
            Kind::Activity,
            Kind::Inbox,
            Kind::InboxMessage,
            Kind::Feedback,
            Kind::Uploads,
        ];
        for kind in kinds {
            keys.extend(self.registry.list_of(kind, id.clone()).await?.into_iter().map(|(key, _)| key));
        }
        // Those of older identities are made when they are asked for, perhaps just now, so that they are not listed.
        let identities: Vec<_> = keys.iter().filter_map(owner_of_twin).collect();
        keys.extend(identities.into_iter().map(Key::Twin));
        let now = self.now();
        self.change(&keys, |loaded| {
            let device = as_device(loaded[0].as_ref()).ok_or_else(|| unknown_device(id))?;
            if let Some(wanted) = &if_match {
                check_etag(wanted, &device.etag)?;
            }
            let writes = keys.iter().zip(loaded).filter_map(|(key, stored)| {
                Some(Write { key: key.clone(), replaces: Some(stored.as_ref()?.version), record: None })
            });
            let events = self.removed(&keys, loaded, now);
            Ok((
                Change {
                    events,
                    ..change(writes.collect(), PlainChange::DeleteDevice, id.to_string(), by, now)
                },
                (),
            ))
        })
        .await
    }

    /// A module.
    pub async fn module(&self, device: &DeviceId, id: &ModuleId) -> Result<ModuleView, HubError> {
        self.device(device).await?;
        let stored = self.registry.load(Key::Module(device.clone(), id.clone())).await?;
        self.module_view(as_module(stored.as_ref()).ok_or_else(|| unknown_module(device, id))?.clone()).await
    }

    /// All modules of a device.
    pub async fn modules(&self, device: &DeviceId) -> Result<Vec<ModuleView>, HubError> {
        self.device(device).await?;
        let stored = self.registry.list_of(Kind::Module, device.clone()).await?;
        let module = |(_, stored): (Key, Versioned)| match stored.record {
            Record::Module(module) => Some(module),
            _ => None,
        };
        self.module_views(stored.into_iter().filter_map(module).collect()).await
    }

    /// Creates a module (`if_match` absent) or replaces its writable part.
    pub async fn put_module(
        &self,
        device: &DeviceId,
        id: &ModuleId,
        spec: ModuleSpec,
        if_match: Option<IfMatch>,
        by: &By,
    ) -> Result<ModuleView, HubError> {
        let identity = Identity::module(device.clone(), id.clone());
        let keys = [
            Key::Module(device.clone(), id.clone()),
            Key::Device(device.clone()),
            Key::Twin(identity.clone()),
            Key::Session(identity.clone()),
        ];
        let others = self.registry.list_of(Kind::Module, device.clone()).await?.len();
        let now = self.now();
        let module = self
            .change(&keys, |loaded| {
                as_device(loaded[1].as_ref()).ok_or_else(|| unknown_device(device))?;
                let stored = loaded[0].as_ref();
                let mut writes = Vec::with_capacity(2);
                let module = match (as_module(stored), &if_match) {
                    (None, Some(_)) => return Err(unknown_module(device, id)),
                    (Some(_), None) => {
                        let text =
                            format!("A module with ID '{id}' is already registered on device '{device}'.");
                        return Err(HubError::new(HubErrorCode::ModuleAlreadyExistsOnDevice, text));
                    }
                    (Some(module), Some(wanted)) => {
                        check_etag(wanted, &module.etag)?;
                        Module {
                            etag: self.new_etag(),
                            managed_by: spec.managed_by.clone().or_else(|| module.managed_by.clone()),
                            authentication: match &spec.authentication {
                                None => module.authentication.clone(),
                                Some(given) => self.authentication(
                                    &identity,
                                    Some(given),
                                    Some(&module.authentication),
                                    now,
                                )?,
                            },
                            ..module.clone()
                        }
                    }
                    (None, None) if id.is_system() => return Err(system_module(id)),
                    (None, None) if others >= self.settings.modules_per_device_max => {
                        let max = self.settings.modules_per_device_max;
                        let text = format!("The device '{device}' has {others} modules, the limit is {max}.");
                        return Err(HubError::new(HubErrorCode::TooManyModulesOnDevice, text));
                    }
                    (None, None) => {
                        let module = self.new_module(device, id, &spec, now)?;
                        writes.push(first_twin(&keys[2], loaded[2].as_ref(), &module.generation, now));
                        writes.extend(no_session(&keys[3], loaded[3].as_ref()));
                        module
                    }
                };
                let what =
                    if stored.is_some() { PlainChange::UpdateModule } else { PlainChange::CreateModule };
                let version = stored.map(|stored| stored.version);
                let record = Some(Record::Module(module.clone()));
                let events = self.made(&writes, now);
                writes.insert(0, Write { key: keys[0].clone(), replaces: version, record });
                Ok((Change { events, ..change(writes, what, format!("{device}/{id}"), by, now) }, module))
            })
            .await?;
        self.module_view(module).await
    }

    /// Deletes a module with its twin and session.
    pub async fn delete_module(
        &self,
        device: &DeviceId,
        id: &ModuleId,
        if_match: Option<IfMatch>,
        by: &By,
    ) -> Result<(), HubError> {
        self.device(device).await?;
        if id.is_system() {
            return Err(system_module(id));
        }
        let identity = Identity::module(device.clone(), id.clone());
        let mut keys = vec![
            Key::Module(device.clone(), id.clone()),
            Key::Session(identity.clone()),
            Key::Activity(identity.clone()),
            Key::Twin(identity.clone()),
            Key::Inbox(identity.clone()),
        ];
        for kind in [Kind::InboxMessage, Kind::Feedback] {
            let of_device = self.registry.list_of(kind, device.clone()).await?.into_iter();
            keys.extend(of_device.map(|(key, _)| key).filter(|key| match key {
                Key::InboxMessage(owner, _) => *owner == identity,
                Key::Feedback(feedback) => feedback.identity == identity,
                _ => false,
            }));
        }
        let now = self.now();
        self.change(&keys, |loaded| {
            let module = as_module(loaded[0].as_ref()).ok_or_else(|| unknown_module(device, id))?;
            if let Some(wanted) = &if_match {
                check_etag(wanted, &module.etag)?;
            }
            let writes = keys.iter().zip(loaded).filter_map(|(key, stored)| {
                Some(Write { key: key.clone(), replaces: Some(stored.as_ref()?.version), record: None })
            });
            let (target, events) = (format!("{device}/{id}"), self.removed(&keys, loaded, now));
            Ok((
                Change { events, ..change(writes.collect(), PlainChange::DeleteModule, target, by, now) },
                (),
            ))
        })
        .await
    }

    /// Gives an identity with symmetric keys new ones in these slots.
    pub async fn regenerate_keys(
        &self,
        identity: &Identity,
        slots: &[Slot],
        by: &By,
    ) -> Result<[Zeroizing<String>; 2], HubError> {
        let keys = match &identity.module {
            None => vec![Key::Device(identity.device.clone())],
            Some(module) => {
                vec![
                    Key::Module(identity.device.clone(), module.clone()),
                    Key::Device(identity.device.clone()),
                ]
            }
        };
        let (owner, place, now) = (identity.to_string(), key_place(identity), self.now());
        let authentication = self
            .change(&keys, |loaded| {
                let stored = loaded[0].as_ref();
                let mut record = match (stored.map(|stored| &stored.record), &identity.module) {
                    (Some(record), _) => record.clone(),
                    (None, None) => return Err(unknown_device(&identity.device)),
                    (None, Some(module)) => {
                        as_device(loaded[1].as_ref()).ok_or_else(|| unknown_device(&identity.device))?;
                        return Err(unknown_module(&identity.device, module));
                    }
                };
                let (authentication, etag) = match &mut record {
                    Record::Device(device) => (&mut device.authentication, &mut device.etag),
                    Record::Module(module) => (&mut module.authentication, &mut module.etag),
                    _ => return Err(unknown_device(&identity.device)),
                };
                let Authentication::Sas { primary, secondary } = &mut *authentication else {
                    return Err(invalid(format!("'{identity}' has no symmetric keys")));
                };
                for slot in slots {
                    let sealed = seal_key(&self.new_key(), &owner, (&place, *slot), &*self.secrets, now)
                        .map_err(not_sealed)?;
                    match slot {
                        Slot::Primary => *primary = sealed,
                        Slot::Secondary => *secondary = sealed,
                    }
                }
                *etag = self.new_etag();
                let authentication = authentication.clone();
                let write =
                    Write { key: keys[0].clone(), replaces: stored.map(|s| s.version), record: Some(record) };
                Ok((
                    change(vec![write], PlainChange::RegenerateKeys, identity.to_string(), by, now),
                    authentication,
                ))
            })
            .await?;
        opened(&authentication, identity, &*self.secrets)
            .ok_or_else(|| HubError::new(HubErrorCode::ServerError, "The new keys do not open"))
    }

    /// How many devices there are, and how many of them are disabled.
    pub async fn device_counts(&self) -> Result<(u64, u64), HubError> {
        Ok((self.registry.count(Kind::Device).await?, self.registry.count_disabled().await?))
    }

    /// Registered ids that look like this one, for an explanation.
    pub async fn near_devices(&self, wanted: &str) -> Result<Vec<String>, StoreError> {
        let mut near = Vec::new();
        let mut after = None;
        // Bounded: an explanation is worth a scan of a large fleet, not of an unlimited one.
        for _ in 0..100 {
            let page = self.registry.list(Kind::Device, after.take(), LIST_MAX).await?;
            let ids: Vec<String> = page.iter().map(|(key, _)| key.parts().0.to_owned()).collect();
            near.extend(crate::explain::near_misses(wanted, ids.iter().map(String::as_str)));
            match page.last() {
                Some((key, _)) if page.len() == LIST_MAX => after = Some(key.clone()),
                _ => break,
            }
        }
        Ok(crate::explain::near_misses(wanted, near.iter().map(String::as_str)))
    }

    /// The modules of a device that look like this one, for an explanation.
    pub async fn near_modules(&self, device: &str, wanted: &str) -> Result<Vec<String>, StoreError> {
        let Ok(device) = DeviceId::parse(device) else { return Ok(Vec::new()) };
        let modules = self.registry.list_of(Kind::Module, device).await?;
        let ids: Vec<String> = modules.iter().map(|(key, _)| key.parts().1.into_owned()).collect();
        Ok(crate::explain::near_misses(wanted, ids.iter().map(String::as_str)))
    }

    pub(crate) async fn device_view(&self, device: Device) -> Result<DeviceView, HubError> {
        Ok(self.device_views(vec![device]).await?.remove(0))
    }

    /// Devices with their live state, which is loaded in one round trip.
    pub(crate) async fn device_views(&self, devices: Vec<Device>) -> Result<Vec<DeviceView>, HubError> {
        let identities: Vec<_> = devices.iter().map(|device| Identity::device(device.id.clone())).collect();
        let uses = self.uses(&identities).await?;
        let now = self.now();
        let view =
            |((device, identity), (activity, inbox)): ((Device, Identity), (Stored, Stored))| DeviceView {
                keys: opened(&device.authentication, &identity, &*self.secrets),
                connected: self.bus.is_connected(&identity),
                messages_waiting: waiting(&inbox, &device.generation, now),
                activity: activity_since(activity.as_ref(), device.created),
                device,
            };
        Ok(devices.into_iter().zip(identities).zip(uses).map(view).collect())
    }

    /// The same of modules.
    async fn module_views(&self, modules: Vec<Module>) -> Result<Vec<ModuleView>, HubError> {
        let identity = |module: &Module| Identity::module(module.device.clone(), module.id.clone());
        let identities: Vec<_> = modules.iter().map(identity).collect();
        let uses = self.uses(&identities).await?;
        let now = self.now();
        let view =
            |((module, identity), (activity, inbox)): ((Module, Identity), (Stored, Stored))| ModuleView {
                keys: opened(&module.authentication, &identity, &*self.secrets),
                connected: self.bus.is_connected(&identity),
                messages_waiting: waiting(&inbox, &module.generation, now),
                activity: activity_since(activity.as_ref(), module.created),
                module,
            };
        Ok(modules.into_iter().zip(identities).zip(uses).map(view).collect())
    }

    async fn module_view(&self, module: Module) -> Result<ModuleView, HubError> {
        Ok(self.module_views(vec![module]).await?.remove(0))
    }

    /// When each was used last, and its queue of device-bound messages.
    async fn uses(&self, identities: &[Identity]) -> Result<Vec<(Stored, Stored)>, StoreError> {
        let keys =
            identities.iter().flat_map(|id| [Key::Activity(id.clone()), Key::Inbox(id.clone())]).collect();
        let mut stored = self.registry.load_many(keys).await?.into_iter();
        Ok(std::iter::from_fn(|| stored.next().zip(stored.next())).collect())
    }

    fn new_device(
        &self,
        id: &DeviceId,
        spec: &DeviceSpec,
        now: Timestamp,
    ) -> Result<(Device, Vec<Write>), HubError> {
        addressable(id.as_str())?;
        let generation = ticks(now).to_string();
        let identity = Identity::device(id.clone());
        let device = Device {
            id: id.clone(),
            etag: self.new_etag(),
            status: spec.status.unwrap_or(Status::Enabled),
            status_reason: spec.status_reason.clone(),
            status_updated: None,
            authentication: self.authentication(&identity, spec.authentication.as_ref(), None, now)?,
            edge: spec.edge,
            device_scope: spec.edge.then(|| own_scope(id, &generation)),
            parent_scopes: Vec::new(),
            created: now,
            generation,
        };
        let device = device.with_parent(parent_named(id, None, spec)?);
        let mut writes = Vec::new();
        for module in ModuleId::of_edge_devices().into_iter().filter(|_| spec.edge) {
            let made = self.new_module(id, &module, &ModuleSpec::default(), now)?;
            let twin = Key::Twin(Identity::module(id.clone(), module.clone()));
            writes.push(first_twin(&twin, None, &made.generation, now));
            let record = Some(Record::Module(made));
            writes.push(Write { key: Key::Module(id.clone(), module), replaces: None, record });
        }
        Ok((device, writes))
    }

    fn updated_device(&self, device: &Device, spec: &DeviceSpec, now: Timestamp) -> Result<Device, HubError> {
        let identity = Identity::device(device.id.clone());
        let status = spec.status.unwrap_or(device.status);
        let parent = parent_named(&device.id, Some(device), spec)?;
        let updated = Device {
            etag: self.new_etag(),
            status,
            status_reason: spec.status_reason.clone(),
            status_updated: if status == device.status { device.status_updated } else { Some(now) },
            authentication: match &spec.authentication {
                None => device.authentication.clone(),
                Some(given) => {
                    self.authentication(&identity, Some(given), Some(&device.authentication), now)?
                }
            },
            ..device.clone()
        };
        Ok(updated.with_parent(parent))
    }

    fn new_module(
        &self,
        device: &DeviceId,
        id: &ModuleId,
        spec: &ModuleSpec,
        now: Timestamp,
    ) -> Result<Module, HubError> {
        addressable(id.as_str())?;
        let identity = Identity::module(device.clone(), id.clone());
        Ok(Module {
            device: device.clone(),
            id: id.clone(),
            generation: ticks(now).to_string(),
            etag: self.new_etag(),
            managed_by: spec.managed_by.clone(),
            authentication: self.authentication(&identity, spec.authentication.as_ref(), None, now)?,
            created: now,
        })
    }

    /// The authentication that is stored for what was given. A key that is already there keeps the time at which
    /// it was set.
    fn authentication(
        &self,
        identity: &Identity,
        given: Option<&AuthenticationSpec>,
        before: Option<&Authentication>,
        now: Timestamp,
    ) -> Result<Authentication, HubError> {
        let default = AuthenticationSpec::default();
        let given = given.unwrap_or(&default);
        let thumbprint = |slot: usize| match given.thumbprints[slot].as_deref() {
            None | Some("") => Ok(None),
            Some(text) => Thumbprint::parse(text).map(Some).map_err(|error| invalid(error.to_string())),
        };
        let (primary, secondary) = (thumbprint(0)?, thumbprint(1)?);
        let derived = if primary.is_some() || secondary.is_some() { "selfSigned" } else { "sas" };
        let kind = given.kind.as_deref().unwrap_or(derived);
        if kind.eq_ignore_ascii_case("sas") {
            self.sas(identity, given, before, now)
        } else if kind.eq_ignore_ascii_case("selfSigned") {
            match primary.is_some() || secondary.is_some() {
                true => Ok(Authentication::SelfSigned { primary, secondary }),
                false => Err(invalid("selfSigned authentication needs a primary thumbprint")),
            }
        } else if kind.eq_ignore_ascii_case("certificateAuthority") {
            Ok(Authentication::CertificateAuthority)
        } else if kind.eq_ignore_ascii_case("none") {
            Ok(Authentication::None)
        } else {
            let kinds = "sas, selfSigned, certificateAuthority or none";
            Err(invalid(format!("The authentication type '{kind}' is not one of {kinds}")))
        }
    }

    fn sas(
        &self,
        identity: &Identity,
        given: &AuthenticationSpec,
        before: Option<&Authentication>,
        now: Timestamp,
    ) -> Result<Authentication, HubError> {
        let key = |slot: usize| given.keys[slot].as_ref().filter(|key| !key.is_empty());
        let texts = match (key(0), key(1)) {
            (None, None) => [self.new_key(), self.new_key()],
            (Some(primary), Some(secondary)) => [primary.clone(), secondary.clone()],
            _ => return Err(invalid("Give both symmetric keys, or neither to have them generated")),
        };
        for text in &texts {
            let bytes =
                STANDARD.decode(text.as_bytes()).map_err(|_| invalid("A symmetric key must be base64"))?;
            if !KEY_BYTES.contains(&bytes.len()) {
                return Err(invalid(format!(
                    "A symmetric key has 16 to 64 bytes, this one has {}",
                    bytes.len()
                )));
            }
        }
        let (owner, place) = (identity.to_string(), key_place(identity));
        let seal = |text: &str, slot| {
            seal_key(text, &owner, (&place, slot), &*self.secrets, now).map_err(not_sealed)
        };
        let (mut primary, mut secondary) =
            (seal(&texts[0], Slot::Primary)?, seal(&texts[1], Slot::Secondary)?);
        if let Some(Authentication::Sas { primary: old_primary, secondary: old_secondary }) = before {
            if old_primary.fingerprint == primary.fingerprint {
                primary.set = old_primary.set;
            }
            if old_secondary.fingerprint == secondary.fingerprint {
                secondary.set = old_secondary.set;
            }
        }
        Ok(Authentication::Sas { primary, secondary })
    }

    /// A new symmetric key: 32 random bytes in base64.
    pub fn new_key(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        self.random.fill(&mut *bytes);
        Zeroizing::new(STANDARD.encode(*bytes))
    }

    pub(crate) fn new_etag(&self) -> String {
        let mut bytes = [0_u8; 4];
        self.random.fill(&mut bytes);
        STANDARD.encode(u32::from_le_bytes(bytes).to_string())
    }
}

fn opened(
    authentication: &Authentication,
    identity: &Identity,
    secrets: &dyn Secrets,
) -> Option<[Zeroizing<String>; 2]> {
    let Authentication::Sas { primary, secondary } = authentication else { return None };
    let place = key_place(identity);
    Some([
        open_key(primary, &place, Slot::Primary, secrets)?,
        open_key(secondary, &place, Slot::Secondary, secrets)?,
    ])
}

/// A change of the registry with its record.
pub fn change(
    writes: Vec<Write>,
    what: impl Into<ChangeKind>,
    target: String,
    by: &By,
    now: Timestamp,
) -> Change {
    let mut decision =
        Decision::new(now, Act::Change { what: what.into(), target: target.clone(), routine: false });
    let concerns_a_device = matches!(
        writes.first().map(|write| write.key.kind()),
        Some(Kind::Device | Kind::Module | Kind::Session | Kind::Twin)
    );
    decision.identity = concerns_a_device.then_some(target);
    decision.actor = Some(by.actor.clone());
    decision.origin = by.origin.clone();
    Change { writes, decision: Some(decision), ..Change::default() }
}

/// Gives a new identity its twin, over whatever an earlier one left.
fn first_twin(key: &Key, stored: Option<&Versioned>, generation: &str, now: Timestamp) -> Write {
    let record = Some(Record::Twin(Box::new(Twin::new(generation, now))));
    Write { key: key.clone(), replaces: stored.map(|stored| stored.version), record }
}

/// Takes from a new identity the session that an earlier one left, where its connection ended after it was deleted.
fn no_session(key: &Key, stored: Option<&Versioned>) -> Option<Write> {
    stored.map(|stored| Write { key: key.clone(), replaces: Some(stored.version), record: None })
}

/// The identity that has a twin, for the key of an identity.
fn owner_of_twin(key: &Key) -> Option<Identity> {
    match key {
        Key::Device(device) => Some(Identity::device(device.clone())),
        Key::Module(device, module) => Some(Identity::module(device.clone(), module.clone())),
        _ => None,
    }
}

/// The last use of an identity that was created then; what an earlier one of the same name did is no use of this one.
pub(crate) fn activity_since(stored: Option<&Versioned>, created: Timestamp) -> Option<Activity> {
    match &stored?.record {
        Record::Activity(activity) if activity.admitted >= created => Some(activity.clone()),
        _ => None,
    }
}

pub(crate) fn as_device(stored: Option<&Versioned>) -> Option<&Device> {
    match &stored?.record {
        Record::Device(device) => Some(device),
        _ => None,
    }
}

pub(crate) fn as_module(stored: Option<&Versioned>) -> Option<&Module> {
    match &stored?.record {
        Record::Module(module) => Some(module),
        _ => None,
    }
}

pub(crate) fn unknown_device(id: &DeviceId) -> HubError {
    HubError::new(HubErrorCode::DeviceNotFound, format!("The device '{id}' is not registered"))
}

pub(crate) fn unknown_module(device: &DeviceId, id: &ModuleId) -> HubError {
    let text = format!("The module '{id}' is not registered on device '{device}'");
    HubError::new(HubErrorCode::ModuleNotFound, text)
}

fn system_module(id: &ModuleId) -> HubError {
    let text = format!("The system module '{id}' is made and removed with its edge device");
    HubError::new(HubErrorCode::SystemModuleModifyUnauthorizedAccess, text)
}

fn invalid(text: impl Into<String>) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}

fn not_sealed(_: SecretError) -> HubError {
    HubError::new(HubErrorCode::ServerError, "The key could not be sealed")
}

fn check_etag(wanted: &IfMatch, etag: &str) -> Result<(), HubError> {
    match wanted {
        IfMatch::Any => Ok(()),
        IfMatch::Etag(wanted) if wanted == etag => Ok(()),
        IfMatch::Etag(_) => Err(HubError::new(
            HubErrorCode::PreconditionFailed,
            "Precondition failed: the ETag does not match",
        )),
    }
}

/// Clients take `.` and `..` out of a path before they send it (RFC 3986 §5.2.4): nobody could read or delete such an identity.
fn addressable(id: &str) -> Result<(), HubError> {
    match id {
        "." | ".." => Err(invalid(format!("The id '{id}' cannot stand in a path, so that it names nothing"))),
        _ => Ok(()),
    }
}

fn check_reason(reason: Option<&str>) -> Result<(), HubError> {
    match reason.map(|reason| reason.chars().count()) {
        Some(length) if length > STATUS_REASON_CHARS_MAX => Err(invalid(format!(
            "statusReason has {length} characters, the limit is {STATUS_REASON_CHARS_MAX}"
        ))),
        _ => Ok(()),
    }
}

/// The time as .NET counts it, in units of 100 ns since the year 1: what generations look like.
fn ticks(time: Timestamp) -> i128 {
    time.as_nanosecond() / 100 + 621_355_968_000_000_000
}
