//! Why a file is not taken.

use jiff::Timestamp;

use super::{BLOCKS_MAX, OPEN_MAX};
use crate::decision::cut;
use crate::error::{HubError, HubErrorCode};
use crate::ports::blobs::BlobError;
use crate::ports::registry::StoreError;
use crate::refusal::Refusal;

/// Why a step of an upload is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The name is no name of a file.
    #[error("{0}")]
    Name(String),
    /// As many uploads are open as may.
    #[error("{OPEN_MAX} uploads of the device are open")]
    Full,
    /// There is no such upload.
    #[error("there is no open upload of this correlation id")]
    Unknown(String),
    /// The upload ended before it was done.
    #[error("the upload ended at {ended}")]
    Ended {
        /// When.
        ended: Timestamp,
    },
    /// The link is none of the hub's, or not for this.
    #[error("{0}")]
    Link(String),
    /// The link's time is over, or its upload is done.
    #[error("the link ended at {ended}")]
    LinkEnded {
        /// When.
        ended: Timestamp,
    },
    /// Somebody reads with a link.
    #[error("the link is for writing alone, and this is {method}")]
    WritesOnly {
        /// How the request asked for the file.
        method: String,
    },
    /// A file or what is staged for it is larger than the settings allow.
    #[error("a file may have {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The list of blocks names one that was not written, or too many.
    #[error("{0}")]
    Blocks(String),
    /// The file is there, and the request allows no other.
    #[error("the file is there already")]
    Exists,
    /// Too much is written at the same time.
    #[error("too much is written at the same time")]
    Busy,
    /// The store of contents failed.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The registry failed, or the device is not there.
    #[error("{}", .0.message)]
    Hub(HubError),
}

impl UploadError {
    /// Too many blocks.
    pub(super) fn too_many_blocks() -> Self {
        Self::Blocks(format!("a file has at most {BLOCKS_MAX} blocks"))
    }

    /// The cause by which it is explained, where it is the client's doing.
    pub fn refusal(&self) -> Option<Refusal> {
        Some(match self {
            Self::Name(problem) => Refusal::UploadName { problem: problem.clone() },
            Self::Full => Refusal::UploadsFull { limit: OPEN_MAX },
            Self::Unknown(id) => Refusal::UploadUnknown { id: Some(cut(id)), ended: None },
            Self::Ended { ended } => Refusal::UploadUnknown { id: None, ended: Some(*ended) },
            Self::Blocks(problem) => Refusal::UploadNotWritten { problem: problem.clone() },
            Self::Link(problem) => Refusal::UploadLink { problem: problem.clone() },
            Self::LinkEnded { ended } => Refusal::UploadLinkEnded { ended: *ended },
            Self::WritesOnly { method } => Refusal::UploadLinkWritesOnly { method: method.clone() },
            Self::TooLarge { limit } => Refusal::UploadTooLarge { limit: *limit },
            Self::Exists | Self::Busy | Self::Blobs(_) | Self::Hub(_) => return None,
        })
    }
}

impl From<HubError> for UploadError {
    fn from(error: HubError) -> Self {
        Self::Hub(error)
    }
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Hub(error.into())
    }
}

impl From<UploadError> for HubError {
    fn from(error: UploadError) -> Self {
        let code = match &error {
            UploadError::Name(_) => HubErrorCode::ArgumentInvalid,
            UploadError::Full => HubErrorCode::DeviceMaximumActiveFileUploadLimitExceeded,
            UploadError::Unknown(_) => HubErrorCode::InvalidFileUploadCorrelationId,
            UploadError::Ended { .. } => HubErrorCode::ExpiredFileUploadCorrelationId,
            UploadError::Blocks(_) => HubErrorCode::InvalidStorageEndpointOrBlob,
            UploadError::Link(_) | UploadError::LinkEnded { .. } | UploadError::WritesOnly { .. } => {
                HubErrorCode::IotHubUnauthorizedAccess
            }
            UploadError::TooLarge { .. } => HubErrorCode::MessageTooLarge,
            UploadError::Exists => HubErrorCode::GenericConflict,
            UploadError::Busy => HubErrorCode::ServerBusy,
            UploadError::Blobs(_) => HubErrorCode::ServiceUnavailable,
            UploadError::Hub(inner) => return inner.clone(),
        };
        Self::new(code, error.to_string())
    }
}
