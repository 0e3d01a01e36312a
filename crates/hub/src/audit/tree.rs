//! Hashes of leaves and nodes, and the frontier: what appending needs to know of a tree.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// A hash of the tree: of a leaf, a node or a whole tree. Its text is base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hash(pub [u8; 32]);

/// A text or bytes that are no hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a hash is 32 bytes")]
pub struct NoHash;

impl Hash {
    /// The hash of a leaf with this entry (RFC 9162 §2.1.1).
    pub fn of_leaf(entry: &[u8]) -> Self {
        Self::of(&[&[0], entry])
    }

    /// The hash of a node (RFC 9162 §2.1.1).
    pub fn of_node(left: Self, right: Self) -> Self {
        Self::of(&[&[1], &left.0, &right.0])
    }

    /// The hash of the tree without leaves (RFC 9162 §2.1.1).
    pub fn of_nothing() -> Self {
        Self::of(&[])
    }

    /// The hash in its 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoHash> {
        bytes.try_into().map(Self).map_err(|_| NoHash)
    }

    /// Hashes that stand behind each other.
    pub fn all_from_bytes(bytes: &[u8]) -> Result<Vec<Self>, NoHash> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if rest.is_empty() { Ok(hashes.iter().copied().map(Self).collect()) } else { Err(NoHash) }
    }

    fn of(parts: &[&[u8]]) -> Self {
        let mut context = Context::new(&SHA256);
        parts.iter().for_each(|part| context.update(part));
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self(hash)
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for Hash {
    type Error = NoHash;
    fn try_from(text: String) -> Result<Self, NoHash> {
        Self::from_bytes(&STANDARD.decode(text).map_err(|_| NoHash)?)
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        hash.to_string()
    }
}

/// A complete subtree: the 2^`level` leaves from `number` × 2^`level` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// How many levels it stands above the leaves.
    pub level: u8,
    /// Which one of its level, from 0.
    pub number: u64,
    /// Its hash.
    pub hash: Hash,
}

/// The right edge of a tree: the roots of the complete subtrees that it consists of, the largest first. Appending a leaf
/// and computing the root take O(log n), and the whole is at most 64 hashes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The frontier of a tree of this size, out of its complete subtrees.
    pub fn from_nodes<E>(size: u64, mut node: impl FnMut(u8, u64) -> Result<Hash, E>) -> Result<Self, E> {
        let levels = (0..64).rev().filter(|level| size >> level & 1 == 1);
        let roots = levels.map(|level| node(level as u8, (size >> level) - 1)).collect::<Result<_, _>>()?;
        Ok(Self { size, roots })
    }

    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf; every subtree that it completes is told, the smallest first.
    pub fn push(&mut self, leaf: Hash, made: impl FnMut(Node)) {
        self.push_subtree(0, leaf, made);
    }

    /// Appends a complete subtree of 2^`level` leaves. The size must be a multiple of that.
    pub fn push_subtree(&mut self, mut level: u8, mut hash: Hash, mut made: impl FnMut(Node)) {
        debug_assert_eq!(self.size & ((1 << level) - 1), 0, "a subtree begins at a multiple of its size");
        let size = self.size + (1 << level);
        while self.size >> level & 1 == 1 {
            let Some(left) = self.roots.pop() else { break };
            hash = Hash::of_node(left, hash);
            level += 1;
            made(Node { level, number: (size >> level) - 1, hash });
        }
        self.roots.push(hash);
        self.size = size;
    }

    /// The root of the tree (RFC 9162 §2.1.1).
    pub fn root(&self) -> Hash {
        match self.roots.split_last() {
            None => Hash::of_nothing(),
            Some((last, left)) => self.folded(left, *last),
        }
    }

    /// The root of the tree that this one would be with a subtree of this root at its right end.
    pub fn root_with(&self, last: Hash) -> Hash {
        self.folded(&self.roots, last)
    }

    fn folded(&self, left: &[Hash], last: Hash) -> Hash {
        left.iter().rev().fold(last, |right, left| Hash::of_node(*left, right))
    }
}

/// The root of a whole block, or of the leaves of an incomplete one.
pub fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf, |_| {}));
    frontier.root()
}

#[cfg(test)]
#[path = "tree_tests.rs"]
pub(in crate::audit) mod tests;
