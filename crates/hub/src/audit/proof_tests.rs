//! Proofs against the definition, and against the vectors of the first implementations of RFC 6962.

#![allow(clippy::unwrap_used)]

use super::super::BLOCK_LEVEL;
use super::super::tree::tests::{ENTRIES, defined, hex, leaves};
use super::*;

/// A tree of which everything is kept, but for the leaf hashes of some blocks, in whose place paths are kept.
struct Kept {
    leaves: Vec<Hash>,
    /// Blocks without leaf hashes.
    dropped: Vec<u64>,
    /// Sizes with a path.
    sizes: Vec<u64>,
}

#[derive(Debug, PartialEq)]
struct Dropped;

impl Nodes for Kept {
    type Error = Dropped;

    fn node(&self, level: u8, number: u64) -> Result<Hash, Dropped> {
        let (first, count) = ((number << level) as usize, 1_usize << level);
        if level < BLOCK_LEVEL && self.dropped.contains(&(first as u64 / BLOCK_RECORDS)) {
            return Err(Dropped);
        }
        Ok(defined(&self.leaves[first..first + count]))
    }

    fn kept_path(&self, size: u64) -> Result<Option<Vec<Hash>>, Dropped> {
        if !self.sizes.contains(&size) {
            return Ok(None);
        }
        let whole = Kept { leaves: self.leaves.clone(), dropped: vec![], sizes: vec![] };
        let block = size / BLOCK_RECORDS;
        full_path(&whole, size, block * BLOCK_RECORDS, (block + 1) * BLOCK_RECORDS).map(Some)
    }
}

fn kept(leaves: Vec<Hash>) -> Kept {
    Kept { leaves, dropped: vec![], sizes: vec![] }
}

/// PATH of RFC 9162 §2.1.3.1, as it is written there.
fn defined_path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() == 1 {
        return vec![];
    }
    let k = split(leaves.len() as u64) as usize;
    let (mut path, other) = match m < k {
        true => (defined_path(m, &leaves[..k]), &leaves[k..]),
        false => (defined_path(m - k, &leaves[k..]), &leaves[..k]),
    };
    path.push(defined(other));
    path
}

/// SUBPROOF of RFC 9162 §2.1.4.1, as it is written there.
fn defined_subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if m == leaves.len() {
        return if whole { vec![] } else { vec![defined(leaves)] };
    }
    let k = split(leaves.len() as u64) as usize;
    let (mut proof, other) = match m <= k {
        true => (defined_subproof(m, &leaves[..k], whole), &leaves[k..]),
        false => (defined_subproof(m - k, &leaves[k..], false), &leaves[..k]),
    };
    proof.push(defined(other));
    proof
}

#[test]
fn every_leaf_of_every_size_is_proved_as_the_standard_defines_and_at_no_other_place() {
    let all = kept(leaves(300));
    for size in (1..=130).chain([255, 256, 257, 300]) {
        let root = defined(&all.leaves[..size]);
        for index in 0..size {
            let path = inclusion(&all, index as u64, size as u64).unwrap();
            assert_eq!(path, defined_path(index, &all.leaves[..size]), "{index} of {size}");
            let by = |leaf: usize, index: u64, size: u64, path: &[Hash]| {
                root_by_inclusion(all.leaves[leaf], index, size, path)
            };
            let (i, s) = (index as u64, size as u64);
            assert_eq!(by(index, i, s, &path), Some(root));
            assert_ne!(by((index + 1) % 300, i, s, &path), Some(root), "another leaf");
            assert_ne!(by(index, i ^ 1, s, &path), Some(root), "another place");
            assert_ne!(by(index, i, s, &[&path[..], &[root]].concat()), Some(root), "a longer path");
            if let Some((_, shorter)) = path.split_last() {
                assert_ne!(by(index, i, s, shorter), Some(root), "a shorter path");
            }
            for at in 0..path.len() {
                let mut bent = path.clone();
                bent[at].0[7] ^= 1;
                assert_ne!(by(index, i, s, &bent), Some(root), "a bent path");
            }
        }
        assert_eq!(root_by_inclusion(all.leaves[0], size as u64, size as u64, &[]), None);
    }
}

#[test]
fn every_pair_of_sizes_is_proved_consistent_as_the_standard_defines_and_nothing_else_is() {
    let all = kept(leaves(300));
    for new in (1..=80).chain([255, 256, 257, 300]) {
        let new_root = defined(&all.leaves[..new]);
        for old in 1..=new {
            let old_root = defined(&all.leaves[..old]);
            let proof = consistency(&all, old as u64, new as u64).unwrap();
            assert_eq!(proof, defined_subproof(old, &all.leaves[..new], true), "{old} to {new}");
            let holds = |old_root, new_root, proof: &[Hash]| {
                is_consistent(old as u64, old_root, new as u64, new_root, proof)
            };
            assert!(holds(old_root, new_root, &proof), "{old} to {new}");
            let other = Hash::of_leaf(b"other");
            assert!(!holds(other, new_root, &proof) && !holds(old_root, other, &proof));
            assert!(!holds(old_root, new_root, &[&proof[..], &[other]].concat()));
            for at in 0..proof.len() {
                let mut bent = proof.clone();
                bent[at].0[31] ^= 0x80;
                assert!(!holds(old_root, new_root, &bent), "{old} to {new}, {at}");
                bent.remove(at);
                assert!(!holds(old_root, new_root, &bent), "{old} to {new}, without {at}");
            }
        }
        assert!(is_consistent(0, Hash::of_nothing(), new as u64, new_root, &[]));
        assert!(!is_consistent(0, new_root, new as u64, new_root, &[]));
        assert!(!is_consistent(new as u64 + 1, new_root, new as u64, new_root, &[]));
    }
}

#[test]
fn a_size_inside_a_dropped_block_is_proved_by_the_path_that_was_kept_for_it() {
    for size in [1, 2, 100, 128, 255, 256 + 1, 256 + 77, 256 + 128, 256 + 255] {
        let mut tree = kept(leaves(700));
        let (old, new) = (defined(&tree.leaves[..size as usize]), defined(&tree.leaves));
        tree.dropped = vec![0, 1];
        tree.sizes = vec![size];
        let proof = consistency(&tree, size, 700).unwrap();
        assert!(is_consistent(size, old, 700, new, &proof), "{size}");
        tree.sizes.clear();
        assert_eq!(consistency(&tree, size, 700), Err(Dropped));
        // Leaves of the blocks that are there are proved all the same.
        let path = inclusion(&tree, 600, 700).unwrap();
        assert_eq!(root_by_inclusion(tree.leaves[600], 600, 700, &path), Some(new));
    }
}

#[test]
fn the_proofs_are_those_of_other_implementations() {
    let tree = kept(ENTRIES.iter().map(|entry| Hash::of_leaf(entry)).collect());
    let check = |proof: Result<Vec<Hash>, Dropped>, expected: &[&str]| {
        assert_eq!(proof.unwrap(), expected.iter().map(|text| hex(text)).collect::<Vec<_>>());
    };
    let of_2_and_3 = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e";
    let of_4_to_7 = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4";
    let of_1 = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7";
    let of_0_to_3 = "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7";
    let of_6_and_7 = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0";
    let of_4 = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b";
    let of_4_and_5 = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a";
    check(inclusion(&tree, 0, 1), &[]);
    check(inclusion(&tree, 0, 8), &[of_1, of_2_and_3, of_4_to_7]);
    check(inclusion(&tree, 5, 8), &[of_4, of_6_and_7, of_0_to_3]);
    check(consistency(&tree, 1, 8), &[of_1, of_2_and_3, of_4_to_7]);
    check(consistency(&tree, 6, 8), &[of_4_and_5, of_6_and_7, of_0_to_3]);
    check(consistency(&tree, 2, 5), &[of_2_and_3, of_4]);
}
