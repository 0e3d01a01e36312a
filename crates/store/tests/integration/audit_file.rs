//! What only an audit log in a file can get wrong: restarts, migration, and somebody at the file.

use std::path::Path;

use holdfast_store::sqlite::{OpenError, SqliteAudit, SqliteConfig, SqliteRegistry};
use hub::audit::checkpoint::Checkpoint;
use hub::audit::verify::{Tampering, Verdict};
use hub::ports::audit::AuditLog as _;
use hub::ports::registry::Registry as _;

use crate::audit_battery::{connect, grow, sign, verdict};
use crate::registry_battery::all_decisions;
use crate::wait;

fn open(path: &Path, decisions_max: u64) -> SqliteRegistry {
    SqliteRegistry::open(path, &SqliteConfig { decisions_max, ..SqliteConfig::default() }).unwrap()
}

fn sql(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

/// Verifies the file as somebody who does not trust the hub does.
fn verify(path: &Path, given: impl IntoIterator<Item = Checkpoint>) -> Verdict {
    let audit = SqliteAudit::open(path).unwrap();
    let blocks = audit.blocks(0, usize::MAX).unwrap();
    verdict(audit.head().unwrap(), &blocks, audit.checkpoints(0, usize::MAX).unwrap(), given)
}

#[test]
fn the_tree_goes_on_after_a_restart_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let mut given = Vec::new();
    for count in [3, 253, 1, 5_000, 0, 255, 513] {
        let registry = open(&path, 10);
        let before = wait(registry.head()).unwrap();
        assert_eq!(
            (before.size, before.root),
            given.last().map_or(before_all(), |c: &Checkpoint| (c.size, c.root))
        );
        grow(&registry, count);
        given.push(sign(&registry, false));
    }
    let verdict = verify(&path, given);
    assert!(verdict.sound, "{verdict:#?}");
    assert!(verdict.dropped > 4_000);
}

fn before_all() -> (u64, hub::audit::Hash) {
    (0, hub::audit::Hash::of_nothing())
}

#[test]
fn a_log_of_the_first_schema_becomes_a_tree_in_which_what_was_gone_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    // As the first schema wrote it: bodies without a number, the oldest connections gone, a change among them kept.
    sql(&path, include_str!("../../src/sqlite/migrations/0001_records.sql"));
    sql(&path, "PRAGMA application_id = 0x484f4c44; PRAGMA user_version = 1;");
    let old = rusqlite::Connection::open(&path).unwrap();
    for number in (520..=530).chain([7, 260]) {
        let body = serde_json::to_string(&connect(number)).unwrap();
        old.execute(
            "INSERT INTO decisions VALUES (?1, 0, 0, ?2, NULL, ?3)",
            (number, format!("d{number}"), body),
        )
        .unwrap();
    }
    drop(old);
    assert!(matches!(SqliteAudit::open(&path), Err(OpenError::Older { found: 1, .. })));
    let registry = open(&path, 100);
    let head = wait(registry.head()).unwrap();
    assert_eq!((head.size, head.newest), (530, 530));
    let records = wait(registry.decisions(all_decisions())).unwrap();
    assert_eq!(records.len(), 13);
    assert!(records.iter().all(|record| record.record == connect(record.number)), "{records:?}");
    let given = sign(&registry, false);
    grow(&registry, 600);
    drop(registry);
    let verdict = verify(&path, [given]);
    assert!(verdict.sound, "{verdict:#?}");
    assert_eq!((verdict.size, verdict.read, verdict.dropped), (1_130, 613, 0));
}

/// A stopped hub's file with 1,000 records, and a checkpoint of 900 that somebody has.
fn stopped(directory: &Path) -> (std::path::PathBuf, Checkpoint) {
    let path = directory.join("registry.db");
    let registry = open(&path, 100_000);
    grow(&registry, 900);
    let given = sign(&registry, true);
    grow(&registry, 100);
    (path, given)
}

fn check(tampering: &str, kind: Tampering, first: u64, last: u64) {
    let directory = tempfile::tempdir().unwrap();
    let (path, given) = stopped(directory.path());
    assert!(verify(&path, [given.clone()]).sound);
    sql(&path, tampering);
    let check = |verdict: Verdict, kind, when: &str| {
        let found = (verdict.kind, verdict.first_bad, verdict.last_bad);
        assert_eq!(found, (Some(kind), Some(first), Some(last)), "{when}: {tampering}\n{verdict:#?}");
    };
    check(verify(&path, [given.clone()]), kind, "at once");
    // A hub that starts with it serves, and hides nothing by going on.
    let registry = open(&path, 100_000);
    grow(&registry, 300);
    sign(&registry, false);
    drop(registry);
    // With records behind it, a cut end is a hole.
    let kind = if kind == Tampering::Truncated { Tampering::Deleted } else { kind };
    check(verify(&path, [given]), kind, "after a restart");
}

#[test]
fn every_change_of_the_file_is_found_and_named() {
    let body = "UPDATE decisions SET body = replace(body, 'connect', 'connecT')";
    check(&format!("{body} WHERE number = 417"), Tampering::Edited, 417, 417);
    check("UPDATE decisions SET body = CAST(x'ff' AS TEXT) WHERE number = 417", Tampering::Edited, 417, 417);
    check("UPDATE decisions SET leaf = zeroblob(32) WHERE number = 417", Tampering::Edited, 417, 417);
    check("UPDATE decisions SET leaf = zeroblob(3) WHERE number = 417", Tampering::Edited, 417, 417);
    check("DELETE FROM decisions WHERE number = 417", Tampering::Deleted, 417, 417);
    check("DELETE FROM decisions WHERE number > 940", Tampering::Truncated, 941, 941);
    check("UPDATE decisions SET device = 'other' WHERE number = 417", Tampering::Misfiled, 417, 417);
    check("UPDATE decisions SET refused = 1 WHERE number = 417", Tampering::Misfiled, 417, 417);
    check("UPDATE audit_nodes SET hash = zeroblob(32) WHERE number = 1", Tampering::Rewritten, 257, 512);
    check("DELETE FROM audit_nodes WHERE number = 1", Tampering::Rewritten, 257, 512);
    let cut = "DELETE FROM decisions WHERE number > 890; DELETE FROM checkpoints;
               UPDATE audit_edge SET size = 890;";
    let directory = tempfile::tempdir().unwrap();
    let (path, given) = stopped(directory.path());
    sql(&path, cut);
    let verdict = verify(&path, [given]);
    assert_eq!((verdict.kind, verdict.first_bad), (Some(Tampering::Truncated), Some(891)));
    assert!(verify(&path, []).sound, "only what was kept elsewhere tells");
}
