//! Every way to tamper with a log, and what verification makes of it.

#![allow(clippy::unwrap_used)]

use jiff::Timestamp;

use super::*;
use crate::audit::evidence::{KeptNode, entry};
use crate::audit::note::SigningKey;
use crate::audit::proof::{Nodes, full_path};
use crate::audit::tree::tests::defined;
use crate::decision::{Act, Decision};

/// A log whose every part can be bent.
#[derive(Clone)]
struct Log {
    blocks: Vec<Block>,
    kept: Vec<Kept>,
    head: Head,
    leaves: Vec<Hash>,
}

impl Log {
    /// A sound log with a kept checkpoint at each of these sizes.
    fn of(size: u64, kept: &[u64], write: impl Fn(u64) -> Decision) -> Self {
        let (mut blocks, mut frontier, mut leaves, mut notes) = (vec![], Frontier::default(), vec![], vec![]);
        for number in 1..=size {
            if (number - 1).is_multiple_of(BLOCK_RECORDS) {
                blocks.push(Block {
                    number: (number - 1) / BLOCK_RECORDS,
                    records: vec![],
                    leaves: None,
                    nodes: vec![],
                });
            }
            let block = blocks.last_mut().unwrap();
            let entry = entry(number, &write(number)).unwrap();
            let leaf = Hash::of_leaf(entry.as_bytes());
            leaves.push(leaf);
            block.records.push(Stored { number, entry, leaf: Some(leaf), misfiled: false });
            let kept_level = |node: &Node| node.level.is_multiple_of(BLOCK_LEVEL);
            frontier.push(leaf, |node| block.nodes.extend(Some(node).filter(kept_level).map(KeptNode::from)));
            if kept.contains(&number) {
                notes.push(kept_checkpoint(number, frontier.root()));
            }
        }
        Self { blocks, kept: notes, head: Head { size, root: frontier.root(), newest: size }, leaves }
    }

    fn record(&mut self, number: u64) -> &mut Stored {
        let block = &mut self.blocks[((number - 1) / BLOCK_RECORDS) as usize];
        block.records.iter_mut().find(|record| record.number == number).unwrap()
    }

    fn remove(&mut self, number: u64) {
        let block = &mut self.blocks[((number - 1) / BLOCK_RECORDS) as usize];
        block.records.retain(|record| record.number != number);
    }

    /// Retention of whole blocks, as an adapter does it; the records of `stay` keep their bodies.
    fn drop_bodies(&mut self, blocks: std::ops::Range<u64>, stay: &[u64]) {
        for number in blocks {
            let (first, end) = (number * BLOCK_RECORDS, (number + 1) * BLOCK_RECORDS);
            let leaves = self.leaves[first as usize..end as usize].to_vec();
            let block = &mut self.blocks[number as usize];
            block.records.retain(|record| stay.contains(&record.number));
            block.leaves = (!block.records.is_empty()).then_some(leaves);
            for kept in self.kept.iter_mut().filter(|kept| (first + 1..end).contains(&kept.size)) {
                kept.path = Some(full_path(&Whole(&self.leaves), kept.size, first, end).unwrap());
            }
        }
    }

    fn exported(&self, size: u64) -> Exported {
        let leaves = self.leaves[..size as usize].to_vec();
        Exported { checkpoint: checkpoint(size, defined(&leaves)), leaves }
    }

    fn verify(&self, exported: &[&Exported]) -> Verdict {
        let given = exported.iter().map(|exported| Given::new("file", exported.checkpoint.clone())).collect();
        let mut verifier = Verifier::new(self.head, self.kept.clone(), key().verifier(), given);
        for block in &self.blocks {
            let known = |exported: &&Exported| {
                let blocks = exported.leaves.chunks(BLOCK_RECORDS as usize);
                blocks.skip(block.number as usize).take(1).flatten().copied().collect()
            };
            let known: Vec<_> = exported.iter().map(known).collect();
            verifier.block(block, &known);
        }
        verifier.finish()
    }
}

/// A checkpoint that was kept elsewhere, and the leaf hashes beside it, if any.
#[derive(Clone)]
struct Exported {
    checkpoint: Checkpoint,
    leaves: Vec<Hash>,
}

impl Exported {
    fn without_hashes(&self) -> Self {
        Self { leaves: vec![], ..self.clone() }
    }
}

struct Whole<'a>(&'a [Hash]);

impl Nodes for Whole<'_> {
    type Error = ();
    fn node(&self, level: u8, number: u64) -> Result<Hash, ()> {
        let (first, count) = ((number << level) as usize, 1 << level);
        Ok(defined(&self.0[first..first + count]))
    }
    fn kept_path(&self, _: u64) -> Result<Option<Vec<Hash>>, ()> {
        Ok(None)
    }
}

fn key() -> SigningKey {
    SigningKey::from_seed("log", &[3; 32]).unwrap()
}

fn checkpoint(size: u64, root: Hash) -> Checkpoint {
    Checkpoint { origin: "log".into(), size, root }
}

fn kept_checkpoint(size: u64, root: Hash) -> Kept {
    let note = checkpoint(size, root).sign(&key());
    Kept { size, time: Timestamp::UNIX_EPOCH, note, exported: false, path: None }
}

fn connect(number: u64) -> Decision {
    let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
    decision.identity = Some(format!("device-{number}"));
    decision
}

/// 700 records with checkpoints at 200, 400 and 600.
fn log() -> Log {
    Log::of(700, &[200, 400, 600], connect)
}

fn check(verdict: &Verdict, kind: Tampering, first: u64, last: u64) {
    let found = (verdict.sound, verdict.kind, verdict.first_bad, verdict.last_bad);
    assert_eq!(found, (false, Some(kind), Some(first), Some(last)), "{verdict:#?}");
}

/// The same record with something else in it.
fn bent(record: &Stored) -> String {
    record.entry.replacen("device-", "devise-", 1)
}

#[test]
fn an_untouched_log_is_sound_with_and_without_checkpoints() {
    let log = log();
    for verdict in [
        log.verify(&[]),
        log.verify(&[&log.exported(1), &log.exported(255).without_hashes(), &log.exported(700)]),
    ] {
        assert!(verdict.sound && verdict.findings.is_empty(), "{verdict:#?}");
        assert_eq!((verdict.size, verdict.root, verdict.read), (700, Some(log.head.root), 700));
    }
    assert_eq!(log.verify(&[]).checkpoints, 3);
    assert_eq!(log.verify(&[&log.exported(512)]).checkpoints, 4);
    assert!(Log::of(0, &[], connect).verify(&[]).sound);
}

#[test]
fn an_edited_text_is_named_exactly() {
    for number in [1, 256, 257, 700] {
        let mut log = log();
        let record = log.record(number);
        record.entry = bent(record);
        let verdict = log.verify(&[]);
        check(&verdict, Tampering::Edited, number, number);
        assert_eq!(verdict.findings.len(), 1, "{verdict:#?}");
    }
}

#[test]
fn a_text_edited_with_its_hash_is_named_exactly_by_exported_hashes_and_else_by_a_range() {
    let sound = log();
    let mut log = sound.clone();
    for number in [300, 610] {
        let record = log.record(number);
        record.entry = bent(record);
        record.leaf = Some(Hash::of_leaf(record.entry.as_bytes()));
    }
    check(&log.verify(&[&sound.exported(650)]), Tampering::Rewritten, 300, 300);
    // Without the hashes, the kept checkpoints of 200 and 400 records say in between which.
    check(&log.verify(&[&sound.exported(650).without_hashes()]), Tampering::Rewritten, 201, 400);
    log.kept.clear();
    check(&log.verify(&[]), Tampering::Rewritten, 257, 512);
    log.blocks[1].nodes[0].hash =
        defined(&log.blocks[1].records.iter().filter_map(|r| r.leaf).collect::<Vec<_>>());
    assert!(log.verify(&[]).sound, "nothing promised otherwise");
}

#[test]
fn a_deleted_record_is_named_exactly() {
    let sound = log();
    for number in [1, 256, 300, 699] {
        let mut log = sound.clone();
        log.remove(number);
        check(&log.verify(&[]), Tampering::Deleted, number, number);
        let verdict = log.verify(&[&sound.exported(700)]);
        check(&verdict, Tampering::Deleted, number, number);
        assert_eq!(verdict.root, Some(sound.head.root), "the exported hash stands in");
    }
    // Deleted, and those behind it moved up.
    let mut log = sound.clone();
    log.remove(300);
    for number in 301..=512 {
        log.record(number).number -= 1;
    }
    check(&log.verify(&[]), Tampering::Moved, 300, 300);
}

#[test]
fn a_cut_end_is_named_exactly() {
    let sound = log();
    let mut log = sound.clone();
    (601..=700).for_each(|number| log.remove(number));
    log.head.newest = 600;
    check(&log.verify(&[]), Tampering::Truncated, 601, 601);
    // The size was cut too, which only a checkpoint tells.
    log.head.size = 599;
    log.remove(600);
    check(&log.verify(&[]), Tampering::Truncated, 600, 600);
    log.kept.pop();
    assert!(log.verify(&[]).sound);
    check(&log.verify(&[&sound.exported(700)]), Tampering::Truncated, 600, 600);
}

#[test]
fn a_log_rewritten_with_all_its_hashes_and_signatures_is_told_by_the_exported_checkpoint_alone() {
    let sound = log();
    let other =
        Log::of(800, &[200, 400, 600, 800], |number| connect(if number < 123 { number } else { number + 1 }));
    assert!(other.verify(&[]).sound);
    check(&other.verify(&[&sound.exported(500)]), Tampering::Rewritten, 123, 123);
    check(&other.verify(&[&sound.exported(500).without_hashes()]), Tampering::Rewritten, 1, 500);
    let two = [&sound.exported(100).without_hashes(), &sound.exported(500).without_hashes()];
    check(&other.verify(&two), Tampering::Rewritten, 101, 500);
    assert!(other.verify(&[&sound.exported(122)]).sound);
}

#[test]
fn a_changed_kept_checkpoint_is_named() {
    let mut log = log();
    log.kept[1].note = log.kept[1].note.replace("\n400\n", "\n401\n");
    check(&log.verify(&[]), Tampering::Checkpoint, 1, 400);
    log.kept[1] = Kept {
        note: checkpoint(400, Hash([9; 32])).sign(&SigningKey::from_seed("log", &[4; 32]).unwrap()),
        ..log.kept[1].clone()
    };
    check(&log.verify(&[]), Tampering::Checkpoint, 1, 400);
}

#[test]
fn a_record_that_is_not_found_by_what_it_says_is_named() {
    let mut log = log();
    log.record(42).misfiled = true;
    check(&log.verify(&[]), Tampering::Misfiled, 42, 42);
}

/// A log of which retention dropped the first two blocks, but for record 300, and said so in record 650.
fn retained() -> (Log, Log) {
    let write = |number| match number {
        650 => crate::audit::retention::statement(Timestamp::UNIX_EPOCH, 1, 512, vec![300]),
        _ => connect(number),
    };
    let whole = Log::of(700, &[100, 256, 400, 600], write);
    let mut log = whole.clone();
    log.drop_bodies(0..2, &[300]);
    (whole, log)
}

#[test]
fn what_retention_dropped_leaves_the_log_sound_and_its_checkpoints_comparable() {
    let (whole, log) = retained();
    assert!(log.blocks[0].leaves.is_none() && log.blocks[1].leaves.is_some());
    for size in [100, 256, 400, 512, 600] {
        let verdict = log.verify(&[&whole.exported(size), &whole.exported(size).without_hashes()]);
        assert!(verdict.sound, "{size}: {verdict:#?}");
        assert_eq!((verdict.dropped, verdict.read, verdict.checkpoints), (511, 189, 6));
    }
    // A size inside a dropped block for which no path was kept.
    let verdict = log.verify(&[&whole.exported(77)]);
    assert!(!verdict.sound && verdict.first_bad.is_none() && verdict.unchecked.len() == 1, "{verdict:#?}");
}

#[test]
fn a_body_that_is_missing_without_retention_saying_so_was_deleted() {
    let (_, log) = retained();
    let mut kept_one_deleted = log.clone();
    kept_one_deleted.remove(300);
    kept_one_deleted.blocks[1].records.clear();
    check(&kept_one_deleted.verify(&[]), Tampering::Deleted, 300, 300);
    let mut all_of_a_block_deleted = log.clone();
    all_of_a_block_deleted.blocks[1].leaves = None;
    all_of_a_block_deleted.remove(300);
    all_of_a_block_deleted.kept.retain(|kept| kept.size != 400);
    check(&all_of_a_block_deleted.verify(&[]), Tampering::Deleted, 300, 300);
    let mut no_statement = Log::of(700, &[], connect);
    no_statement.drop_bodies(1..2, &[]);
    check(&no_statement.verify(&[]), Tampering::Deleted, 257, 257);
}

#[test]
fn a_dropped_block_cannot_be_exchanged() {
    let (whole, log) = retained();
    let mut other = log.clone();
    other.blocks[0].nodes[0].hash = Hash([5; 32]);
    check(&other.verify(&[]), Tampering::Rewritten, 1, 100);
    other.kept.clear();
    check(&other.verify(&[&whole.exported(600)]), Tampering::Rewritten, 1, 256);
    let mut other_leaf = log.clone();
    other_leaf.blocks[1].leaves.as_mut().unwrap()[7] = Hash([5; 32]);
    check(&other_leaf.verify(&[&whole.exported(600)]), Tampering::Rewritten, 264, 264);
    let mut other_path = log;
    other_path.kept[0].path.as_mut().unwrap()[0] = Hash([5; 32]);
    check(&other_path.verify(&[]), Tampering::Rewritten, 1, 100);
}

#[test]
fn retention_that_came_while_the_log_was_verified_accounts_for_what_it_dropped() {
    let (whole, log) = retained();
    let mut verifier = Verifier::new(Head { size: 640, ..log.head }, vec![], key().verifier(), vec![]);
    log.blocks.iter().for_each(|block| verifier.block(block, &[]));
    assert!(verifier.misses_bodies());
    verifier.late_block(&whole.blocks[2]);
    assert!(!verifier.misses_bodies());
    assert!(verifier.finish().sound);
}

#[test]
fn what_was_dropped_before_the_log_was_a_tree_is_no_deletion() {
    let nothing = Hash::of_leaf(b"");
    let mut log = Log::of(300, &[], connect);
    let mut frontier = Frontier::default();
    for number in 1..=300_u64 {
        if number <= 260 && number != 5 {
            log.remove(number);
            log.leaves[number as usize - 1] = nothing;
        }
        frontier.push(log.leaves[number as usize - 1], |node| {
            if node.level == BLOCK_LEVEL {
                log.blocks[0].nodes = vec![node.into()];
            }
        });
    }
    log.blocks[0].leaves = Some(log.leaves[..256].to_vec());
    log.blocks[1].leaves = Some(log.leaves[256..260].to_vec());
    let verdict = log.verify(&[&log.exported(280)]);
    assert!(verdict.sound, "{verdict:#?}");
    assert_eq!((verdict.read, verdict.dropped), (41, 0));
}

#[test]
fn the_first_record_is_named_however_many_are_wrong() {
    let (_, mut log) = retained();
    log.remove(300);
    log.blocks[1].records.clear();
    for number in 513..=649 {
        let record = log.record(number);
        record.entry = bent(record);
    }
    let verdict = log.verify(&[]);
    check(&verdict, Tampering::Deleted, 300, 300);
    assert_eq!(verdict.findings.len(), FINDINGS_MAX);
}

#[test]
fn an_open_block_is_not_taken_for_a_dropped_one() {
    let mut log = log();
    log.blocks[2].records.clear();
    log.blocks[2].nodes = log.blocks[1].nodes.clone();
    log.head.newest = 512;
    check(&log.verify(&[]), Tampering::Truncated, 513, 513);
}
