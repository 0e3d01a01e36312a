//! What is kept of the log, as an adapter hands it out and the own API passes it on.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::tree::{Hash, Node};
use super::{BLOCK_LEVEL, numbers_of};
use crate::decision::{Decision, Numbered};
use crate::record::json_text;

/// The entry of a leaf: the text under which a record is stored.
pub fn entry(number: u64, decision: &Decision) -> Result<String, serde_json::Error> {
    json_text(&Numbered { number, record: decision })
}

/// What the log says that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// How many records were ever written.
    pub size: u64,
    /// The root of their tree, as far as what is kept gives it.
    pub root: Hash,
    /// The number of the newest record whose body is there; 0 when there is none.
    pub newest: u64,
}

/// What is kept of a block.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Block {
    /// Which one, from 0.
    pub number: u64,
    /// The records whose bodies are there, in order.
    pub records: Vec<Stored>,
    /// The leaf hashes from the first record of the block on, where bodies were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves: Option<Vec<Hash>>,
    /// The kept nodes that the block's last record completes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<KeptNode>,
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stored {
    /// The number under which it stands.
    pub number: u64,
    /// Its text.
    pub entry: String,
    /// The leaf hash that was stored with it; `None` when that is no hash.
    pub leaf: Option<Hash>,
    /// Whether what it is searched by differs from what it says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub misfiled: bool,
}

/// A node that is kept, by its level; its number follows from the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptNode {
    /// A multiple of [`super::BLOCK_LEVEL`].
    pub level: u8,
    /// Its hash.
    pub hash: Hash,
}

impl From<Node> for KeptNode {
    fn from(node: Node) -> Self {
        Self { level: node.level, hash: node.hash }
    }
}

impl Block {
    /// The leaf hashes of its records in a log of this size, computed where the texts are there; the block's own node when
    /// nothing else is kept of it. With it, the block can be compared later record by record.
    pub fn hashes(&self, size: u64) -> Vec<Hash> {
        let numbers = numbers_of(self.number, size);
        if self.records.is_empty() && self.leaves.is_none() {
            return self.node(BLOCK_LEVEL).into_iter().collect();
        }
        let leaves = self.leaves.as_deref().unwrap_or_default();
        let mut records = self.records.iter().peekable();
        let hash = |(at, number)| match records.next_if(|record| record.number == number) {
            Some(record) => Some(Hash::of_leaf(record.entry.as_bytes())),
            None => leaves.get(at).copied(),
        };
        numbers.enumerate().map_while(hash).collect()
    }

    /// The node of a level that the block completes.
    pub fn node(&self, level: u8) -> Option<Hash> {
        self.nodes.iter().find(|node| node.level == level).map(|node| node.hash)
    }
}

/// A checkpoint that the hub signed and keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// The size that it is for.
    pub size: u64,
    /// When it was signed.
    pub time: Timestamp,
    /// The signed note.
    pub note: String,
    /// Whether somebody was given it: those are never thinned out.
    pub exported: bool,
    /// The full path from its size to the end of its block, once the leaf hashes of that are gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Vec<Hash>>,
}

/// That a record is in the tree of a size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inclusion {
    /// The record's text.
    pub entry: String,
    /// Its leaf, from 0.
    pub index: u64,
    /// The size of the tree.
    pub size: u64,
    /// From the leaf upwards.
    pub path: Vec<Hash>,
}
