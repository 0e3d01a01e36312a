//! A disk that is full, that fails, or that somebody else uses; and what an operator may ask of a journal.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use holdfast_store::journal::{Harm, Journal, JournalConfig, OpenError};
use hub::belongings::Loss;
use hub::ports::event_log::{AppendError, EventLog, StartPosition, Ticket};

use crate::journal_damage::{open, put, texts};
use crate::messages::message;
use crate::power::{Crash, PowerDisk};
use crate::{settle, wait};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn config() -> JournalConfig {
    let retry_after = Duration::from_millis(1);
    JournalConfig { partitions: 2, ahead_bytes: 0, retry_after, ..JournalConfig::default() }
}

fn try_put(journal: &Journal, text: &str) -> Result<Ticket, AppendError> {
    let ticket = journal.append(0, &[message("d1", 1_000, text.to_owned())])?;
    settle(journal, ticket).map(|()| ticket)
}

/// Appends until it is taken.
fn put_again(journal: &Journal, text: &str) {
    let start = Instant::now();
    while try_put(journal, text).is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "the journal does not recover");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_failed_sync_fails_its_tickets_and_what_survives_of_it_never_counts() {
    for fail_truncate in [false, true] {
        let some = (0..40).map(Crash::Random);
        for (seed, crash) in [Crash::LoseAll, Crash::KeepAll, Crash::Kill].into_iter().chain(some).enumerate()
        {
            let disk = PowerDisk::new(seed as u64);
            let journal = open(&disk, config()).unwrap();
            put(&journal, 0, "before");
            disk.set(|faults| (faults.fail_sync, faults.fail_truncate) = (Some(0), fail_truncate));
            let error = try_put(&journal, &"failed".repeat(500)).unwrap_err();
            assert!(matches!(&error, AppendError::Failed(why) if why.contains("the sync failed")), "{error}");
            assert_eq!(texts(&journal, 0), ["before"]);
            put_again(&journal, "after");
            assert_eq!(texts(&journal, 0), ["before", "after"]);
            assert_eq!(journal.recovery().segments, 0);
            let disk = disk.crash(crash);
            let journal = open(&disk, config()).unwrap();
            assert_eq!(journal.damages(), []);
            assert_eq!(journal.recovery().segments, 2, "the failed file was ended");
            assert_eq!(texts(&journal, 0), ["before", "after"]);
            put(&journal, 0, "more");
            assert_eq!(journal.bounds(0).unwrap().next_sequence, 3);
        }
    }
}

#[test]
fn nothing_overtakes_a_message_that_failed() {
    let disk = PowerDisk::new(3);
    let journal = open(&disk, JournalConfig { retry_after: DAY, ..config() }).unwrap();
    disk.set(|faults| faults.fail_sync = Some(3));
    let mut tickets = Vec::new();
    let error = loop {
        match journal.append(0, &[message("d1", 1, "x")]) {
            Ok(ticket) => tickets.push(ticket),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Failed(_)));
    let durable = tickets.iter().take_while(|ticket| settle(&journal, **ticket).is_ok()).count();
    assert!(durable < tickets.len());
    assert!(tickets[durable..].iter().all(|ticket| settle(&journal, *ticket).is_err()));
    assert_eq!(journal.bounds(0).unwrap().next_sequence, durable as u64);
}

#[test]
fn what_waited_behind_a_failure_is_not_written_later() {
    let disk = PowerDisk::new(3);
    let journal = open(&disk, config()).unwrap();
    for round in 0..20 {
        disk.set(|faults| faults.fail_sync = Some(round % 3));
        let tickets: Vec<_> =
            (0..200).map(|n| (n, journal.append(0, &[message("d1", 1, format!("{round} {n}"))]))).collect();
        let durable: Vec<_> = tickets
            .into_iter()
            .filter(|(_, ticket)| ticket.as_ref().is_ok_and(|ticket| settle(&journal, *ticket).is_ok()))
            .map(|(n, _)| format!("{round} {n}"))
            .collect();
        disk.set(|faults| faults.fail_sync = None);
        put_again(&journal, "end");
        let round = format!("{round} ");
        let texts = wait(journal.read(0, 0, usize::MAX, usize::MAX)).unwrap();
        let texts = texts.iter().map(|event| String::from_utf8(event.message.body.to_vec()).unwrap());
        assert_eq!(texts.filter(|text| text.starts_with(&round)).collect::<Vec<_>>(), durable);
    }
}

#[test]
fn a_full_disk_says_so_and_is_used_again_when_there_is_space() {
    for short_writes in [false, true] {
        let disk = PowerDisk::new(4);
        let journal = open(&disk, config()).unwrap();
        put(&journal, 0, "before");
        let used: usize = disk.files().values().map(Vec::len).sum();
        disk.set(|faults| (faults.space, faults.short_writes) = (Some(used + 500), short_writes));
        assert_eq!(try_put(&journal, &"x".repeat(2_000)).unwrap_err(), AppendError::NoSpace);
        // Even what would fit waits for the probe: the disk is not trusted with a few last bytes.
        assert_eq!(try_put(&journal, "small").unwrap_err(), AppendError::NoSpace);
        assert_eq!(texts(&journal, 0), ["before"]);
        disk.set(|faults| faults.space = None);
        put_again(&journal, "after");
        let disk = disk.crash(Crash::LoseAll);
        let journal = open(&disk, config()).unwrap();
        assert_eq!((journal.damages().len(), journal.recovery().cut), (0, None));
        assert_eq!(texts(&journal, 0), ["before", "after"]);
    }
}

#[test]
fn a_segment_that_cannot_be_begun_is_tried_again() {
    for fault in 0..3 {
        let disk = PowerDisk::new(5);
        let journal = open(&disk, JournalConfig { segment_bytes: 300, ..config() }).unwrap();
        put(&journal, 0, &"x".repeat(400));
        disk.set(|faults| match fault {
            0 => faults.fail_write = Some(0),
            1 => faults.fail_sync = Some(0),
            _ => faults.fail_name_sync = Some(0),
        });
        assert!(try_put(&journal, "failed").is_err());
        put_again(&journal, "after");
        let disk = disk.crash(Crash::LoseAll);
        let journal = open(&disk, config()).unwrap();
        assert_eq!(texts(&journal, 0)[1..], ["after"]);
        assert_eq!(journal.damages(), []);
    }
}

#[test]
fn a_full_segment_goes_on_while_there_is_no_descriptor_for_another() {
    let disk = PowerDisk::new(5);
    let journal = open(&disk, JournalConfig { segment_bytes: 300, ..config() }).unwrap();
    put(&journal, 0, &"x".repeat(400));
    disk.set(|faults| faults.no_descriptor = true);
    (0..20).for_each(|n| put(&journal, 0, &format!("{n}")));
    let segments = || disk.files().keys().filter(|name| name.ends_with(".journal")).count();
    assert_eq!(segments(), 1);
    disk.set(|faults| faults.no_descriptor = false);
    let start = Instant::now();
    while segments() == 1 {
        assert!(start.elapsed() < Duration::from_secs(10), "no new segment is begun");
        put(&journal, 0, "more");
    }
    let all = texts(&journal, 0).len();
    let disk = disk.crash(Crash::LoseAll);
    let journal = open(&disk, config()).unwrap();
    assert_eq!((texts(&journal, 0).len(), journal.damages()), (all, Vec::new()));
}

#[test]
fn what_waits_for_the_disk_is_bounded() {
    let disk = PowerDisk::new(6);
    let journal = open(&disk, JournalConfig { pending_bytes_max: 10_000, ..config() }).unwrap();
    let big = message("d1", 1, vec![0; 4_000]);
    let mut full = 0;
    let mut last = None;
    for _ in 0..20_000 {
        match journal.append(0, std::slice::from_ref(&big)) {
            Ok(ticket) => last = Some(ticket),
            Err(AppendError::Full { bytes }) => {
                assert!(bytes <= 10_000, "{bytes}");
                full += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(full > 0);
    // All or nothing: two that do not fit together are not taken at all.
    settle(&journal, last.unwrap()).unwrap();
    let before = journal.bounds(0).unwrap().next_sequence;
    let three = [big.clone(), big.clone(), big];
    let ticket = journal.append(0, &three).expect("an empty queue takes any one call");
    settle(&journal, ticket).unwrap();
    assert_eq!(journal.bounds(0).unwrap().next_sequence, before + 3);
}

#[test]
fn who_met_a_full_queue_is_woken_when_there_is_room() {
    let disk = PowerDisk::new(6);
    let journal = open(&disk, JournalConfig { pending_bytes_max: 10_000, ..config() }).unwrap();
    std::thread::scope(|scope| {
        for device in 0..8 {
            let journal = &journal;
            scope.spawn(move || {
                let big = message(&format!("d{device}"), 1, vec![0; 3_000]);
                let mut tickets = Vec::new();
                while tickets.len() < 200 {
                    match journal.append(0, std::slice::from_ref(&big)) {
                        Ok(ticket) => tickets.push(ticket),
                        Err(AppendError::Full { .. }) => {
                            wait(std::future::poll_fn(|cx| journal.poll_space(cx)))
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                tickets.into_iter().for_each(|ticket| settle(journal, ticket).unwrap());
            });
        }
    });
    assert_eq!(journal.bounds(0).unwrap().next_sequence, 1_600);
    let full = journal.append(0, &[message("d", 1, vec![0; 50_000])]).unwrap();
    journal.close();
    assert_eq!(wait(std::future::poll_fn(|cx| journal.poll_space(cx))), ());
    settle(&journal, full).unwrap();
}

#[test]
fn closing_writes_what_waits_and_refuses_the_rest() {
    let disk = PowerDisk::new(7);
    let journal = open(&disk, config()).unwrap();
    let tickets: Vec<_> = (0..50).map(|n| journal.append(0, &[message("d1", n, "x")]).unwrap()).collect();
    journal.close();
    for ticket in tickets {
        let polled = journal.poll_durable(ticket, &mut Context::from_waker(Waker::noop()));
        assert_eq!(polled, Poll::Ready(Ok(())));
    }
    assert_eq!(journal.append(0, &[message("d1", 1, "x")]), Err(AppendError::Closing));
    journal.close();
    let disk = disk.crash(Crash::LoseAll);
    let journal = open(&disk, config()).unwrap();
    assert!(journal.recovery().clean);
    assert_eq!(journal.bounds(0).unwrap().next_sequence, 50);
}

#[test]
fn readers_at_the_tail_never_touch_the_disk() {
    let disk = PowerDisk::new(8);
    let journal = open(&disk, config()).unwrap();
    let before = disk.reads();
    for n in 0..100 {
        put(&journal, 0, &format!("{n}"));
        assert_eq!(wait(journal.read(0, n, 10, 10_000)).unwrap().len(), 1);
    }
    assert_eq!(disk.reads(), before);
    assert!((100..=102).contains(&disk.syncs()), "{}", disk.syncs());
}

#[test]
fn a_journal_is_opened_once_and_with_its_own_partitions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/on/demand");
    let journal = Journal::open(&path, config()).unwrap();
    put(&journal, 1, "kept");
    assert!(matches!(Journal::open(&path, config()), Err(OpenError::Locked)));
    drop(journal);
    let other = JournalConfig { partitions: 4, ..config() };
    let error = Journal::open(&path, other).err().unwrap();
    assert!(matches!(error, OpenError::Partitions { asked: 4, found: 2 }), "{error}");
    for partitions in [0, 129] {
        let none = JournalConfig { partitions, ..config() };
        assert!(matches!(Journal::open(&path, none), Err(OpenError::PartitionCount(_))));
    }
    assert_eq!(texts(&Journal::open(&path, config()).unwrap(), 1), ["kept"]);
    use std::os::unix::fs::PermissionsExt;
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_reopened_journal_is_the_same_journal() {
    for crash in [None, Some(Crash::Kill), Some(Crash::LoseAll)] {
        let disk = PowerDisk::new(9);
        let small = JournalConfig { segment_bytes: 3_000, ..config() };
        let journal = open(&disk, small.clone()).unwrap();
        for n in 0..100_u16 {
            let message = message("d1", 1_000 - i64::from(n % 7), vec![n as u8; usize::from(n)]);
            let ticket = journal.append(n % 2, &[message]).unwrap();
            settle(&journal, ticket).unwrap();
        }
        let events =
            |journal: &Journal, partition| wait(journal.read(partition, 0, 1_000, usize::MAX)).unwrap();
        let before: Vec<_> = (0..2).map(|p| (journal.bounds(p), events(&journal, p))).collect();
        assert_eq!(before[0].1.len(), 50);
        if crash.is_none() {
            journal.close();
        }
        let disk = disk.crash(crash.unwrap_or(Crash::Kill));
        let journal = open(&disk, small).unwrap();
        assert_eq!(journal.recovery().clean, crash.is_none());
        let after: Vec<_> = (0..2).map(|p| (journal.bounds(p), events(&journal, p))).collect();
        assert_eq!(before, after);
    }
}

#[test]
fn events_go_when_they_are_old_and_their_numbers_never_come_back() {
    let disk = PowerDisk::new(10);
    let journal = open(&disk, JournalConfig { segment_bytes: 1_500, ..config() }).unwrap();
    let day = DAY.as_millis() as i64;
    for n in 0..100 {
        let ticket = journal.append(0, &[message("d1", n * 1_000, "x".repeat(100))]).unwrap();
        settle(&journal, ticket).unwrap();
    }
    let size = journal.bytes();
    assert_eq!(journal.prune(day).unwrap(), 0);
    let dropped = journal.prune(50_000 + day).unwrap();
    assert!(dropped > 2);
    assert!(journal.bytes() < size);
    let bounds = journal.bounds(0).unwrap();
    assert!((30..=50).contains(&bounds.first_sequence), "{bounds:?}");
    let first = wait(journal.read(0, 0, 1, 1)).unwrap();
    assert_eq!(first[0].sequence, bounds.first_sequence);
    for start in [
        StartPosition::Earliest,
        StartPosition::Sequence { sequence: 3, inclusive: true },
        StartPosition::Offset { offset: 3, inclusive: true },
        StartPosition::Enqueued { time: 3, inclusive: true },
    ] {
        assert_eq!(wait(journal.find(0, start)), Ok(bounds.first_sequence), "{start:?}");
    }
    // All of it.
    assert!(journal.prune(100_000 + day).unwrap() > 0);
    let empty = journal.bounds(0).unwrap();
    assert_eq!((empty.first_sequence, empty.next_sequence), (100, 100));
    assert_eq!((empty.last_offset, empty.last_enqueued), (bounds.last_offset, 99_000));
    assert_eq!(wait(journal.read(0, 0, 10, 10)).unwrap(), []);
    assert_eq!(journal.prune(200_000 + day).unwrap(), 0, "an empty journal stays as it is");
    let disk = disk.crash(Crash::LoseAll);
    let journal = open(&disk, config()).unwrap();
    assert_eq!(journal.bounds(0).unwrap().next_sequence, 100);
    assert_eq!(journal.bounds(0).unwrap().last_offset, bounds.last_offset);
    put(&journal, 0, "new");
    let new = &wait(journal.read(0, 0, 10, 10)).unwrap()[0];
    assert_eq!((new.sequence, new.stored), (100, 99_000));
}

#[test]
fn a_clock_that_goes_back_makes_no_segment_of_each_message_and_keeps_the_order() {
    let disk = PowerDisk::new(10);
    let journal = open(&disk, config()).unwrap();
    let day = DAY.as_millis() as i64;
    let times = [10 * day, 11 * day + 1].into_iter().chain((0..50).map(|n| 10 * day + n));
    for time in times {
        let ticket = journal.append(0, &[message("d1", time, "x".to_owned())]).unwrap();
        settle(&journal, ticket).unwrap();
    }
    let read = wait(journal.read(0, 0, 100, 100_000)).unwrap();
    assert_eq!(read.iter().map(|event| event.sequence).collect::<Vec<_>>(), (0..52).collect::<Vec<_>>());
    assert!(read.windows(2).all(|pair| pair[0].stored <= pair[1].stored));
    journal.close();
    drop(journal);
    let journal = open(&disk.crash(Crash::Kill), config()).unwrap();
    assert!(journal.recovery().segments <= 3, "{:?}", journal.recovery());
    assert_eq!(wait(journal.read(0, 0, 100, 100_000)).unwrap().len(), 52);
}

#[test]
fn a_journal_that_lacks_its_newest_events_opens_only_when_told_and_goes_on_behind_them() {
    let disk = PowerDisk::new(10);
    let journal = open(&disk, config()).unwrap();
    (0..5).for_each(|n| put(&journal, 0, &format!("{n}")));
    journal.close();
    let known = journal.reach();
    drop(journal);
    let empty = PowerDisk::new(11);
    let lost = Loss::Newest { partition: 0, from: 0, to: 5 };
    match open(&empty, JournalConfig { known: known.clone(), ..config() }) {
        Err(OpenError::Lost(losses)) => assert_eq!(losses, [lost]),
        other => panic!("{:?}", other.map(|journal| journal.reach())),
    }
    let journal =
        open(&empty, JournalConfig { known: known.clone(), accept_loss: true, ..config() }).unwrap();
    put(&journal, 0, "new");
    let new = &wait(journal.read(0, 0, 10, 1_000)).unwrap()[0];
    assert_eq!(new.sequence, 5, "no number is given out twice");
    assert!(new.offset > known[0].last_offset);
}

#[test]
fn a_segment_that_is_gone_is_named_at_the_start_and_by_a_scrub() {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { segment_bytes: 1_000, ..config() };
    let journal = Journal::open(directory.path(), config.clone()).unwrap();
    (0..40).for_each(|n| put(&journal, 0, &format!("{n}").repeat(50)));
    std::fs::remove_file(directory.path().join(format!("{:020}.journal", 3))).unwrap();
    let mut after = None;
    while let Some((number, bytes)) = journal.scrub(after).unwrap() {
        assert!(bytes > 0);
        after = Some(number);
    }
    let found = journal.damages();
    assert_eq!((found.len(), found[0].segment, found[0].harm), (1, 3, Harm::Missing));
    assert!(!found[0].lost.is_empty());
    drop(journal);
    let journal = Journal::open(directory.path(), config).unwrap();
    let again = journal.damages();
    assert_eq!(again.len(), 1, "{again:?}");
    assert_eq!(again[0].lost, found[0].lost);
}

#[test]
fn a_scrub_finds_a_flipped_bit_before_a_reader_does() {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { segment_bytes: 1_000, recent_bytes_max: 0, ..config() };
    let journal = Journal::open(directory.path(), config).unwrap();
    (0..40).for_each(|n| put(&journal, 0, &format!("{n}").repeat(50)));
    let path = directory.path().join(format!("{:020}.journal", 2));
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.len() - 20;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(journal.damages(), []);
    let mut after = None;
    while let Some((number, _)) = journal.scrub(after).unwrap() {
        after = Some(number);
    }
    assert_eq!(journal.damages().iter().map(|damage| damage.segment).collect::<Vec<_>>(), [2]);
}

#[test]
fn before_events_go_somebody_is_told_what_will_be_left() {
    let disk = PowerDisk::new(10);
    let journal = open(&disk, JournalConfig { segment_bytes: 1_500, ..config() }).unwrap();
    for n in 0..100 {
        let ticket = journal.append(0, &[message("d1", n * 1_000, "x".repeat(100))]).unwrap();
        settle(&journal, ticket).unwrap();
    }
    let mut told = Vec::new();
    journal.prune_telling(50_000 + DAY.as_millis() as i64, |firsts| told = firsts.to_vec()).unwrap();
    assert_eq!(told[0], journal.reach()[0].first);
    assert!(told[0] > 0);
}

#[test]
fn a_journal_keeps_to_its_size() {
    let disk = PowerDisk::new(11);
    let bounded = JournalConfig { segment_bytes: 2_000, bytes_max: Some(10_000), ..config() };
    let journal = open(&disk, bounded).unwrap();
    for _ in 0..300 {
        put(&journal, 0, &"x".repeat(200));
        journal.prune(0).unwrap();
        assert!(journal.bytes() <= 12_500, "{}", journal.bytes());
    }
    assert!(texts(&journal, 0).len() > 10);
}

#[test]
fn pruning_under_a_reader_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let config =
        JournalConfig { segment_bytes: 5_000, recent_bytes_max: 0, bytes_max: Some(20_000), ..config() };
    let journal = Arc::new(Journal::open(directory.path(), config).unwrap());
    std::thread::scope(|scope| {
        let writing = Arc::clone(&journal);
        let writer = scope.spawn(move || {
            for n in 0..1_000 {
                put(&writing, 0, &format!("{n}").repeat(20));
                if n % 10 == 0 {
                    writing.prune(0).unwrap();
                }
            }
        });
        let mut from = 0;
        while !writer.is_finished() {
            for event in wait(journal.read(0, from, 10, 10_000)).unwrap() {
                assert!(event.sequence >= from);
                from = event.sequence + 1;
            }
            let start = StartPosition::Enqueued { time: 0, inclusive: true };
            wait(journal.find(0, start)).unwrap();
        }
    });
    assert_eq!(journal.damages(), []);
}
