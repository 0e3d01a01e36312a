//! The audit log of the registry in memory.

use std::collections::{BTreeMap, HashMap};

use hub::audit::evidence::{Block, Head, Inclusion, Kept, KeptNode, Stored, entry};
use hub::audit::proof::{self, Nodes};
use hub::audit::tree::Frontier;
use hub::audit::{BLOCK_LEVEL, BLOCK_RECORDS, Hash, block_of, blocks_in, checkpoint, numbers_of, retention};
use hub::decision::Decision;
use hub::ports::registry::StoreError;

#[derive(Default)]
pub(super) struct Ledger {
    frontier: Frontier,
    /// The bodies that are there, with their texts.
    pub(super) bodies: BTreeMap<u64, (Decision, String)>,
    /// The leaf hashes of blocks of which a body is there.
    leaves: BTreeMap<u64, Vec<Hash>>,
    nodes: HashMap<(u8, u64), Hash>,
    checkpoints: BTreeMap<u64, Kept>,
    bounded: u64,
}

/// A hash was dropped.
pub(super) struct Dropped;

impl Ledger {
    pub(super) fn append(&mut self, decision: Decision) -> Result<(), StoreError> {
        let number = self.frontier.size() + 1;
        let text = entry(number, &decision).map_err(|error| StoreError::Failed(error.to_string()))?;
        let leaf = Hash::of_leaf(text.as_bytes());
        self.frontier.push(leaf, |node| {
            if node.level.is_multiple_of(BLOCK_LEVEL) {
                self.nodes.insert((node.level, node.number), node.hash);
            }
        });
        self.leaves.entry(block_of(number)).or_default().push(leaf);
        self.bounded += u64::from(!retention::stays(&decision));
        self.bodies.insert(number, (decision, text));
        Ok(())
    }

    pub(super) fn retain(&mut self, bound: u64) -> Result<(), StoreError> {
        if self.bounded <= bound.saturating_add(retention::STEP_RECORDS) {
            return Ok(());
        }
        let oldest = self.bodies.iter().find(|(_, (decision, _))| !retention::stays(decision));
        let Some(oldest) = oldest.map(|(number, _)| block_of(*number)) else { return Ok(()) };
        let complete = self.frontier.size() / BLOCK_RECORDS;
        let counts: Vec<u64> = (oldest..complete).map(|block| self.bounded_in(block)).collect();
        let due = retention::due(self.bounded, bound, counts.iter().copied());
        if due == 0 {
            return Ok(());
        }
        let end = oldest + due as u64;
        for block in oldest..end {
            self.drop_bodies(block);
        }
        self.bounded -= counts[..due].iter().sum::<u64>();
        let (first, last) = (oldest * BLOCK_RECORDS + 1, end * BLOCK_RECORDS);
        let kept = self.bodies.range(first..=last).map(|(number, _)| *number).collect();
        let newest = self.bodies.last_key_value().map(|(_, (decision, _))| decision.time).unwrap_or_default();
        self.append(retention::statement(newest, first, last, kept))
    }

    fn bounded_in(&self, block: u64) -> u64 {
        let bodies = self.bodies.range(numbers_of(block, u64::MAX));
        bodies.filter(|(_, (decision, _))| !retention::stays(decision)).count() as u64
    }

    fn drop_bodies(&mut self, block: u64) {
        let numbers = numbers_of(block, u64::MAX);
        self.bodies.retain(|number, (decision, _)| !numbers.contains(number) || retention::stays(decision));
        if self.bodies.range(numbers.clone()).next().is_some() {
            return;
        }
        let (first, last) = (*numbers.start(), *numbers.end());
        let sizes: Vec<u64> = self.checkpoints.range(first..last).map(|(size, _)| *size).collect();
        for size in sizes {
            let path = proof::full_path(self, size, first - 1, last).ok();
            if let Some(kept) = self.checkpoints.get_mut(&size) {
                kept.path = path;
            }
        }
        self.leaves.remove(&block);
    }

    pub(super) fn head(&self) -> Head {
        let newest = self.bodies.last_key_value().map_or(0, |(number, _)| *number);
        Head { size: self.frontier.size(), root: self.frontier.root(), newest }
    }

    pub(super) fn blocks(&self, first: u64, count: usize) -> Vec<Block> {
        let end = blocks_in(self.frontier.size()).min(first.saturating_add(count as u64));
        (first..end).map(|number| self.block(number)).collect()
    }

    fn block(&self, number: u64) -> Block {
        let leaves = self.leaves.get(&number);
        let numbers = numbers_of(number, self.frontier.size());
        let stored = |(number, (_, entry)): (&u64, &(Decision, String))| {
            let leaf = leaves.map(|leaves| leaves[((number - 1) % BLOCK_RECORDS) as usize]);
            Stored { number: *number, entry: entry.clone(), leaf, misfiled: false }
        };
        let records: Vec<Stored> = self.bodies.range(numbers.clone()).map(stored).collect();
        let some_dropped = records.len() < numbers.count();
        let (mut nodes, mut level, mut node) = (Vec::new(), BLOCK_LEVEL, number);
        while let Some(hash) = self.nodes.get(&(level, node)) {
            nodes.push(KeptNode { level, hash: *hash });
            if (node + 1) % BLOCK_RECORDS != 0 {
                break;
            }
            (level, node) = (level + BLOCK_LEVEL, node / BLOCK_RECORDS);
        }
        Block { number, records, leaves: leaves.filter(|_| some_dropped).cloned(), nodes }
    }

    pub(super) fn checkpoints(&self, above: u64, limit: usize) -> Vec<Kept> {
        self.checkpoints.range(above.saturating_add(1)..).take(limit).map(|(_, kept)| kept.clone()).collect()
    }

    pub(super) fn keep_checkpoint(&mut self, mut kept: Kept) {
        if let Some(before) = self.checkpoints.get(&kept.size) {
            kept.exported |= before.exported;
            kept.path.clone_from(&before.path);
        }
        self.checkpoints.insert(kept.size, kept);
        let private = self.checkpoints.values().filter(|kept| !kept.exported);
        let sizes: Vec<u64> = private.map(|kept| kept.size).collect();
        for size in checkpoint::thinned_out(&sizes) {
            self.checkpoints.remove(&size);
        }
    }

    pub(super) fn inclusion(&self, number: u64, size: u64) -> Option<Inclusion> {
        if number > size || size > self.frontier.size() {
            return None;
        }
        let (_, entry) = self.bodies.get(&number)?;
        let index = number - 1;
        let path = proof::inclusion(self, index, size).ok()?;
        Some(Inclusion { entry: entry.clone(), index, size, path })
    }

    pub(super) fn consistency(&self, old: u64, new: u64) -> Option<Vec<Hash>> {
        if old > new || new > self.frontier.size() {
            return None;
        }
        proof::consistency(self, old, new).ok()
    }
}

impl Nodes for Ledger {
    type Error = Dropped;

    fn node(&self, level: u8, number: u64) -> Result<Hash, Dropped> {
        if let Some(hash) = self.nodes.get(&(level, number)) {
            return Ok(*hash);
        }
        if level == 0 {
            let leaves = self.leaves.get(&(number / BLOCK_RECORDS)).ok_or(Dropped)?;
            return leaves.get((number % BLOCK_RECORDS) as usize).copied().ok_or(Dropped);
        }
        Ok(Hash::of_node(self.node(level - 1, number * 2)?, self.node(level - 1, number * 2 + 1)?))
    }

    fn kept_path(&self, size: u64) -> Result<Option<Vec<Hash>>, Dropped> {
        Ok(self.checkpoints.get(&size).and_then(|kept| kept.path.clone()))
    }
}
