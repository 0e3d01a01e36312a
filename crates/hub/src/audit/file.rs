//! The files that a proof is handed on in. Each holds all that a checker needs but the verifier key of the log, which must
//! come to it on another way.

use serde::{Deserialize, Serialize};

use super::tree::Hash;

/// The `format` of an [`InclusionFile`].
pub const INCLUSION_FORMAT: &str = "holdfast-audit-inclusion/1";
/// The `format` of a [`ConsistencyFile`].
pub const CONSISTENCY_FORMAT: &str = "holdfast-audit-consistency/1";

/// That a record is in the log of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InclusionFile {
    /// [`INCLUSION_FORMAT`].
    pub format: String,
    /// The record's leaf, from 0: its number less one.
    pub index: u64,
    /// The size of the checkpoint.
    pub size: u64,
    /// The exact text of the record.
    pub entry: String,
    /// The hashes from the leaf upwards, in base64.
    pub path: Vec<Hash>,
    /// The signed note.
    pub checkpoint: String,
}

/// That the log of a checkpoint begins with that of an older one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsistencyFile {
    /// [`CONSISTENCY_FORMAT`].
    pub format: String,
    /// The signed note of the older checkpoint.
    pub old: String,
    /// The signed note of the newer one.
    pub new: String,
    /// The hashes of RFC 9162 §2.1.4, in base64.
    pub path: Vec<Hash>,
}
