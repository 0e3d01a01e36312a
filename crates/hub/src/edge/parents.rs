//! Scopes, and who may be whose parent. An edge device has a scope of its own, which names it and its making; its children
//! carry that scope. A parent that was deleted and made again has another scope, so that no child comes to a new gateway
//! by its name alone.

use serde::{Deserialize, Serialize};

use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::DeviceId;
use crate::ports::registry::{StoreError, Versioned};
use crate::record::{Device, Key, Record};
use crate::registry::{DeviceSpec, DeviceView, LIST_MAX};

/// How many edge devices may be above an edge device, each the parent of the next.
pub const EDGE_LEVELS_MAX: usize = 5;

const SCHEME: &str = "ms-azure-iot-edge://";

/// The parent that a device is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parent<'a> {
    /// The one that it has, if any.
    Unchanged,
    /// None.
    Nobody,
    /// The edge device with this scope.
    Scope(&'a str),
}

/// A change of the parent of a device, for its record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// The scope of the parent before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The scope of the parent from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

impl Moved {
    /// What became of the parent between two states of a device; nothing, mostly.
    pub(crate) fn between(was: Option<&Device>, is: &Device) -> Option<Self> {
        let (from, to) = (was.and_then(Device::parent_scope), is.parent_scope());
        (from != to).then(|| Self { from: from.map(str::to_owned), to: to.map(str::to_owned) })
    }
}

/// The scope of an edge device that is made with this generation.
pub(crate) fn own_scope(id: &DeviceId, generation: &str) -> String {
    format!("{SCHEME}{id}-{generation}")
}

/// The device that a scope names.
fn device_of(scope: &str) -> Option<DeviceId> {
    let (id, _) = scope.strip_prefix(SCHEME)?.rsplit_once('-')?;
    DeviceId::parse(id).ok()
}

impl Device {
    /// The scope of its parent, if it has one.
    pub fn parent_scope(&self) -> Option<&str> {
        self.parent_scopes.first().map(String::as_str)
    }

    /// The scopes that it has with this parent: its own or its parent's, and its parents'. A leaf shows its parent's in
    /// both places.
    pub(crate) fn with_parent(self, parent: Parent<'_>) -> Self {
        let scope = match parent {
            Parent::Unchanged => return self,
            Parent::Nobody => None,
            Parent::Scope(scope) => Some(scope.to_owned()),
        };
        let device_scope = if self.edge { self.device_scope } else { scope.clone() };
        Self { device_scope, parent_scopes: scope.into_iter().collect(), ..self }
    }
}

/// The parent that a device is to have by what was given: that of a leaf stands in `deviceScope`, that of an edge device in
/// `parentScopes`, for its `deviceScope` is its own. What clients send back as they read it changes nothing.
pub(crate) fn parent_named<'a>(
    id: &DeviceId,
    stored: Option<&Device>,
    spec: &'a DeviceSpec,
) -> Result<Parent<'a>, HubError> {
    let of_list = match spec.parent_scopes.as_deref() {
        None => Parent::Unchanged,
        Some([]) => Parent::Nobody,
        Some([scope]) => Parent::Scope(scope),
        Some(scopes) => {
            return Err(wrong_scope(format!(
                "parentScopes has {} entries, at most one is taken",
                scopes.len()
            )));
        }
    };
    let is_edge = stored.map_or(spec.edge, |device| device.edge);
    if !is_edge {
        return Ok(match (spec.device_scope.as_deref(), of_list) {
            (Some(""), _) => Parent::Nobody,
            (Some(scope), _) => Parent::Scope(scope),
            // Many clients send an empty list whatever the device has.
            (None, Parent::Nobody) => Parent::Unchanged,
            (None, of_list) => of_list,
        });
    }
    let own = stored.and_then(|device| device.device_scope.as_deref());
    let is_own = |scope: &str| match own {
        Some(own) => scope == own,
        // An export that is read in again.
        None => device_of(scope).as_ref() == Some(id),
    };
    match spec.device_scope.as_deref().filter(|scope| !scope.is_empty()) {
        Some(scope) if !is_own(scope) => Err(wrong_scope(format!(
            "'{scope}' is not the deviceScope of the edge device '{id}', which is its own and does not change; its \
             parent goes into parentScopes"
        ))),
        _ => Ok(of_list),
    }
}

impl Hub {
    /// The children of an edge device, in the order of their ids: the first ones after `after`, at most `top` and at most
    /// [`LIST_MAX`].
    pub async fn children(
        &self,
        id: &DeviceId,
        after: Option<DeviceId>,
        top: usize,
    ) -> Result<Vec<DeviceView>, HubError> {
        let device = self.device(id).await?.device;
        let Some(scope) = device.device_scope.filter(|_| device.edge) else { return Ok(Vec::new()) };
        let stored = self.registry.children(scope, after, top.clamp(1, LIST_MAX)).await?;
        let device = |(_, stored): (Key, Versioned)| match stored.record {
            Record::Device(device) => Some(device),
            _ => None,
        };
        self.device_views(stored.into_iter().filter_map(device).collect()).await
    }

    /// Decides whether a device may have this parent: an edge device that exists, is not below it, and leaves room for all
    /// levels. What is not a change is not asked about, so that a device whose parent was deleted can still be changed.
    ///
    /// Two changes at the same moment may each be right and together make a circle or a level too many: whoever walks up
    /// from a device counts its steps.
    pub(crate) async fn check_parent(
        &self,
        id: &DeviceId,
        stored: Option<&Device>,
        spec: &DeviceSpec,
    ) -> Result<(), HubError> {
        let Parent::Scope(scope) = parent_named(id, stored, spec)? else { return Ok(()) };
        if stored.and_then(Device::parent_scope) == Some(scope) {
            return Ok(());
        }
        let unknown = || wrong_scope(format!("'{scope}' is no scope of an existing edge device"));
        let parent = self.edge_device(scope).await?.ok_or_else(unknown)?;
        if !stored.map_or(spec.edge, |device| device.edge) {
            return Ok(());
        }
        let mut levels = 1;
        let mut above = parent;
        loop {
            if above.id == *id {
                return Err(wrong_scope(format!("'{scope}' is '{id}' itself, or below it")));
            }
            let Some(next) = above.parent_scope() else { break };
            let Some(next) = self.edge_device(next).await? else { break };
            levels += 1;
            if levels > EDGE_LEVELS_MAX {
                return Err(too_deep(id));
            }
            above = next;
        }
        if let Some(own) = stored.and_then(|device| device.device_scope.clone())
            && self.is_deeper_than(own, EDGE_LEVELS_MAX - levels).await?
        {
            return Err(too_deep(id));
        }
        Ok(())
    }

    /// The edge device with this scope, if there is one.
    pub(crate) async fn edge_device(&self, scope: &str) -> Result<Option<Device>, StoreError> {
        let Some(id) = device_of(scope) else { return Ok(None) };
        Ok(match self.registry.load(Key::Device(id)).await?.map(|stored| stored.record) {
            Some(Record::Device(device)) => {
                Some(device).filter(|device| device.edge && device.device_scope.as_deref() == Some(scope))
            }
            _ => None,
        })
    }

    /// Whether there are more levels of edge devices than this below a scope.
    async fn is_deeper_than(&self, scope: String, levels: usize) -> Result<bool, StoreError> {
        let mut level = vec![scope];
        for _ in 0..=levels {
            let mut below = Vec::new();
            for scope in level {
                below.extend(self.edge_children(scope).await?);
            }
            if below.is_empty() {
                return Ok(false);
            }
            level = below;
        }
        Ok(true)
    }

    /// The scopes of the edge devices right below a scope.
    async fn edge_children(&self, scope: String) -> Result<Vec<String>, StoreError> {
        let (mut scopes, mut after) = (Vec::new(), None);
        loop {
            let page = self.registry.children(scope.clone(), after.take(), LIST_MAX).await?;
            let full = page.len() == LIST_MAX;
            for (_, stored) in page {
                let Record::Device(device) = stored.record else { continue };
                after = Some(device.id);
                scopes.extend(device.device_scope.filter(|_| device.edge));
            }
            if !full {
                return Ok(scopes);
            }
        }
    }
}

fn wrong_scope(text: String) -> HubError {
    HubError::new(HubErrorCode::InvalidDeviceScope, text)
}

fn too_deep(id: &DeviceId) -> HubError {
    wrong_scope(format!(
        "More than {EDGE_LEVELS_MAX} edge devices would be above '{id}' or a device below it, one above the other"
    ))
}
