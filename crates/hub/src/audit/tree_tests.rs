//! The tree against its definition and against the vectors of the first implementations of RFC 6962.

#![allow(clippy::unwrap_used)]

use super::*;

/// MTH of RFC 9162 §2.1.1, as it is written there.
pub(in crate::audit) fn defined(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => Hash::of_nothing(),
        [leaf] => *leaf,
        _ => {
            let mut k = 1;
            while 2 * k < leaves.len() {
                k *= 2;
            }
            Hash::of_node(defined(&leaves[..k]), defined(&leaves[k..]))
        }
    }
}

pub(in crate::audit) fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|n| Hash::of_leaf(&n.to_be_bytes())).collect()
}

pub(in crate::audit) fn hex(text: &str) -> Hash {
    let bytes: Vec<u8> =
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    Hash::from_bytes(&bytes).unwrap()
}

/// The entries that the tests of RFC 6962's implementations share.
pub(in crate::audit) const ENTRIES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

#[test]
fn the_roots_are_those_of_other_implementations() {
    let roots = [
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut frontier = Frontier::default();
    assert_eq!(frontier.root(), hex(roots[0]));
    for (entry, root) in ENTRIES.iter().zip(&roots[1..]) {
        frontier.push(Hash::of_leaf(entry), |_| {});
        assert_eq!(frontier.root(), hex(root), "{}", frontier.size());
    }
}

#[test]
fn the_frontier_has_the_root_of_the_definition_at_every_size_and_tells_every_node() {
    let leaves = leaves(600);
    let (mut frontier, mut nodes) = (Frontier::default(), Vec::new());
    for (at, leaf) in leaves.iter().enumerate() {
        assert_eq!(frontier.root(), defined(&leaves[..at]), "{at}");
        frontier.push(*leaf, |node| nodes.push(node));
    }
    assert_eq!(nodes.len(), 599 - (600_u64.count_ones() as usize - 1));
    for node in &nodes {
        let (first, count) = ((node.number << node.level) as usize, 1 << node.level);
        assert_eq!(node.hash, defined(&leaves[first..first + count]), "{node:?}");
    }
    assert_eq!(root_of(&leaves[..256]), defined(&leaves[..256]));
}

#[test]
fn a_frontier_is_built_again_from_subtrees_of_any_level() {
    let leaves = leaves(600);
    for size in [0, 1, 255, 256, 257, 511, 600] {
        let node = |level: u8, number: u64| {
            let first = (number << level) as usize;
            Ok::<_, ()>(defined(&leaves[first..first + (1 << level)]))
        };
        let frontier = Frontier::from_nodes(size, node).unwrap();
        assert_eq!((frontier.size(), frontier.root()), (size, defined(&leaves[..size as usize])));
        let mut grown = Frontier::default();
        for block in leaves[..size as usize].chunks(256) {
            match block.len() {
                256 => grown.push_subtree(8, root_of(block), |_| {}),
                _ => block.iter().for_each(|leaf| grown.push(*leaf, |_| {})),
            }
        }
        assert_eq!(grown, frontier);
    }
}

#[test]
fn a_hash_is_read_from_its_text_alone() {
    let hash = Hash::of_leaf(b"x");
    assert_eq!(Hash::try_from(hash.to_string()), Ok(hash));
    assert_eq!(Hash::try_from("c2hvcnQ=".to_owned()), Err(NoHash));
    assert_eq!(Hash::try_from("?".to_owned()), Err(NoHash));
    assert_eq!(Hash::all_from_bytes(&[hash.0, hash.0].concat()), Ok(vec![hash, hash]));
    assert_eq!(Hash::all_from_bytes(&[0; 33]), Err(NoHash));
}
