//! Inclusion and consistency proofs (RFC 9162 §2.1.3 and §2.1.4): making them from what is kept of a tree, and checking
//! them with the roots alone.

use super::BLOCK_RECORDS;
use super::tree::Hash;

/// What is kept of a tree.
pub trait Nodes {
    /// Why a hash cannot be had.
    type Error;

    /// The root of the complete subtree of 2^`level` leaves from `number` × 2^`level` on.
    fn node(&self, level: u8, number: u64) -> Result<Hash, Self::Error>;

    /// The full path from this size to the end of the block that it lies in, when it was kept because the leaf hashes of the
    /// block were not.
    fn kept_path(&self, size: u64) -> Result<Option<Vec<Hash>>, Self::Error>;
}

/// The path of a leaf in the tree of the first `size` leaves, from the leaf upwards; `index` must be below `size`.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut first, mut end) = (0, size);
    let mut path = Vec::new();
    while end - first > 1 {
        let middle = first + split(end - first);
        if index < middle {
            path.push(root(nodes, middle, end)?);
            end = middle;
        } else {
            path.push(root(nodes, first, middle)?);
            first = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of the first `new` leaves begins with that of the first `old`. Nothing needs proof when they are
/// the same or the old one is empty; `old` must not be above `new`.
pub fn consistency<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let mut path = full_path(nodes, old, 0, new)?;
    if old.is_power_of_two() {
        // The first hash is the old root, which the checker has.
        path.remove(0);
    }
    Ok(path)
}

/// The path that proves, within the leaves from `first` to `end`, that those up to `old` come first. Unlike the RFC's it
/// always begins with the hash of the last complete subtree of the old tree.
pub fn full_path<N: Nodes>(nodes: &N, old: u64, first: u64, end: u64) -> Result<Vec<Hash>, N::Error> {
    let (mut first, mut end) = (first, end);
    let mut above = Vec::new();
    let mut path = loop {
        if old == end {
            break vec![root(nodes, first, end)?];
        }
        if end - first == BLOCK_RECORDS
            && let Some(kept) = nodes.kept_path(old)?
        {
            break kept;
        }
        let middle = first + split(end - first);
        if old <= middle {
            above.push(root(nodes, middle, end)?);
            end = middle;
        } else {
            above.push(root(nodes, first, middle)?);
            first = middle;
        }
    };
    path.extend(above.into_iter().rev());
    Ok(path)
}

/// The root of the leaves from `first` to `end`, which the splits of the RFC led to: `first` is a multiple of the largest
/// subtree in between.
fn root<N: Nodes>(nodes: &N, first: u64, end: u64) -> Result<Hash, N::Error> {
    let count = end - first;
    if count.is_power_of_two() {
        let level = count.trailing_zeros() as u8;
        return nodes.node(level, first >> level);
    }
    let middle = first + split(count);
    Ok(Hash::of_node(root(nodes, first, middle)?, root(nodes, middle, end)?))
}

/// The largest power of two below a count of at least two.
fn split(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

/// The root of a tree that holds this leaf at this index, by its path (RFC 9162 §2.1.3.2); `None` when the path is not one
/// of such a tree.
pub fn root_by_inclusion(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for step in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = Hash::of_node(*step, hash);
            if node & 1 == 0 {
                let levels = node.trailing_zeros().min(63);
                (node, last) = (node >> levels, last >> levels);
            }
        } else {
            hash = Hash::of_node(hash, *step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some(hash)
}

/// Whether a proof shows that the tree of the new root begins with that of the old one (RFC 9162 §2.1.4.2).
pub fn is_consistent(old: u64, old_root: Hash, new: u64, new_root: Hash, proof: &[Hash]) -> bool {
    if old == new {
        return proof.is_empty() && old_root == new_root;
    }
    if old == 0 {
        return proof.is_empty() && old_root == Hash::of_nothing();
    }
    let roots = if old.is_power_of_two() {
        roots_by_full_path(old, new, &[&[old_root], proof].concat())
    } else {
        roots_by_full_path(old, new, proof)
    };
    roots == Some((old_root, new_root))
}

/// The roots of the tree of the first `old` leaves and of that of the first `new`, by a [`full_path`]; `None` when it is not
/// the path of such trees.
pub fn roots_by_full_path(old: u64, new: u64, path: &[Hash]) -> Option<(Hash, Hash)> {
    if old == 0 || old >= new {
        return None;
    }
    let (first, rest) = path.split_first()?;
    let levels = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> levels, (new - 1) >> levels);
    let (mut old_root, mut new_root) = (*first, *first);
    for step in rest {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            old_root = Hash::of_node(*step, old_root);
            new_root = Hash::of_node(*step, new_root);
            if node & 1 == 0 {
                let levels = node.trailing_zeros().min(63);
                (node, last) = (node >> levels, last >> levels);
            }
        } else {
            new_root = Hash::of_node(new_root, *step);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    (last == 0).then_some((old_root, new_root))
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
