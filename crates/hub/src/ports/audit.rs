//! The port of the audit log as a tree: what [`super::registry::Registry`] writes with each decision, and hands out here.

use super::BoxFuture;
use super::registry::StoreError;
use crate::audit::Hash;
use crate::audit::evidence::{Block, Head, Inclusion, Kept};

/// The log of decisions as a Merkle tree. Every decision is a leaf from the transaction on that writes it.
pub trait AuditLog: Send + Sync {
    /// What the log is now.
    fn head(&self) -> BoxFuture<'_, Result<Head, StoreError>>;

    /// What is kept of the blocks from this one on, at most so many, in order.
    fn blocks(&self, first: u64, count: usize) -> BoxFuture<'_, Result<Vec<Block>, StoreError>>;

    /// The kept checkpoints above this size, at most so many, by rising size.
    fn checkpoints(&self, above: u64, limit: usize) -> BoxFuture<'_, Result<Vec<Kept>, StoreError>>;

    /// Keeps a checkpoint; one of the same size is replaced, and stays exported if it was. Beyond
    /// [`crate::audit::checkpoint::KEPT_MAX`] those that were never exported are thinned out.
    fn keep_checkpoint(&self, checkpoint: Kept) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The proof that a record is in the tree of this size; `None` when it is not, or its body is gone.
    fn inclusion(&self, number: u64, size: u64) -> BoxFuture<'_, Result<Option<Inclusion>, StoreError>>;

    /// The proof that the tree of the size `new` begins with that of the size `old`; `None` when the hashes for it are gone,
    /// or the log was never of these sizes.
    fn consistency(&self, old: u64, new: u64) -> BoxFuture<'_, Result<Option<Vec<Hash>>, StoreError>>;
}
