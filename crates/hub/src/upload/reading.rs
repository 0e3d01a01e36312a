//! Files, for those who read them.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Blob, BlobName};
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::DeviceId;
use crate::ports::blobs::{BlobError, Blobs};
use crate::ports::registry::Versioned;
use crate::record::{Key, Kind, Record};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// A file in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileView {
    /// Whose it is.
    pub device: DeviceId,
    /// Its name.
    pub name: BlobName,
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
}

impl Hub {
    /// The files of a device, or of all devices after one of them; at most so many, in the order of their names.
    pub async fn files(
        &self,
        of: Option<&DeviceId>,
        after: Option<(DeviceId, BlobName)>,
        limit: usize,
    ) -> Result<Vec<FileView>, HubError> {
        let view = |(key, stored): (Key, Versioned)| match (key, stored.record) {
            (Key::Blob(device, name), Record::Blob(blob)) => {
                Some(FileView { device, name, bytes: blob.bytes(), modified: blob.modified })
            }
            _ => None,
        };
        let stored = match of {
            Some(device) => self.registry.list_of(Kind::Blob, device.clone()).await?,
            None => {
                let after = after.clone().map(|(device, name)| Key::Blob(device, name));
                self.registry.list(Kind::Blob, after, limit).await?
            }
        };
        let is_after = |file: &FileView| {
            after.as_ref().is_none_or(|(device, name)| (&file.device, &file.name) > (device, name))
        };
        Ok(stored.into_iter().filter_map(view).filter(is_after).take(limit).collect())
    }

    /// A file, to be read part by part.
    pub async fn file(&self, device: &DeviceId, name: &str) -> Result<(Blob, PartReader), HubError> {
        let unknown = || unknown(device, name);
        let name = BlobName::parse(name).map_err(|_| unknown())?;
        let stored = self.registry.load(Key::Blob(device.clone(), name)).await?;
        let blob = super::service::blob_of(stored.as_ref()).ok_or_else(unknown)?;
        let reader = PartReader { blobs: self.blobs.clone(), blob: blob.clone(), part: 0, offset: 0 };
        Ok((blob, reader))
    }
}

pub(super) fn unknown(device: &DeviceId, name: &str) -> HubError {
    HubError::new(
        HubErrorCode::GenericNotFound,
        format!("There is no file '{name}' of the device '{device}'"),
    )
}

/// Reads a file from its beginning to its end.
pub struct PartReader {
    blobs: Arc<dyn Blobs>,
    blob: Blob,
    part: usize,
    offset: u64,
}

impl PartReader {
    /// The next bytes, and the reader that goes on; nothing at the end.
    pub async fn next(mut self) -> Result<Option<(Bytes, Self)>, BlobError> {
        while let Some(part) = self.blob.parts.get(self.part) {
            if self.offset < part.bytes {
                let bytes = self.blobs.read(&self.blob.stage(), &part.name, self.offset, CHUNK_BYTES).await?;
                // A part is never shorter than it was when its file was made.
                if bytes.is_empty() {
                    return Err(BlobError::Gone);
                }
                self.offset += bytes.len() as u64;
                return Ok(Some((bytes, self)));
            }
            self.part += 1;
            self.offset = 0;
        }
        Ok(None)
    }
}
