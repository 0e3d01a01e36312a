//! Torn tails and damage: what is cut, what is named, and that everything else is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use holdfast_store::journal::{Harm, Journal, JournalConfig, Lost, OpenError};
use hub::ports::event_log::{EventLog, StartPosition, StoredEvent};

use crate::messages::{full_message, message};
use crate::power::{Crash, Plugged, PowerDisk};
use crate::{settle, wait};

const NAME: &str = "00000000000000000000.journal";

fn config() -> JournalConfig {
    JournalConfig { partitions: 2, ahead_bytes: 0, ..JournalConfig::default() }
}

pub(crate) fn open(disk: &Arc<PowerDisk>, config: JournalConfig) -> Result<Journal, OpenError> {
    Journal::on_disk(Arc::new(Plugged(Arc::clone(disk))), config)
}

pub(crate) fn put(journal: &Journal, partition: u16, text: &str) {
    let ticket = journal.append(partition, &[message("d1", 1_000, text.to_owned())]).unwrap();
    settle(journal, ticket).unwrap();
}

pub(crate) fn texts(journal: &Journal, partition: u16) -> Vec<String> {
    let text = |event: &StoredEvent| String::from_utf8(event.message.body.to_vec()).unwrap();
    wait(journal.read(partition, 0, 1_000, usize::MAX)).unwrap().iter().map(text).collect()
}

type Files = BTreeMap<String, Vec<u8>>;

/// One batch after another, and where each begins; the process is killed at the end.
fn batches() -> (Files, Vec<usize>) {
    let disk = PowerDisk::new(1);
    let journal = open(&disk, config()).unwrap();
    let mut starts = Vec::new();
    for n in 0..5 {
        starts.push(disk.files()[NAME].len());
        put(&journal, n % 2, &format!("number {n}"));
    }
    starts.push(disk.files()[NAME].len());
    (disk.crash(Crash::Kill).files(), starts)
}

fn with(files: &Files, change: impl FnOnce(&mut Vec<u8>)) -> Arc<PowerDisk> {
    let mut files = files.clone();
    change(files.get_mut(NAME).unwrap());
    PowerDisk::with_files(1, files)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_its_number_is_free() {
    let (files, starts) = batches();
    for length in starts[4]..starts[5] {
        let disk = with(&files, |bytes| bytes.truncate(length));
        let journal = open(&disk, config()).unwrap();
        assert_eq!(journal.damages(), []);
        let cut = journal.recovery().cut.map(|cut| (cut.position as usize, cut.bytes as usize));
        // A zero at its end might as well be room ahead.
        let torn = files[NAME][starts[4]..length].iter().rposition(|byte| *byte != 0);
        assert_eq!(cut, torn.map(|last| (starts[4], last + 1)));
        assert_eq!(texts(&journal, 0), ["number 0", "number 2"]);
        assert_eq!(texts(&journal, 1), ["number 1", "number 3"]);
        put(&journal, 0, "again");
        let disk = disk.crash(Crash::LoseAll);
        assert_eq!(texts(&open(&disk, config()).unwrap(), 0), ["number 0", "number 2", "again"]);
    }
}

#[test]
fn a_tail_of_zeros_or_garbage_is_cut() {
    let (files, starts) = batches();
    for tail in [vec![0; 5_000], vec![0xf7; 300], b"\xF7HFb".repeat(100)] {
        let disk = with(&files, |bytes| bytes.extend(&tail));
        let journal = open(&disk, config()).unwrap();
        // Zeros are the room ahead of a batch, and no part of one.
        let cut = tail.iter().any(|byte| *byte != 0).then_some(starts[5]);
        assert_eq!(journal.recovery().cut.map(|cut| cut.position as usize), cut);
        assert_eq!(disk.files()[NAME].len(), starts[5]);
        assert_eq!(texts(&journal, 0), ["number 0", "number 2", "number 4"]);
    }
}

/// As on a quiet hub: batches overwrite zeros.
fn roomy() -> JournalConfig {
    JournalConfig { ahead_bytes: 4_096, ..config() }
}

#[test]
fn a_batch_that_was_torn_in_the_room_ahead_is_cut_and_its_number_is_free() {
    let (_, starts) = batches();
    let disk = PowerDisk::new(1);
    let journal = open(&disk, roomy()).unwrap();
    (0..5).for_each(|n| put(&journal, n % 2, &format!("number {n}")));
    let files = disk.crash(Crash::Kill).files();
    assert!(files[NAME].len() >= starts[0] + 4_096, "there is room ahead");
    for length in starts[4]..=starts[5] {
        let disk = with(&files, |bytes| bytes[length..].fill(0));
        let journal = open(&disk, roomy()).unwrap();
        assert_eq!(journal.damages(), []);
        let whole = files[NAME][length..starts[5]].iter().all(|byte| *byte == 0);
        let fourth: &[&str] =
            if whole { &["number 0", "number 2", "number 4"] } else { &["number 0", "number 2"] };
        assert_eq!(texts(&journal, 0), fourth, "{length}");
        assert_eq!(texts(&journal, 1), ["number 1", "number 3"]);
        put(&journal, 1, "again");
        let disk = disk.crash(Crash::LoseAll);
        assert_eq!(texts(&open(&disk, roomy()).unwrap(), 1), ["number 1", "number 3", "again"]);
    }
}

#[test]
fn a_segment_that_ends_keeps_no_room_ahead() {
    let disk = PowerDisk::new(1);
    let small = JournalConfig { segment_bytes: 1_000, ..roomy() };
    let journal = open(&disk, small.clone()).unwrap();
    (0..40).for_each(|n| put(&journal, 0, &format!("number {n}")));
    journal.close();
    let files = disk.files();
    let segments: Vec<_> = files.iter().filter(|(name, _)| name.ends_with(".journal")).collect();
    assert!(segments.len() > 2);
    for (name, bytes) in segments {
        assert!(bytes.len() < 2_000, "{name} has {} bytes", bytes.len());
    }
    let journal = open(&disk, small).unwrap();
    assert!(journal.recovery().clean);
    assert_eq!(texts(&journal, 0).len(), 40);
}

#[test]
fn any_flipped_bit_costs_one_batch_at_most_and_is_named() {
    let (files, starts) = batches();
    let batch_of = |at: usize| starts.windows(2).position(|pair| (pair[0]..pair[1]).contains(&at));
    for at in 0..files[NAME].len() {
        let disk = with(&files, |bytes| bytes[at] ^= 0x04);
        let journal = open(&disk, config()).unwrap();
        let damages = journal.damages();
        let expected = |partition: u16, without: Option<usize>| -> Vec<String> {
            let kept = (0..5).filter(|n| Some(*n) != without && n % 2 == usize::from(partition));
            kept.map(|n| format!("number {n}")).collect()
        };
        match batch_of(at) {
            // The newest batch: nobody can tell it from a torn one.
            Some(4) => {
                assert_eq!(damages, []);
                assert_eq!(journal.recovery().cut.map(|cut| cut.position as usize), Some(starts[4]));
            }
            Some(n) => {
                assert_eq!(damages.len(), 1, "byte {at}");
                let damage = &damages[0];
                assert!((starts[n]..starts[n + 1]).contains(&(damage.position as usize)));
                assert!(matches!(damage.harm, Harm::Head | Harm::Body));
                let (partition, first) = ((n % 2) as u16, (n / 2) as u64);
                assert_eq!(damage.lost, [Lost { partition, first, next: first + 1 }]);
                assert!(damage.to_string().contains("lost events: partition"), "{damage}");
            }
            None => {
                assert_eq!(damages.len(), 1, "byte {at}");
                assert_eq!((damages[0].harm, damages[0].lost.len()), (Harm::Header, 0));
            }
        }
        for partition in 0..2 {
            assert_eq!(texts(&journal, partition), expected(partition, batch_of(at)), "byte {at}");
        }
        // No number that was given is given again, unless its batch counts as torn.
        let bounds = journal.bounds(0).unwrap();
        assert_eq!(bounds.next_sequence, if batch_of(at) == Some(4) { 2 } else { 3 }, "byte {at}");
        assert_eq!(journal.bounds(1).unwrap().next_sequence, 2);
        put(&journal, 0, "more");
        let disk = disk.crash(Crash::LoseAll);
        let journal = open(&disk, config()).unwrap();
        assert_eq!(texts(&journal, 0).last().map(String::as_str), Some("more"));
        assert_eq!(journal.bounds(0).unwrap().next_sequence, bounds.next_sequence + 1);
    }
}

#[test]
fn after_an_orderly_end_even_the_newest_batch_is_damaged_and_not_torn() {
    let disk = PowerDisk::new(1);
    let journal = open(&disk, config()).unwrap();
    put(&journal, 0, "first");
    let before = disk.files()[NAME].len();
    put(&journal, 0, "second");
    let after = disk.files()[NAME].len();
    journal.close();
    let files = disk.files();
    assert!(open(&with(&files, |_| {}), config()).unwrap().recovery().clean);
    for at in before..after {
        let journal = open(&with(&files, |bytes| bytes[at] ^= 0x80), config()).unwrap();
        assert_eq!(journal.damages().len(), 1, "byte {at}");
        assert_eq!(texts(&journal, 0), ["first"]);
        assert_eq!(journal.bounds(0).unwrap().next_sequence, 2);
    }
}

#[test]
fn one_damaged_section_does_not_take_the_others_of_its_batch() {
    let disk = PowerDisk::new(1);
    let journal = open(&disk, config()).unwrap();
    // The first commit is under way while the others gather into one batch.
    let tickets: Vec<_> = (0..40)
        .map(|n| journal.append(n % 2, &[message("d1", 1, format!("text {n:02}"))]).unwrap())
        .collect();
    for ticket in tickets {
        settle(&journal, ticket).unwrap();
    }
    put(&journal, 0, "end");
    let files = disk.files();
    for n in [20, 21] {
        let text = format!("text {n}");
        let at = files[NAME].windows(7).position(|window| window == text.as_bytes()).unwrap();
        let journal = open(&with(&files, |bytes| bytes[at] ^= 1), config()).unwrap();
        assert_eq!(journal.damages().len(), 1);
        let other = (n as u16 + 1) % 2;
        assert_eq!(texts(&journal, other).iter().filter(|text| text.starts_with("text")).count(), 20);
        assert!(!texts(&journal, n as u16 % 2).contains(&text));
        assert_eq!(texts(&journal, 0).last().map(String::as_str), Some("end"));
    }
}

#[test]
fn several_damaged_stretches_are_all_passed_over() {
    let (files, starts) = batches();
    let disk = with(&files, |bytes| {
        bytes[starts[1]] ^= 1;
        bytes[starts[2] + 3] ^= 1;
        let before_fourth = starts[4] - 1;
        bytes[before_fourth] ^= 1;
    });
    let journal = open(&disk, config()).unwrap();
    assert_eq!(texts(&journal, 0), ["number 0", "number 4"]);
    assert_eq!(texts(&journal, 1), [""; 0]);
    let lost: Vec<_> = journal.damages().into_iter().flat_map(|damage| damage.lost).collect();
    assert_eq!(lost.len(), 3);
    assert_eq!(wait(journal.find(1, StartPosition::Earliest)), Ok(0));
    assert_eq!(wait(journal.find(0, StartPosition::Sequence { sequence: 1, inclusive: true })), Ok(1));
    assert_eq!(wait(journal.read(0, 1, 10, 1_000)).unwrap()[0].sequence, 2);
}

#[test]
fn damage_that_comes_while_the_journal_is_open_is_passed_over_and_named_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { recent_bytes_max: 0, ..config() };
    let journal = Journal::open(directory.path(), config).unwrap();
    for n in 0..5 {
        put(&journal, 0, &format!("number {n}"));
    }
    let path = directory.path().join(NAME);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"number 2").unwrap();
    bytes[at] ^= 1;
    // In place, as a failing medium does it.
    std::os::unix::fs::FileExt::write_all_at(
        &std::fs::OpenOptions::new().write(true).open(&path).unwrap(),
        &bytes,
        0,
    )
    .unwrap();
    for _ in 0..3 {
        assert_eq!(texts(&journal, 0), ["number 0", "number 1", "number 3", "number 4"]);
    }
    assert_eq!(journal.damages().len(), 1);
    assert_eq!(journal.damages()[0].lost, [Lost { partition: 0, first: 2, next: 3 }]);
}

#[test]
fn a_page_that_cannot_be_read_hides_nothing_but_itself() {
    let disk = PowerDisk::new(1);
    let journal = open(&disk, config()).unwrap();
    for n in 0..40 {
        put(&journal, 0, &format!("{n:02}").repeat(400));
    }
    let disk = disk.crash(Crash::Kill);
    disk.set(|faults| faults.bad_page = Some(9_000));
    let journal = open(&disk, config()).unwrap();
    let kept = texts(&journal, 0).len();
    assert!((34..40).contains(&kept), "{kept}");
    let lost: u64 =
        journal.damages().iter().flat_map(|damage| &damage.lost).map(|lost| lost.next - lost.first).sum();
    assert_eq!(lost as usize + kept, 40);
}

#[test]
fn a_device_cannot_write_a_batch_of_its_own() {
    // A message whose body is a batch of another journal, at the very place where it says that it is.
    let (files, starts) = batches();
    let batch = files[NAME][starts[2]..starts[3]].to_vec();
    let disk = PowerDisk::new(2);
    let journal = open(&disk, config()).unwrap();
    put(&journal, 0, "first");
    for _ in 0..3 {
        let body = batch.repeat(20);
        let ticket = journal.append(1, &[message("evil", 1, body)]).unwrap();
        settle(&journal, ticket).unwrap();
    }
    let files = disk.crash(Crash::Kill).files();
    let size = files[NAME].len();
    for cut in [1, 50, 3_000] {
        let journal = open(&with(&files, |bytes| bytes.truncate(size - cut)), config()).unwrap();
        assert_eq!(journal.damages(), []);
        assert_eq!(journal.bounds(0).unwrap().next_sequence, 1);
        assert_eq!(journal.bounds(1).unwrap().next_sequence, 2);
    }
}

#[test]
fn what_a_newer_program_wrote_is_an_error() {
    let (files, starts) = batches();
    // The version is the two bytes after the magic of the header, and of a batch.
    for (at, length_at) in [(8, 12), (starts[2] + 4, starts[2] + 8)] {
        let start = if at == 8 { 0 } else { starts[2] };
        let disk = with(&files, |bytes| {
            bytes[at] = 77;
            let length = u32::from_le_bytes(*bytes[length_at..].first_chunk().unwrap()) as usize;
            let crc = crc32c::crc32c(&bytes[start..start + length - 4]);
            bytes[start + length - 4..start + length].copy_from_slice(&crc.to_le_bytes());
        });
        let error = open(&disk, config()).err().unwrap();
        assert!(
            matches!(&error, OpenError::Newer { segment: 0, problem } if problem.contains("77")),
            "{error}"
        );
        assert!(disk.files() == with(&files, |_| {}).files() || disk.files()[NAME][at] == 77);
    }
}

#[test]
fn a_journal_survives_the_loss_of_its_index_files_and_a_wholly_lost_segment() {
    let disk = PowerDisk::new(1);
    let small = JournalConfig { segment_bytes: 1_000, recent_bytes_max: 0, ..config() };
    let journal = open(&disk, small.clone()).unwrap();
    for n in 0..60 {
        put(&journal, n % 2, &format!("number {n}"));
    }
    journal.append(0, &[full_message()]).unwrap();
    journal.close();
    let files = disk.files();
    let reopened = open(&PowerDisk::with_files(1, files.clone()), small.clone()).unwrap();
    assert!(reopened.recovery().segments > 5);
    assert_eq!(reopened.bounds(0).unwrap().next_sequence, 31);

    let segments_only: Files = files
        .iter()
        .filter(|(name, _)| name.ends_with(".journal"))
        .map(|(n, b)| (n.clone(), b.clone()))
        .collect();
    let journal = open(&PowerDisk::with_files(1, segments_only.clone()), small.clone()).unwrap();
    assert_eq!(journal.damages(), []);
    assert_eq!(texts(&journal, 1), (0..30).map(|n| format!("number {}", 2 * n + 1)).collect::<Vec<_>>());

    let mut lost = segments_only;
    let gone = lost.keys().nth(2).unwrap().clone();
    lost.remove(&gone);
    let journal = open(&PowerDisk::with_files(1, lost), small).unwrap();
    let kept = texts(&journal, 1);
    assert!(kept.len() < 30 && kept.len() > 20, "{}", kept.len());
    let lost: u64 = journal
        .damages()
        .iter()
        .flat_map(|d| &d.lost)
        .filter(|lost| lost.partition == 1)
        .map(|lost| lost.next - lost.first)
        .sum();
    assert_eq!(lost as usize + kept.len(), 30);
}

#[test]
fn a_segment_without_a_header_is_never_thrown_away() {
    let (files, _) = batches();
    let disk = with(&files, |bytes| bytes[..20].fill(0xee));
    let wrong = JournalConfig { partitions: 7, ..config() };
    assert!(matches!(open(&disk, wrong).err(), Some(OpenError::Partitions { asked: 7, found: 2 })));
    let journal = open(&disk.crash(Crash::Kill), config()).unwrap();
    assert_eq!(texts(&journal, 0), ["number 0", "number 2", "number 4"]);
    // Nothing in it is readable: the journal begins anew, and the file stays for whoever can make something of it.
    let disk = with(&files, |bytes| bytes.fill(0xee));
    let journal = open(&disk, config()).unwrap();
    assert_eq!(journal.damages()[0].harm, Harm::Header);
    put(&journal, 0, "new");
    assert_eq!(texts(&journal, 0), ["new"]);
    assert_eq!(disk.files()[NAME].len(), files[NAME].len());
    // A segment that was never begun is no damage.
    let mut files = files;
    files.insert("00000000000000000001.journal".into(), vec![0; 60]);
    let journal = open(&PowerDisk::with_files(1, files), config()).unwrap();
    assert_eq!(journal.damages(), []);
    put(&journal, 1, "more");
    assert_eq!(texts(&journal, 1), ["number 1", "number 3", "more"]);
}
