//! What only a registry in a file can get wrong.

use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use holdfast_store::sqlite::{OpenError, SqliteConfig, SqliteRegistry};
use hub::decision::{Act, Decision};
use hub::ports::registry::{Registry, StoreError};
use hub::record::Kind;
use jiff::Timestamp;

use crate::registry_battery::{all_decisions, changed, group, group_record, write};
use crate::wait;

fn open(path: &Path) -> Result<SqliteRegistry, OpenError> {
    SqliteRegistry::open(path, &SqliteConfig::default())
}

fn sql(path: &Path, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn everything_is_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    {
        let registry = open(&path).unwrap();
        let mut change = write(group("g"), None, group_record("g"));
        change.decision = Some(changed("make"));
        wait(registry.commit(change)).unwrap();
        wait(registry.commit(write(group("g"), Some(1), group_record("h")))).unwrap();
    }
    let registry = open(&path).unwrap();
    let found = wait(registry.load(group("g"))).unwrap().unwrap();
    assert_eq!((found.version, Some(found.record)), (2, group_record("h")));
    assert_eq!(wait(registry.decisions(all_decisions())).unwrap()[0].record, changed("make"));
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let wal = directory.path().join("registry.db-wal");
    assert_eq!(wal.metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

/// A process that opens a file and closes it loses the locks that SQLite has on it. Who then opens the database empties the index.
#[test]
fn the_index_of_an_open_registry_stays_locked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let registry = open(&path).unwrap();
    wait(registry.commit(write(group("g"), None, group_record("g")))).unwrap();
    // The byte by which SQLite says that somebody uses the index (`UNIX_SHM_DMS`).
    let look = "import fcntl, sys\ntry: fcntl.lockf(open(sys.argv[1], 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 128)\n\
                except BlockingIOError: print('locked')";
    let index = directory.path().join("registry.db-shm");
    let output = std::process::Command::new("python3").args(["-c", look]).arg(&index).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "locked", "{output:?}");
}

#[test]
fn a_registry_of_a_newer_program_or_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let newer = directory.path().join("newer.db");
    drop(open(&newer).unwrap());
    sql(&newer, "PRAGMA user_version = 99");
    assert!(matches!(open(&newer), Err(OpenError::Newer { found: 99, known: 5 })));
    let foreign = directory.path().join("foreign.db");
    sql(&foreign, "CREATE TABLE t (x)");
    assert!(matches!(open(&foreign), Err(OpenError::Foreign)));
    let text = directory.path().join("text.db");
    std::fs::write(&text, "no database at all, and long enough to be taken for one".repeat(100)).unwrap();
    assert!(matches!(open(&text), Err(OpenError::Corrupt(_))));
}

#[test]
fn children_are_found_by_their_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    drop(open(&path).unwrap());
    let plan = "EXPLAIN QUERY PLAN SELECT owner FROM records
                WHERE kind = 1 AND json_extract(body, '$.parentScopes[0]') = ? AND owner > ? ORDER BY owner LIMIT 1";
    let connection = rusqlite::Connection::open(&path).unwrap();
    let used: String = connection.query_row(plan, ["s", ""], |row| row.get("detail")).unwrap();
    assert!(used.contains("devices_by_parent (<expr>=? AND owner>?)"), "{used}");
}

#[test]
fn damage_is_found_at_the_start_after_an_unclean_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    {
        let registry = open(&path).unwrap();
        for n in 0..500 {
            let name = format!("group-{n}");
            wait(registry.commit(write(group(&name), None, group_record(&name)))).unwrap();
        }
    }
    // Pages of garbage, and a write-ahead log that says that nobody closed.
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let size = file.metadata().unwrap().len();
    file.write_all_at(&vec![0x5a; 8_192], size / 8_192 / 2 * 8_192).unwrap();
    std::fs::write(directory.path().join("registry.db-wal"), [0; 40]).unwrap();
    assert!(matches!(open(&path), Err(OpenError::Corrupt(_))));
}

#[test]
fn a_full_disk_keeps_nothing_of_a_change_and_is_forgiven() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let config = SqliteConfig { bytes_max: Some(200_000), ..SqliteConfig::default() };
    let registry = SqliteRegistry::open(&path, &config).unwrap();
    let mut kept = 0;
    let error = loop {
        let name = format!("group-{kept}");
        let mut change = write(group(&name), None, group_record(&"x".repeat(5_000)));
        change.decision = Some(changed("make"));
        match wait(registry.commit(change)) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, StoreError::NoSpace);
    assert!(kept > 10, "{kept}");
    assert_eq!(wait(registry.count(Kind::ConsumerGroup)), Ok(kept));
    assert_eq!(wait(registry.decisions(all_decisions())).unwrap().len() as u64, kept);
    let groups = wait(registry.list(Kind::ConsumerGroup, None, usize::MAX)).unwrap();
    assert_eq!(groups.len() as u64, kept);
    for (key, found) in groups.into_iter().take(5) {
        wait(registry.commit(write(key, Some(found.version), None))).unwrap();
    }
    wait(registry.commit(write(group("again"), None, group_record("again")))).unwrap();
    drop(registry);
    sql(&path, "PRAGMA quick_check");
}

#[test]
fn a_closed_registry_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(&directory.path().join("registry.db")).unwrap();
    let waiting = registry.record(vec![Box::new(Decision::new(Timestamp::UNIX_EPOCH, Act::Connect))]);
    registry.close();
    assert!(matches!(wait(waiting), Err(StoreError::Failed(_))));
    assert!(!directory.path().join("registry.db-wal").exists());
}

#[test]
fn one_stale_change_in_a_crowd_fails_alone() {
    let directory = tempfile::tempdir().unwrap();
    let registry = open(&directory.path().join("registry.db")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // All are queued before the first is answered, so that they share transactions.
    let answers = runtime.block_on(async {
        let mut waiting: Vec<_> = (0..100)
            .map(|n| {
                let replaces = if n % 10 == 3 { Some(1) } else { None };
                let key = group(&format!("g{n}"));
                registry.commit(write(key, replaces, group_record("g")))
            })
            .collect();
        let mut answers = Vec::new();
        std::future::poll_fn(|cx| {
            // Each is polled once, and so is in the queue.
            let mut early = Vec::new();
            waiting.retain_mut(|commit| match commit.as_mut().poll(cx) {
                std::task::Poll::Ready(answer) => {
                    early.push(answer);
                    false
                }
                std::task::Poll::Pending => true,
            });
            answers.append(&mut early);
            if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        answers
    });
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 90);
    let stale = |answer: &&Result<_, _>| matches!(answer, Err(StoreError::Stale(_)));
    assert_eq!(answers.iter().filter(stale).count(), 10);
    assert_eq!(wait(registry.count(Kind::ConsumerGroup)), Ok(90));
}

#[test]
fn a_record_that_is_damaged_is_named_and_takes_no_other_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let registry = open(&path).unwrap();
    for n in 0..10 {
        wait(registry.commit(write(group(&format!("g{n}")), None, group_record("g")))).unwrap();
    }
    drop(registry);
    sql(&path, "UPDATE records SET body = 'no JSON' WHERE owner = 'g3'");
    // JSON all the same, but not what was written.
    sql(&path, "UPDATE records SET body = replace(body, 'g', 'h') WHERE owner = 'g6'");
    let registry = open(&path).unwrap();
    let first = wait(registry.list(Kind::ConsumerGroup, None, 5)).unwrap();
    assert_eq!(first.len(), 5, "a page is full while there are more");
    let rest = wait(registry.list(Kind::ConsumerGroup, Some(first[4].0.clone()), 5)).unwrap();
    assert_eq!(rest.len(), 3);
    assert!(matches!(wait(registry.load(group("g6"))), Err(StoreError::Failed(_))));
    assert!(wait(registry.load(group("g5"))).unwrap().is_some());
    let named: Vec<_> = registry.unreadable().into_iter().map(|record| record.key.0).collect();
    assert_eq!(named, ["g3", "g6"]);
}

#[test]
fn a_copy_of_the_file_alone_has_everything_after_a_clean_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("registry.db");
    let registry = open(&path).unwrap();
    wait(registry.commit(write(group("g"), None, group_record("g")))).unwrap();
    // Somebody who reads keeps SQLite from folding its log by itself.
    let reader = rusqlite::Connection::open(&path).unwrap();
    let _: i64 = reader.query_row("SELECT count(*) FROM records", [], |row| row.get(0)).unwrap();
    registry.close();
    let copy = directory.path().join("copy.db");
    std::fs::copy(&path, &copy).unwrap();
    assert!(wait(open(&copy).unwrap().load(group("g"))).unwrap().is_some());
}
