//! Files that devices upload (`docs/protocol/file-upload.md`): a device asks for a link, writes one file with it, and
//! says that it is done; services may be told.
//!
//! A file is a record that names the parts its content is made of ([`crate::ports::blobs`]). It appears, and takes the
//! place of an older one, in one commit. What is written beside it until then is nobody's but the upload's, and a
//! [`Duty`] sees to it that it goes.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::DeviceId;
pub use crate::limits::UPLOADS_OPEN_MAX as OPEN_MAX;
use crate::ports::blobs::{Part, PartName, Stage};

mod account;
mod error;
mod link;
mod name;
mod reading;
mod service;
mod staging;
mod sweep;
#[cfg(test)]
mod tests;

pub use self::account::{Account, AccountText, Elsewhere};
pub use self::error::UploadError;
pub use self::link::{CONTAINER, Link, LinkText};
pub use self::name::{BlobName, NAME_CHARS_MAX};
pub use self::reading::{FileView, PartReader};
pub use self::service::{Finished, Started, Writable, Written};
pub use self::staging::{Staging, WRITERS_MAX, Writing};

/// How long a link lives unless the operator set another time.
pub const LINK_LIFETIME: Duration = Duration::from_secs(3_600);
/// Blocks that a file may have.
pub const BLOCKS_MAX: usize = 50_000;
/// Bytes of a block's id as it stands in the query, base64 included.
pub const BLOCK_ID_BYTES_MAX: usize = 96;
/// Ended uploads of a device that are remembered, to tell a late client that it is late.
const ENDED_MAX: usize = 10;

/// The uploads of one device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Uploads {
    /// The generation of the device that they belong to.
    pub generation: String,
    /// Those that are open, and the last ones that ended unfinished, in the order they were begun.
    pub open: Vec<Upload>,
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Upload {
    /// Its correlation id.
    pub id: UploadId,
    /// The file that it writes.
    pub name: BlobName,
    /// When its link ends.
    pub ends: Timestamp,
    /// How often the file was written through it: each time has a stage of its own, so that what is seen never changes.
    #[serde(default)]
    pub round: u32,
    /// Where it goes, if not to the hub itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
}

/// Names an upload: the correlation id of the protocol. Lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UploadId(pub String);

impl UploadId {
    /// Where the parts lie that were written in a round.
    pub fn stage(&self, round: u32) -> Stage {
        Stage { upload: self.0.clone(), round }
    }
}

impl Upload {
    /// Where parts are written now.
    pub fn stage(&self) -> Stage {
        self.id.stage(self.round)
    }
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Blob {
    /// The upload that wrote it.
    pub upload: UploadId,
    /// In which of its rounds.
    pub round: u32,
    /// What it is made of, in order.
    pub parts: Vec<Part>,
    /// When it was written.
    pub modified: Timestamp,
}

impl Blob {
    /// Its length.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Changes with its content; opaque, without quotes.
    pub fn etag(&self) -> String {
        format!("0x{}{:X}", self.upload.0.to_ascii_uppercase(), self.round)
    }

    /// Where its parts lie.
    pub fn stage(&self) -> Stage {
        self.upload.stage(self.round)
    }
}

/// That something is to be removed: what an upload wrote and no file is made of. It is made together with the upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Duty {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Whose upload it was.
    pub device: DeviceId,
    /// The upload.
    pub upload: UploadId,
}

/// What a [`Duty`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DutyFacts {
    /// The file that the upload wrote.
    pub name: BlobName,
}

/// The part that holds a block.
pub fn block_part(id: &str) -> PartName {
    use base64::Engine as _;
    PartName(format!("b{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(id)))
}
