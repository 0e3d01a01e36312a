//! The twins of a hub: loaded, changed and announced.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::{How, Members, Twin, TwinEdit};
use crate::activity::Activity;
use crate::decision::{Act, Decision};
use crate::deed::PlainChange;
use crate::error::HubError;
use crate::hub::Hub;
use crate::hub_events::TwinParts;
use crate::identity::Identity;
use crate::inbox::waiting;
use crate::limits::MODEL_ID_BYTES_MAX;
use crate::ports::registry::{Change, Versioned, Write};
use crate::record::{Authentication, Device, Key, Record};
use crate::registry::{
    By, IfMatch, activity_since, as_device, as_module, change, unknown_device, unknown_module,
};

/// Whether a model id is one that is taken. Each message of the device carries it, so that a longer one would make the stream
/// many times what its devices sent.
///
/// # Errors
/// What is wrong with it, in words.
pub fn check_model_id(model_id: &str) -> Result<(), String> {
    match model_id.len() {
        0..=MODEL_ID_BYTES_MAX => Ok(()),
        bytes => Err(format!("the model id has {bytes} bytes, and {MODEL_ID_BYTES_MAX} are the most")),
    }
}

/// What a live connection is told of its desired properties.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesiredChange {
    /// Whose they are.
    pub identity: Identity,
    /// Their version after the change.
    pub version: u64,
    /// What the device gets: the patch, or all of them, as JSON.
    pub body: Bytes,
}

/// A twin with what else its document shows.
#[derive(Clone)]
pub struct TwinView {
    /// Whose it is.
    pub identity: Identity,
    /// The device, or the one that the module is on.
    pub device: Device,
    /// How the identity itself proves who it is.
    pub authentication: Authentication,
    /// The etag of the identity.
    pub identity_etag: String,
    /// The twin.
    pub twin: Twin,
    /// Whether the identity is connected.
    pub connected: bool,
    /// Its last use, as far as it is written down; `None` when it was never used.
    pub activity: Option<Activity>,
    /// Device-bound messages that wait for it.
    pub messages_waiting: usize,
}

impl Hub {
    /// The twin of an identity, for a service.
    pub async fn twin(&self, identity: &Identity) -> Result<TwinView, HubError> {
        let loaded = self.registry.load_many(keys_of_view(identity)).await?;
        let twin = match as_twin(loaded[TWIN].as_ref()) {
            Some((twin, _)) => twin.clone(),
            None => self.make_twin(identity).await?,
        };
        self.twin_view(identity, &loaded, twin)
    }

    /// The twin of an identity, for a connection that was admitted in this generation of it.
    pub async fn own_twin(&self, identity: &Identity, generation: &str) -> Result<Twin, HubError> {
        let twin = match self.stored_twin(identity).await? {
            Some(twin) => twin,
            None => self.make_twin(identity).await?,
        };
        of_generation(twin, identity, generation)
    }

    /// Changes tags and desired properties for a service, and tells the device.
    pub async fn edit_twin(
        &self,
        identity: &Identity,
        edit: &TwinEdit,
        how: How,
        if_match: Option<&IfMatch>,
        by: &By,
    ) -> Result<TwinView, HubError> {
        let keys = keys_of_view(identity);
        let now = self.now();
        loop {
            let edited = self.change(&keys, |loaded| {
                let Some((twin, version)) = as_twin(loaded[TWIN].as_ref()) else {
                    return Ok((Change::default(), None));
                };
                let edited = twin.edited(edit, how, if_match, now)?;
                let desired_version = edited.twin.desired.version;
                let record = Some(Record::Twin(Box::new(edited.twin.clone())));
                let what = if how == How::Merge { PlainChange::UpdateTwin } else { PlainChange::ReplaceTwin };
                let write = Write { key: keys[TWIN].clone(), replaces: Some(version), record };
                let mut change = change(vec![write], what, identity.to_string(), by, now);
                if let Some(Decision { act: Act::Change { routine, .. }, .. }) = &mut change.decision {
                    *routine = true;
                }
                change.announces = edited.told.map(|told| {
                    let body = Bytes::from(Value::Object(told).to_string());
                    let told = DesiredChange { identity: identity.clone(), version: desired_version, body };
                    Arc::new(told)
                });
                change.events = match how {
                    How::Replace => self.twin_replaced(identity, &edited.twin, now),
                    How::Merge => {
                        let (tags, desired) = (edit.tags.as_ref(), edit.desired.as_ref());
                        let changed = TwinParts {
                            tags: tags.map(|edit| edit.patch(&twin.tags)),
                            desired: desired.map(|edit| edit.patch(&twin.desired.properties)),
                            reported: None,
                        };
                        self.twin_updated(identity, &edited.twin, &changed, now)
                    }
                }
                .into_iter()
                .collect();
                Ok((change, Some(self.twin_view(identity, loaded, edited.twin)?)))
            });
            match edited.await? {
                Some(view) => return Ok(view),
                None => drop(self.make_twin(identity).await?),
            }
        }
    }

    /// Changes the reported properties for a connection that was admitted in this generation; gives their version once it
    /// is durable.
    pub async fn report(
        &self,
        identity: &Identity,
        generation: &str,
        patch: &Members,
        if_version: Option<u64>,
    ) -> Result<u64, HubError> {
        let key = Key::Twin(identity.clone());
        let now = self.now();
        loop {
            let reported = self
                .change(std::slice::from_ref(&key), |loaded| {
                    let Some((twin, version)) = as_twin(loaded[0].as_ref()) else {
                        return Ok((Change::default(), None));
                    };
                    let twin = of_generation(twin.clone(), identity, generation)?;
                    let twin = twin.reported(patch, if_version, now)?;
                    let reported = twin.reported.version;
                    let changed = TwinParts { reported: Some(Cow::Borrowed(patch)), ..TwinParts::default() };
                    let events = self.twin_updated(identity, &twin, &changed, now).into_iter().collect();
                    let record = Some(Record::Twin(Box::new(twin)));
                    let write = Write { key: key.clone(), replaces: Some(version), record };
                    Ok((Change { writes: vec![write], events, ..Change::default() }, Some(reported)))
                })
                .await?;
            match reported {
                Some(version) => return Ok(version),
                None => drop(self.make_twin(identity).await?),
            }
        }
    }

    /// Notes the model that a connection announced. One that is too long is no model id: it goes on with the messages, as
    /// all that a device says, and is not noted.
    pub async fn announce_model(
        &self,
        identity: &Identity,
        generation: &str,
        model_id: &str,
    ) -> Result<(), HubError> {
        if self.own_twin(identity, generation).await?.model_id.as_deref() == Some(model_id) {
            return Ok(());
        }
        let key = Key::Twin(identity.clone());
        self.change(std::slice::from_ref(&key), |loaded| {
            let (twin, version) = as_twin(loaded[0].as_ref()).ok_or_else(|| unknown(identity))?;
            let mut twin = of_generation(twin.clone(), identity, generation)?;
            twin.model_id = Some(model_id.to_owned());
            twin.version += 1;
            let record = Some(Record::Twin(Box::new(twin)));
            let write = Write { key: key.clone(), replaces: Some(version), record };
            Ok((Change { writes: vec![write], ..Change::default() }, ()))
        })
        .await
    }

    async fn stored_twin(&self, identity: &Identity) -> Result<Option<Twin>, HubError> {
        let stored = self.registry.load(Key::Twin(identity.clone())).await?;
        Ok(stored.and_then(|stored| match stored.record {
            Record::Twin(twin) => Some(*twin),
            _ => None,
        }))
    }

    /// Gives an identity that is older than twins its first one.
    async fn make_twin(&self, identity: &Identity) -> Result<Twin, HubError> {
        let mut keys = vec![Key::Twin(identity.clone()), Key::Device(identity.device.clone())];
        if let Some(module) = &identity.module {
            keys.push(Key::Module(identity.device.clone(), module.clone()));
        }
        let now = self.now();
        self.change(&keys, |loaded| {
            if loaded[1].is_none() {
                return Err(unknown_device(&identity.device));
            }
            if let Some((twin, _)) = as_twin(loaded[0].as_ref()) {
                return Ok((Change::default(), twin.clone()));
            }
            let owner = loaded.last().and_then(Option::as_ref).ok_or_else(|| unknown(identity))?;
            let generation = match &owner.record {
                Record::Device(device) => &device.generation,
                Record::Module(module) => &module.generation,
                _ => return Err(unknown(identity)),
            };
            let twin = Twin::new(generation, now);
            let record = Some(Record::Twin(Box::new(twin.clone())));
            // Written anew as it is, so that its deletion in the meantime makes this stale and leaves no twin behind.
            let owner = Write {
                key: keys[keys.len() - 1].clone(),
                replaces: Some(owner.version),
                record: Some(owner.record.clone()),
            };
            let writes = vec![Write { key: keys[0].clone(), replaces: None, record }, owner];
            Ok((Change { writes, ..Change::default() }, twin))
        })
        .await
    }

    /// What a service sees, of records that were loaded by [`keys_of_view`].
    fn twin_view(
        &self,
        identity: &Identity,
        loaded: &[Option<Versioned>],
        twin: Twin,
    ) -> Result<TwinView, HubError> {
        let device =
            as_device(loaded[DEVICE].as_ref()).ok_or_else(|| unknown_device(&identity.device))?.clone();
        let (authentication, identity_etag, created) = match identity.module {
            None => (device.authentication.clone(), device.etag.clone(), device.created),
            Some(_) => {
                let module = loaded
                    .get(MODULE)
                    .and_then(|stored| as_module(stored.as_ref()))
                    .ok_or_else(|| unknown(identity))?;
                (module.authentication.clone(), module.etag.clone(), module.created)
            }
        };
        Ok(TwinView {
            connected: self.bus.is_connected(identity),
            activity: activity_since(loaded[ACTIVITY].as_ref(), created),
            messages_waiting: waiting(&loaded[INBOX], &twin.generation, self.now()),
            identity: identity.clone(),
            device,
            authentication,
            identity_etag,
            twin,
        })
    }
}

/// Where the records of [`keys_of_view`] lie.
const TWIN: usize = 0;
const DEVICE: usize = 1;
const ACTIVITY: usize = 2;
const INBOX: usize = 3;
const MODULE: usize = 4;

/// All that the document of a twin shows.
fn keys_of_view(identity: &Identity) -> Vec<Key> {
    let mut keys = vec![
        Key::Twin(identity.clone()),
        Key::Device(identity.device.clone()),
        Key::Activity(identity.clone()),
        Key::Inbox(identity.clone()),
    ];
    if let Some(module) = &identity.module {
        keys.push(Key::Module(identity.device.clone(), module.clone()));
    }
    keys
}

fn as_twin(stored: Option<&Versioned>) -> Option<(&Twin, u64)> {
    match stored {
        Some(Versioned { version, record: Record::Twin(twin) }) => Some((twin, *version)),
        _ => None,
    }
}

/// What an earlier identity of the same name was admitted for is not for this one.
fn of_generation(twin: Twin, identity: &Identity, generation: &str) -> Result<Twin, HubError> {
    match twin.generation == generation {
        true => Ok(twin),
        false => Err(unknown(identity)),
    }
}

fn unknown(identity: &Identity) -> HubError {
    match &identity.module {
        None => unknown_device(&identity.device),
        Some(module) => unknown_module(&identity.device, module),
    }
}
