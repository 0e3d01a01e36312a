//! The link that a device writes its file with: the only credential that the upload endpoint knows. It opens one file, for
//! writing alone, and for a time.

use aws_lc_rs::constant_time;
use jiff::Timestamp;

use super::{BlobName, UploadError, UploadId};
use crate::identity::DeviceId;
use crate::ports::secrets::Secrets;

/// The first segment of the paths of files, which the protocol calls container.
pub const CONTAINER: &str = "uploads";

/// What a link allows: to create and to write. Azure's allows to read too; no SDK does.
const PERMISSIONS: &str = "cw";
/// The version of Azure's storage whose form the link has.
const VERSION: &str = "2021-08-06";
const PURPOSE: &str = "upload link";

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The device that writes.
    pub device: DeviceId,
    /// The file that it writes.
    pub name: BlobName,
    /// The upload.
    pub upload: UploadId,
    /// When the link ends; whole seconds.
    pub ends: Timestamp,
}

/// The parameters of a link as they came, decoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkText<'a> {
    /// `si`: the upload.
    pub upload: Option<&'a str>,
    /// `se`: the end.
    pub ends: Option<&'a str>,
    /// `sp`: what it allows.
    pub permissions: Option<&'a str>,
    /// `sig`: the signature.
    pub signature: Option<&'a str>,
}

impl Link {
    /// The query string that opens the file, with its question mark. The names of the parameters are those of Azure's
    /// storage: the storage libraries drop others.
    pub fn query(&self, secrets: &dyn Secrets) -> String {
        let ends = self.ends.strftime("%Y-%m-%dT%H%%3A%M%%3A%SZ");
        let signature = digits(&self.sign(secrets));
        format!("?sv={VERSION}&si={}&sr=b&se={ends}&sp={PERMISSIONS}&sig={signature}", self.upload.0)
    }

    /// Reads the link that a request brought for a file.
    pub fn read(
        device: DeviceId,
        name: BlobName,
        text: LinkText<'_>,
        secrets: &dyn Secrets,
    ) -> Result<Self, UploadError> {
        let (Some(upload), Some(ends), Some(signature)) = (text.upload, text.ends, text.signature) else {
            let text = "the link is not whole: `si`, `se` and `sig` belong to it".to_owned();
            return Err(UploadError::Link(text));
        };
        let forged = || {
            let text = "the signature does not fit: the link is for another file, or was changed".to_owned();
            UploadError::Link(text)
        };
        let ends = ends.parse().map_err(|_| forged())?;
        let link = Self { device, name, upload: UploadId(upload.to_owned()), ends };
        let expected = digits(&link.sign(secrets));
        let fits = constant_time::verify_slices_are_equal(expected.as_bytes(), signature.as_bytes()).is_ok();
        match fits && text.permissions == Some(PERMISSIONS) {
            true => Ok(link),
            false => Err(forged()),
        }
    }

    fn sign(&self, secrets: &dyn Secrets) -> [u8; 32] {
        let Self { device, name, upload, ends } = self;
        // No part but the last may hold a line feed.
        let text = format!("{PERMISSIONS}\n{}\n{}\n{device}\n{name}", upload.0, ends.as_second());
        secrets.sign(PURPOSE, text.as_bytes())
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
