//! The audit log as a Merkle tree (RFC 9162 §2.1): record N is leaf N - 1, and its entry is the stored text of the
//! record, byte for byte. Pure rules; the adapters of [`crate::ports::audit`] keep what these compute.
//!
//! What is kept of the tree follows the tiles of C2SP `tlog-tiles`: records come in *blocks* of [`BLOCK_RECORDS`], a
//! complete block is one node of level [`BLOCK_LEVEL`], and every 256 nodes of such a level make one of the next.
//! Retention drops bodies by whole blocks. A block of which no body is left keeps its node alone, 32 bytes; one of
//! which a body is left keeps its 256 leaf hashes, 8 KiB.

pub mod checkpoint;
pub mod evidence;
pub mod file;
pub mod note;
pub mod proof;
pub mod retention;
mod runs;
pub mod tree;
pub mod verify;

pub use tree::Hash;

/// Records of a block.
pub const BLOCK_RECORDS: u64 = 256;

/// The level of a complete block's node; nodes are kept of this level and its multiples.
pub const BLOCK_LEVEL: u8 = 8;

/// The block that a record stands in.
pub fn block_of(number: u64) -> u64 {
    number.saturating_sub(1) / BLOCK_RECORDS
}

/// The numbers of a block's records, in a log of this size.
pub fn numbers_of(block: u64, size: u64) -> std::ops::RangeInclusive<u64> {
    let before = block.saturating_mul(BLOCK_RECORDS);
    before + 1..=before.saturating_add(BLOCK_RECORDS).min(size)
}

/// How many blocks a log of this size has, the open one included.
pub fn blocks_in(size: u64) -> u64 {
    size.div_ceil(BLOCK_RECORDS)
}
