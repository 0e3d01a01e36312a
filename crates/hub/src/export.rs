//! The whole state of a hub as JSON without its secrets: what an operator keeps beside a backup, or compares before and
//! after a change. A key stands in it by its fingerprint.

use serde_json::{Map, Value, json};

use crate::error::HubError;
use crate::hub::Hub;
use crate::identity::Identity;
use crate::ports::registry::StoreError;
use crate::record::{Key, Kind, Record};

/// What an operator sets, in the order of the export. What the hub notes by itself is not state.
const KINDS: [(Kind, &str); 8] = [
    (Kind::Device, "devices"),
    (Kind::Module, "modules"),
    (Kind::Twin, "twins"),
    (Kind::Policy, "policies"),
    (Kind::Authority, "certificates"),
    (Kind::ConsumerGroup, "consumerGroups"),
    (Kind::Settings, "settings"),
    (Kind::UploadAccount, "uploadAccount"),
];

/// Records that are read at once.
const PAGE: usize = 1_000;

impl Hub {
    /// The state of the hub.
    pub async fn export(&self) -> Result<Value, HubError> {
        let mut export = Map::new();
        for (kind, name) in KINDS {
            export.insert(name.to_owned(), Value::Array(self.export_kind(kind).await?));
        }
        Ok(Value::Object(export))
    }

    async fn export_kind(&self, kind: Kind) -> Result<Vec<Value>, StoreError> {
        let mut exported = Vec::new();
        let mut after = None;
        loop {
            let page = self.registry.list(kind, after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            exported.extend(page.into_iter().map(|(key, stored)| exported_record(&key, &stored.record)));
            if !full {
                return Ok(exported);
            }
        }
    }
}

fn exported_record(key: &Key, record: &Record) -> Value {
    if let (Key::Twin(identity), Record::Twin(twin)) = (key, record) {
        // What the device reports is no state of an operator's making.
        let Identity { device, module } = identity;
        let desired = &twin.desired.properties;
        return json!({ "device": device, "module": module, "tags": twin.tags, "desired": desired });
    }
    let mut value = serde_json::to_value(record).unwrap_or_else(|_| json!({}));
    strip(&mut value);
    value
}

/// Takes ciphertext out, wherever it is: it is useless elsewhere, and no business of who reads an export.
fn strip(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.remove("sealed");
            members.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
