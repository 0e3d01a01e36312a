//! The twin of a device or module: a document of three parts. `tags` are the service's alone; `desired` is written by
//! the service and read by the device, `reported` the other way round (`docs/protocol/service-rest.md` §4,
//! `docs/protocol/device-mqtt.md` §8).
//!
//! [`Twin::edited`] and [`Twin::reported`] decide what a change makes of a twin, as pure functions; `service` loads,
//! stores and announces.

mod content;
mod edit;
mod section;
mod service;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

pub use self::content::{
    DEPTH_MAX, INTEGER_RANGE, KEY_BYTES_MAX, Part, STRING_BYTES_MAX, TwinError, WrongContent,
};
pub use self::edit::{Edit, Edited, How, TwinEdit};
pub use self::section::{Section, time_text};
pub use self::service::{DesiredChange, TwinView, check_model_id};

/// The members of a JSON object, in the order in which they came.
pub type Members = Map<String, Value>;

/// The twin of an identity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin {
    /// The generation of the identity that it belongs to.
    pub generation: String,
    /// Counts the changes by services, from 1 on; shown as [`Twin::etag`].
    pub etag: u64,
    /// Counts all changes; a new twin has 2, the sum of the versions of its sections.
    pub version: u64,
    /// The Plug and Play model that the device announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_id: Option<String>,
    /// What the service notes about the device, and the device does not see.
    #[serde(default)]
    pub tags: Members,
    /// What the service wants of the device.
    pub desired: Section,
    /// What the device says of itself.
    pub reported: Section,
}

impl Twin {
    /// The twin of a new identity.
    pub fn new(generation: &str, now: Timestamp) -> Self {
        Self {
            generation: generation.to_owned(),
            etag: 1,
            version: 2,
            model_id: None,
            tags: Members::new(),
            desired: Section::new(now),
            reported: Section::new(now),
        }
    }

    /// The etag, opaque and without quotes: base64 of eight bytes, the highest first, as Azure's looks.
    pub fn etag(&self) -> String {
        STANDARD.encode(self.etag.to_be_bytes())
    }

    /// What the device itself is shown: both sections with their `$version`, without metadata
    /// (`docs/protocol/device-mqtt.md` §8).
    pub fn for_device(&self) -> Value {
        json!({ "desired": self.desired.with_version(), "reported": self.reported.with_version() })
    }
}

#[cfg(test)]
mod tests;
