//! What the audit log of every registry does.

use holdfast_store::memory::MemoryRegistry;
use holdfast_store::sqlite::{SqliteConfig, SqliteRegistry};
use hub::audit::checkpoint::{Checkpoint, KEPT_MAX};
use hub::audit::evidence::{Block, Head, Kept};
use hub::audit::note::SigningKey;
use hub::audit::proof::{is_consistent, root_by_inclusion};
use hub::audit::retention::STEP_RECORDS;
use hub::audit::verify::{Given, Verdict, Verifier};
use hub::audit::{BLOCK_RECORDS, Hash};
use hub::decision::{Act, Decision, Numbered};
use hub::ports::registry::{Registry, StoreError};
use jiff::Timestamp;

use crate::registry_battery::{all_decisions, changed, group, group_record, write};
use crate::wait;

macro_rules! audit_battery {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            fn check(test: impl FnOnce(&dyn Registry)) {
                // The second value keeps the directory of the adapter, if it has one.
                let (registry, _kept) = $make;
                test(&registry);
            }

            #[test]
            fn numbers_have_no_gap_and_the_text_of_each_record_is_its_leaf() {
                check(super::numbers_have_no_gap_and_the_text_of_each_record_is_its_leaf);
            }
            #[test]
            fn every_record_is_proved_in_every_checkpoint_behind_it() {
                check(super::every_record_is_proved_in_every_checkpoint_behind_it);
            }
            #[test]
            fn retention_leaves_the_log_provable() {
                check(super::retention_leaves_the_log_provable);
            }
            #[test]
            fn checkpoints_are_kept_and_thinned_out() {
                check(super::checkpoints_are_kept_and_thinned_out);
            }
        }
    };
}

/// How many decisions the registries of the battery keep.
const DECISIONS_MAX: u64 = 50;

audit_battery!(memory, (MemoryRegistry::new(DECISIONS_MAX), ()));
audit_battery!(sqlite, {
    let directory = tempfile::tempdir().unwrap();
    let config = SqliteConfig { decisions_max: DECISIONS_MAX, ..SqliteConfig::default() };
    (SqliteRegistry::open(&directory.path().join("registry.db"), &config).unwrap(), directory)
});

pub(crate) fn key() -> SigningKey {
    SigningKey::from_seed("log", &[1; 32]).unwrap()
}

pub(crate) fn connect(device: u64) -> Decision {
    let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
    decision.identity = Some(format!("d{device}"));
    decision
}

/// Records so many connections.
pub(crate) fn grow(registry: &dyn Registry, count: u64) {
    wait(registry.record((0..count).map(connect).map(Box::new).collect())).unwrap();
}

/// Signs a checkpoint of the log as it is, and keeps it.
pub(crate) fn sign(registry: &dyn Registry, exported: bool) -> Checkpoint {
    let Head { size, root, .. } = wait(registry.head()).unwrap();
    let checkpoint = Checkpoint { origin: "log".to_owned(), size, root };
    let note = checkpoint.sign(&key());
    wait(registry.keep_checkpoint(Kept { size, time: Timestamp::UNIX_EPOCH, note, exported, path: None }))
        .unwrap();
    checkpoint
}

pub(crate) fn verdict(
    head: Head,
    blocks: &[Block],
    kept: Vec<Kept>,
    given: impl IntoIterator<Item = Checkpoint>,
) -> Verdict {
    let given = given.into_iter().map(|checkpoint| Given::new("given", checkpoint)).collect();
    let mut verifier = Verifier::new(head, kept, key().verifier(), given);
    blocks.iter().for_each(|block| verifier.block(block, &[]));
    verifier.finish()
}

fn verify(registry: &dyn Registry, given: impl IntoIterator<Item = Checkpoint>) -> Verdict {
    let blocks = wait(registry.blocks(0, usize::MAX)).unwrap();
    let kept = wait(registry.checkpoints(0, usize::MAX)).unwrap();
    verdict(wait(registry.head()).unwrap(), &blocks, kept, given)
}

fn numbers_have_no_gap_and_the_text_of_each_record_is_its_leaf(registry: &dyn Registry) {
    assert_eq!(wait(registry.head()).unwrap(), Head { size: 0, root: Hash::of_nothing(), newest: 0 });
    assert!(verify(registry, []).sound);
    let make = |name: &str, replaces| {
        let mut change = write(group(name), replaces, group_record(name));
        change.decision = Some(changed(name));
        wait(registry.commit(change))
    };
    grow(registry, 300);
    make("a", None).unwrap();
    assert!(matches!(make("a", None), Err(StoreError::Stale(_))));
    grow(registry, 10);
    assert!(matches!(make("b", Some(3)), Err(StoreError::Stale(_))));
    make("b", None).unwrap();
    let blocks = wait(registry.blocks(0, 9)).unwrap();
    let records: Vec<_> = blocks.iter().flat_map(|block| &block.records).collect();
    let decisions = wait(registry.decisions(all_decisions())).unwrap();
    assert_eq!((records.len(), decisions.len()), (312, 312));
    for ((record, decision), number) in records.iter().zip(decisions.iter().rev()).zip(1..) {
        assert_eq!((record.number, decision.number), (number, number));
        assert_eq!(serde_json::from_str::<Numbered<Decision>>(&record.entry).unwrap(), *decision);
        assert_eq!(record.leaf, Some(Hash::of_leaf(record.entry.as_bytes())));
    }
    let head = wait(registry.head()).unwrap();
    assert_eq!((head.size, head.newest), (312, 312));
    let verdict = verify(registry, []);
    assert!(verdict.sound, "{verdict:?}");
    assert_eq!(verdict.root, Some(head.root));
    assert_eq!(wait(registry.blocks(1, 9)).unwrap(), blocks[1..]);
    assert_eq!(wait(registry.blocks(2, 9)).unwrap(), []);
}

fn every_record_is_proved_in_every_checkpoint_behind_it(registry: &dyn Registry) {
    let mut checkpoints = Vec::new();
    for count in [1, 7, 248, 1, 143] {
        grow(registry, count);
        checkpoints.push(sign(registry, false));
    }
    for checkpoint in &checkpoints {
        for number in [1, 2, 8, 200, 256, 257, 258, 400] {
            let proof = wait(registry.inclusion(number, checkpoint.size)).unwrap();
            assert_eq!(proof.is_some(), number <= checkpoint.size);
            let Some(proof) = proof else { continue };
            let leaf = Hash::of_leaf(proof.entry.as_bytes());
            assert_eq!(proof.index, number - 1);
            let root = root_by_inclusion(leaf, proof.index, checkpoint.size, &proof.path);
            assert_eq!(root, Some(checkpoint.root), "{number} in {}", checkpoint.size);
        }
        for old in &checkpoints {
            let proof = wait(registry.consistency(old.size, checkpoint.size)).unwrap();
            assert_eq!(proof.is_some(), old.size <= checkpoint.size);
            let Some(proof) = proof else { continue };
            assert!(is_consistent(old.size, old.root, checkpoint.size, checkpoint.root, &proof));
        }
    }
    assert_eq!(wait(registry.inclusion(0, 400)).unwrap(), None);
    assert_eq!(wait(registry.inclusion(1, 401)).unwrap(), None);
    assert_eq!(wait(registry.consistency(1, 401)).unwrap(), None);
}

fn retention_leaves_the_log_provable(registry: &dyn Registry) {
    let mut change = write(group("g"), None, group_record("g"));
    grow(registry, 300);
    change.decision = Some(changed("make a group"));
    wait(registry.commit(change)).unwrap();
    let mut checkpoints = vec![sign(registry, true)];
    // Twice round, so that the record of the first step stands in what the second one drops.
    for _ in 0..20 {
        grow(registry, 490);
        checkpoints.push(sign(registry, true));
    }
    let head = wait(registry.head()).unwrap();
    let verdict = verify(registry, checkpoints.clone());
    assert!(verdict.sound, "{verdict:#?}");
    assert_eq!((verdict.root, verdict.checkpoints), (Some(head.root), 42));
    assert_eq!(verdict.read + verdict.dropped, head.size);
    assert!(verdict.dropped >= 2 * STEP_RECORDS - BLOCK_RECORDS, "{verdict:#?}");
    let blocks = wait(registry.blocks(0, usize::MAX)).unwrap();
    let bare = |block: &&Block| block.records.is_empty() && block.leaves.is_none() && block.nodes.len() == 1;
    assert!(blocks.iter().filter(bare).count() > 20, "a dropped block is one node");
    for kept in blocks.iter().filter(|block| block.leaves.is_some()) {
        assert!(!kept.records.is_empty() && kept.leaves.as_ref().unwrap().len() == 256);
    }
    for old in &checkpoints {
        let proof = wait(registry.consistency(old.size, head.size)).unwrap().unwrap();
        assert!(is_consistent(old.size, old.root, head.size, head.root, &proof), "{}", old.size);
    }
    assert_eq!(wait(registry.inclusion(1, head.size)).unwrap(), None, "its body is gone");
    let change = wait(registry.inclusion(301, head.size)).unwrap().unwrap();
    let leaf = Hash::of_leaf(change.entry.as_bytes());
    assert_eq!(root_by_inclusion(leaf, 300, head.size, &change.path), Some(head.root));
}

fn checkpoints_are_kept_and_thinned_out(registry: &dyn Registry) {
    let sizes = || {
        let kept = wait(registry.checkpoints(0, usize::MAX)).unwrap();
        kept.iter().map(|kept| kept.size).collect::<Vec<_>>()
    };
    grow(registry, 2);
    sign(registry, true);
    sign(registry, false);
    let kept = wait(registry.checkpoints(0, 9)).unwrap();
    assert_eq!((kept.len(), kept[0].exported), (1, true), "what was exported stays so");
    for _ in 0..KEPT_MAX {
        grow(registry, 1);
        sign(registry, false);
    }
    assert_eq!(sizes().len(), KEPT_MAX + 1);
    grow(registry, 1);
    sign(registry, false);
    let left = sizes();
    assert_eq!(left.len(), KEPT_MAX + 2 - KEPT_MAX / 4);
    assert_eq!(left[..4], [2, 3, 5, 7]);
    assert_eq!(
        wait(registry.checkpoints(5, 2)).unwrap().iter().map(|kept| kept.size).collect::<Vec<_>>(),
        [7, 9]
    );
    assert!(verify(registry, []).sound);
}
