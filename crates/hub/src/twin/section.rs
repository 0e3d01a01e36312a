//! The desired or reported properties with their metadata and version.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Members, Part};

/// The desired or the reported properties of a twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Section {
    /// The properties; no `null` is among them, but in arrays that earlier builds took.
    pub properties: Members,
    /// A tree like that of the properties, arrays being leaves: when each was written last and, for desired properties, in
    /// which version. It rests as the service API shows it.
    pub metadata: Members,
    /// Rises by one with every accepted change, even one that changes no value; 1 at first.
    pub version: u64,
}

impl Section {
    /// An empty section.
    pub(super) fn new(now: Timestamp) -> Self {
        let stamp = Stamp { time: time_text(now), version: None };
        Self { properties: Members::new(), metadata: stamp.node(), version: 1 }
    }

    /// The properties with `$version`, as devices get them.
    pub(super) fn with_version(&self) -> Members {
        let mut members = self.properties.clone();
        members.insert("$version".to_owned(), json!(self.version));
        members
    }

    /// The properties with `$metadata` and `$version`, as services get them.
    pub fn to_json(&self) -> Value {
        let mut members = self.properties.clone();
        members.insert("$metadata".to_owned(), Value::Object(self.metadata.clone()));
        members.insert("$version".to_owned(), json!(self.version));
        Value::Object(members)
    }

    /// What a patch changed of it: the patch, with `$metadata` of what it wrote and `$version`.
    pub(crate) fn changed_json(&self, patch: &Members) -> Value {
        let mut members = patch.clone();
        members.shift_remove("$metadata");
        members.insert("$metadata".to_owned(), Value::Object(touched(&self.metadata, patch)));
        members.insert("$version".to_owned(), json!(self.version));
        Value::Object(members)
    }

    /// The section after a patch, whose content is checked already.
    pub(super) fn patched(&self, part: Part, patch: &Members, now: Timestamp) -> Self {
        let mut section = self.clone();
        section.version += 1;
        let stamp = Stamp::of(part, section.version, now);
        stamp.mark(&mut section.metadata);
        merge(&mut section.properties, Some((&mut section.metadata, &stamp)), patch);
        section
    }

    /// The section with other properties in place of all that it has.
    pub(super) fn replaced(&self, part: Part, properties: &Members, now: Timestamp) -> Self {
        let empty = Self { properties: Members::new(), metadata: Members::new(), version: self.version };
        empty.patched(part, properties, now)
    }
}

/// Applies a merge patch (RFC 7386): `null` removes, objects are merged, anything else replaces. Metadata follows: what the
/// patch names is stamped, and so are the objects around it; their other members keep their stamps.
pub(super) fn merge(properties: &mut Members, mut metadata: Option<(&mut Members, &Stamp)>, patch: &Members) {
    for (key, value) in patch {
        match value {
            Value::Null => {
                properties.shift_remove(key);
                if let Some((metadata, _)) = &mut metadata {
                    metadata.shift_remove(key);
                }
            }
            Value::Object(inner) => {
                let slot = properties.entry(key.as_str()).or_insert(Value::Null);
                let was_object = slot.is_object();
                if !was_object {
                    *slot = Value::Object(Members::new());
                }
                let Value::Object(members) = slot else { continue };
                match &mut metadata {
                    None => merge(members, None, inner),
                    Some((metadata, stamp)) => {
                        let node = metadata.entry(key.as_str()).or_insert(Value::Null);
                        if !was_object || !node.is_object() {
                            *node = Value::Object(Members::new());
                        }
                        let Value::Object(node) = node else { continue };
                        stamp.mark(node);
                        merge(members, Some((node, stamp)), inner);
                    }
                }
            }
            value => {
                properties.insert(key.clone(), value.clone());
                if let Some((metadata, stamp)) = &mut metadata {
                    metadata.insert(key.clone(), Value::Object(stamp.node()));
                }
            }
        }
    }
}

/// The metadata of what a patch wrote, and of the objects around it.
fn touched(metadata: &Members, patch: &Members) -> Members {
    let mut nodes: Members = metadata
        .iter()
        .filter(|(key, _)| key.starts_with('$'))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    for (key, value) in patch {
        let node = match (value, metadata.get(key)) {
            (Value::Object(inner), Some(Value::Object(node))) => Value::Object(touched(node, inner)),
            (_, Some(node)) => node.clone(),
            // What was removed has none.
            (_, None) => continue,
        };
        nodes.insert(key.clone(), node);
    }
    nodes
}

/// What metadata says of everything that one change touches.
pub(super) struct Stamp {
    time: String,
    version: Option<u64>,
}

impl Stamp {
    /// Only desired properties are stamped with their version too.
    fn of(part: Part, version: u64, now: Timestamp) -> Self {
        Self { time: time_text(now), version: (part == Part::Desired).then_some(version) }
    }

    fn node(&self) -> Members {
        let mut node = Members::new();
        self.mark(&mut node);
        node
    }

    fn mark(&self, node: &mut Members) {
        node.insert("$lastUpdated".to_owned(), Value::String(self.time.clone()));
        if let Some(version) = self.version {
            node.insert("$lastUpdatedVersion".to_owned(), json!(version));
        }
    }
}

/// A time as Azure writes it: UTC with seven digits after the point (`docs/protocol/service-rest.md` §1.2).
pub fn time_text(time: Timestamp) -> String {
    let whole = time.strftime("%Y-%m-%dT%H:%M:%S");
    format!("{whole}.{:07}Z", time.subsec_nanosecond().unsigned_abs() / 100)
}
