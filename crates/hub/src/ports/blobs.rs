//! The port that keeps the contents of files that devices upload.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::BoxFuture;

/// Stages, each a bag of parts. A part is there as a whole or not at all, and once written it stays as it is until it is
/// written anew or removed. Which parts make up a file is a record of the registry: what stands in no record is no file.
pub trait Blobs: Send + Sync {
    /// Begins to write a part, in place of what is there by this name.
    fn begin(&self, stage: &Stage, part: &PartName) -> BoxFuture<'_, Result<Box<dyn PartWriter>, BlobError>>;

    /// The parts of a stage, in no order; none when there is no such stage.
    fn parts(&self, stage: &Stage) -> BoxFuture<'_, Result<Vec<Part>, BlobError>>;

    /// Reads at most so many bytes of a part from an offset on; fewer only at its end.
    fn read(
        &self,
        stage: &Stage,
        part: &PartName,
        from: u64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>>;

    /// The rounds of an upload that have a stage with anything in it.
    fn rounds(&self, upload: &str) -> BoxFuture<'_, Result<Vec<u32>, BlobError>>;

    /// Removes all parts of a stage but these.
    fn retain(&self, stage: &Stage, parts: &[Part]) -> BoxFuture<'_, Result<(), BlobError>>;
}

/// Writes one part. When it is dropped before [`PartWriter::finish`] was done, nothing of the part is ever seen.
pub trait PartWriter: Send {
    /// Appends bytes.
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), BlobError>>;

    /// Makes the part durable, and then visible.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), BlobError>>;
}

/// Where the parts lie that one version of a file is made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Stage {
    /// The upload: lower-case letters and digits.
    pub upload: String,
    /// Which time it writes its file.
    pub round: u32,
}

/// The name of a part within its stage: at most 130 letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartName(pub String);

/// A part that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: PartName,
    /// Its length.
    pub bytes: u64,
}

/// Why contents could not be kept or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// So little space is left that it is kept for the hub itself.
    #[error("no space is left for files")]
    NoSpace,
    /// The part is not there.
    #[error("the part is not there")]
    Gone,
    /// The store failed.
    #[error("the store of files failed: {0}")]
    Failed(String),
}
