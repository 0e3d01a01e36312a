//! A real process on a real disk, killed in the middle of its work.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use holdfast_store::journal::{Journal, JournalConfig};
use hub::ports::event_log::EventLog;

use crate::messages::message;
use crate::{settle, wait};

const DIRECTORY: &str = "HOLDFAST_TEST_JOURNAL";
const PRODUCERS: u16 = 4;

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: 50_000, ..JournalConfig::default() }
}

/// The process that is killed: not a test of its own, and done at once when nobody asked for it.
#[test]
fn producer_for_the_test_of_kill() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let journal = &Journal::open(Path::new(&directory), config()).unwrap();
    std::thread::scope(|scope| {
        for producer in 0..PRODUCERS {
            scope.spawn(move || {
                let mut n = journal.bounds(producer).unwrap().next_sequence;
                loop {
                    let body = format!("{producer} {n}");
                    let ticket = journal.append(producer, &[message("d1", n as i64, body.clone())]).unwrap();
                    settle(journal, ticket).unwrap();
                    // One write, so that a line is whole or not there.
                    std::io::stdout().lock().write_all(format!("\ndurable {body}\n").as_bytes()).unwrap();
                    n += 1;
                }
            });
        }
    });
}

#[test]
fn a_killed_process_loses_nothing_that_it_called_durable() {
    let directory = tempfile::tempdir().unwrap();
    let mut durable: BTreeMap<u16, u64> = BTreeMap::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "journal_kill::producer_for_the_test_of_kill", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        for line in lines.map_while(Result::ok) {
            let Some(rest) = line.strip_prefix("durable ") else { continue };
            let (producer, n) = rest.split_once(' ').unwrap();
            durable.insert(producer.parse().unwrap(), n.parse().unwrap());
            seen += 1;
            // What is in the pipe is read to its end: it was said before the kill.
            if seen == 100 + 37 * round {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let journal = Journal::open(directory.path(), config()).unwrap();
        assert_eq!(journal.damages(), []);
        for producer in 0..PRODUCERS {
            let events = wait(journal.read(producer, 0, usize::MAX, usize::MAX)).unwrap();
            let last = durable.get(&producer).copied();
            assert!(last.is_none_or(|last| events.len() as u64 > last), "{producer}: {last:?}");
            for (n, event) in events.iter().enumerate() {
                assert_eq!(event.sequence, n as u64);
                assert_eq!(event.message.body, format!("{producer} {n}"));
            }
        }
    }
    assert_eq!(durable.len(), usize::from(PRODUCERS));
}
