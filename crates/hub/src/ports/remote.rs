//! The port that asks an external storage what a device wrote there.

use jiff::Timestamp;

use super::BoxFuture;

/// Asks storages of others. Nothing but questions about one file goes out by it.
pub trait RemoteFiles: Send + Sync {
    /// What is known of the file at an address, whose query opens it for reading; `None` when it is not there. `authority` is
    /// the certificate authority to trust besides those of the system, PEM. The text says why nothing could be learnt; it
    /// holds no part of the query.
    fn facts(
        &self,
        url: String,
        authority: Option<String>,
    ) -> BoxFuture<'_, Result<Option<RemoteFacts>, String>>;
}

/// What a storage says of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemoteFacts {
    /// Its length.
    pub bytes: u64,
    /// When it was written.
    pub modified: Timestamp,
}
