//! What every event log does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use holdfast_store::journal::{Journal, JournalConfig};
use holdfast_store::memory::MemoryLog;
use hub::ports::event_log::{AppendError, EventLog, ReadError, StartPosition, StoredEvent};
use hub::telemetry::Message;

use crate::messages::{full_message, message};
use crate::{settle, wait};

macro_rules! log_battery {
    ($name:ident, $make:expr) => {
        mod $name {
            use super::*;

            fn check(test: impl FnOnce(&dyn EventLog)) {
                // The second value keeps the directory of the adapter, if it has one.
                let (log, _kept) = $make;
                test(&log);
            }

            #[test]
            fn an_empty_partition_has_ends() {
                check(super::an_empty_partition_has_ends);
            }
            #[test]
            fn numbers_have_no_gaps_and_offsets_and_times_rise() {
                check(super::numbers_have_no_gaps_and_offsets_and_times_rise);
            }
            #[test]
            fn a_message_comes_back_as_it_went() {
                check(super::a_message_comes_back_as_it_went);
            }
            #[test]
            fn a_start_position_means_what_the_port_says() {
                check(super::a_start_position_means_what_the_port_says);
            }
            #[test]
            fn a_position_beyond_the_end_is_answered() {
                check(super::a_position_beyond_the_end_is_answered);
            }
            #[test]
            fn a_read_keeps_its_bounds_but_gives_at_least_one_event() {
                check(super::a_read_keeps_its_bounds_but_gives_at_least_one_event);
            }
            #[test]
            fn a_waiting_reader_is_woken_for_its_partition() {
                check(super::a_waiting_reader_is_woken_for_its_partition);
            }
            #[test]
            fn an_unknown_partition_is_an_error() {
                check(super::an_unknown_partition_is_an_error);
            }
            #[test]
            fn many_producers_keep_their_own_order() {
                check(super::many_producers_keep_their_own_order);
            }
        }
    };
}

log_battery!(memory, (MemoryLog::new(4, 100_000), ()));
log_battery!(journal, {
    let directory = tempfile::tempdir().unwrap();
    (Journal::open(directory.path(), JournalConfig::default()).unwrap(), directory)
});
// Segments of a few events and nothing in memory: every read goes to the files, and over their borders.
log_battery!(journal_in_small_segments, {
    let directory = tempfile::tempdir().unwrap();
    let config = JournalConfig { segment_bytes: 2_000, recent_bytes_max: 0, ..JournalConfig::default() };
    (Journal::open(directory.path(), config).unwrap(), directory)
});

fn put(log: &dyn EventLog, partition: u16, messages: &[Message]) {
    settle(log, log.append(partition, messages).unwrap()).unwrap();
}

fn read_all(log: &dyn EventLog, partition: u16) -> Vec<StoredEvent> {
    let mut events = Vec::new();
    let mut from = 0;
    loop {
        let more = wait(log.read(partition, from, 7, 1_000_000)).unwrap();
        let Some(last) = more.last() else { return events };
        from = last.sequence + 1;
        events.extend(more);
    }
}

fn an_empty_partition_has_ends(log: &dyn EventLog) {
    let bounds = log.bounds(1).unwrap();
    assert_eq!((bounds.first_sequence, bounds.next_sequence), (0, 0));
    assert_eq!((bounds.last_offset, bounds.last_enqueued), (None, 0));
    assert_eq!(wait(log.find(1, StartPosition::Earliest)), Ok(0));
    assert_eq!(wait(log.find(1, StartPosition::Latest)), Ok(0));
    assert_eq!(wait(log.find(1, StartPosition::Enqueued { time: 5, inclusive: true })), Ok(0));
    assert_eq!(wait(log.read(1, 0, 10, 1_000)), Ok(vec![]));
}

fn numbers_have_no_gaps_and_offsets_and_times_rise(log: &dyn EventLog) {
    for n in 0..50 {
        // The clock jumps back and forth.
        let time = 1_000 + if n % 3 == 0 { 500 } else { n };
        put(log, (n % 4) as u16, &[message("d1", time, vec![n as u8; 40])]);
    }
    put(log, 2, &[message("d1", 5, "a"), message("d2", 2_000, "b"), message("d1", 7, "c")]);
    for partition in 0..4 {
        let events = read_all(log, partition);
        let sequences: Vec<_> = events.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (0..events.len() as u64).collect::<Vec<_>>());
        assert!(events.is_sorted_by(|a, b| a.offset < b.offset && a.stored <= b.stored));
        assert!(events.iter().all(|event| event.stored >= event.message.enqueued));
        let bounds = log.bounds(partition).unwrap();
        let last = events.last().unwrap();
        assert_eq!(bounds.next_sequence, last.sequence + 1);
        assert_eq!(bounds.last_offset, Some(last.offset));
        assert_eq!(bounds.last_enqueued, last.stored);
    }
}

fn a_message_comes_back_as_it_went(log: &dyn EventLog) {
    let messages =
        [full_message(), message("d1", -3, ""), message("d1", 9, vec![7; 262_144]), full_message()];
    put(log, 3, &messages);
    let back: Vec<_> = read_all(log, 3).into_iter().map(|event| event.message).collect();
    assert_eq!(back, messages);
}

fn a_start_position_means_what_the_port_says(log: &dyn EventLog) {
    for n in 0..200 {
        // Ten events share each time.
        put(log, 0, &[message("d1", 1_000 * (n / 10), vec![0; 30])]);
    }
    let events = read_all(log, 0);
    assert_eq!(wait(log.find(0, StartPosition::Earliest)), Ok(0));
    assert_eq!(wait(log.find(0, StartPosition::Latest)), Ok(200));
    for event in &events {
        let (sequence, offset) = (event.sequence, event.offset);
        let find = |start| wait(log.find(0, start)).unwrap();
        assert_eq!(find(StartPosition::Sequence { sequence, inclusive: true }), sequence);
        assert_eq!(find(StartPosition::Sequence { sequence, inclusive: false }), sequence + 1);
        assert_eq!(find(StartPosition::Offset { offset, inclusive: true }), sequence);
        assert_eq!(find(StartPosition::Offset { offset, inclusive: false }), sequence + 1);
        let time = event.stored;
        assert_eq!(find(StartPosition::Enqueued { time, inclusive: true }), sequence / 10 * 10);
        assert_eq!(find(StartPosition::Enqueued { time, inclusive: false }), sequence / 10 * 10 + 10);
        assert_eq!(find(StartPosition::Enqueued { time: time - 1, inclusive: false }), sequence / 10 * 10);
        let next = wait(log.read(0, sequence, 1, 1)).unwrap();
        assert_eq!(next, std::slice::from_ref(event));
    }
    // Offsets between those of two events.
    let between = events[7].offset + 1;
    for inclusive in [true, false] {
        assert_eq!(wait(log.find(0, StartPosition::Offset { offset: between, inclusive })), Ok(8));
    }
}

fn a_position_beyond_the_end_is_answered(log: &dyn EventLog) {
    let offset = |offset| StartPosition::Offset { offset, inclusive: true };
    let first = |inclusive| wait(log.find(2, StartPosition::Sequence { sequence: 0, inclusive }));
    assert_eq!(first(true), Ok(0), "an empty partition is read from its first event on");
    assert_eq!(first(false), Err(ReadError::SequenceBeyondEnd { asked: 0, last: -1 }));
    assert_eq!(wait(log.find(2, offset(0))), Err(ReadError::OffsetBeyondEnd { asked: 0, last: -1 }));
    put(log, 2, &[message("d1", 10, "a"), message("d1", 20, "b")]);
    let last = log.bounds(2).unwrap().last_offset.unwrap();
    assert_eq!(wait(log.find(2, offset(last))), Ok(1));
    let beyond = ReadError::OffsetBeyondEnd { asked: last + 1, last: last as i64 };
    assert_eq!(wait(log.find(2, offset(last + 1))), Err(beyond));
    let sequence = |sequence, inclusive| wait(log.find(2, StartPosition::Sequence { sequence, inclusive }));
    assert_eq!((sequence(1, false), sequence(2, true)), (Ok(2), Ok(2)), "the end is a position");
    let beyond = |asked| Err(ReadError::SequenceBeyondEnd { asked, last: 1 });
    assert_eq!((sequence(2, false), sequence(3, true)), (beyond(2), beyond(3)));
    assert_eq!(sequence(u64::MAX, false), beyond(u64::MAX));
    assert_eq!(wait(log.find(2, StartPosition::Enqueued { time: 21, inclusive: true })), Ok(2));
    assert_eq!(wait(log.read(2, 99, 10, 1_000)), Ok(vec![]));
}

fn a_read_keeps_its_bounds_but_gives_at_least_one_event(log: &dyn EventLog) {
    let messages: Vec<_> = (0..40).map(|n| message("d1", n, vec![1; 1_000])).collect();
    put(log, 1, &messages);
    let read = |events, bytes| wait(log.read(1, 5, events, bytes)).unwrap();
    assert_eq!(read(10, 1_000_000).len(), 10);
    assert_eq!(read(10, 1_000_000)[0].sequence, 5);
    assert_eq!(read(100, 0).len(), 1);
    assert!((2..6).contains(&read(100, 3_000).len()));
    assert_eq!(read(100, 1_000_000).len(), 35);
    assert_eq!(read(0, 1_000_000).len(), 0);
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn a_waiting_reader_is_woken_for_its_partition(log: &dyn EventLog) {
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let cx = &mut Context::from_waker(&waker);
    put(log, 0, &[message("d1", 1, "a")]);
    assert_eq!(log.poll_readable(0, 0, cx), Poll::Ready(()));
    assert_eq!(log.poll_readable(0, 1, cx), Poll::Pending);
    assert_eq!(log.poll_readable(0, 1, cx), Poll::Pending);
    put(log, 1, &[message("d1", 1, "a")]);
    assert_eq!(count.0.load(Ordering::SeqCst), 0);
    put(log, 0, &[message("d1", 1, "b")]);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert_eq!(log.poll_readable(0, 1, cx), Poll::Ready(()));
}

fn an_unknown_partition_is_an_error(log: &dyn EventLog) {
    assert_eq!(log.partition_count(), 4);
    assert_eq!(log.bounds(4), None);
    assert_eq!(log.append(4, &[message("d1", 1, "a")]).err(), Some(AppendError::NoPartition(4)));
    assert_eq!(wait(log.read(4, 0, 1, 1)), Err(ReadError::NoPartition(4)));
    assert_eq!(wait(log.find(4, StartPosition::Earliest)), Err(ReadError::NoPartition(4)));
    assert_eq!(log.poll_readable(4, 0, &mut Context::from_waker(Waker::noop())), Poll::Ready(()));
}

fn many_producers_keep_their_own_order(log: &dyn EventLog) {
    std::thread::scope(|scope| {
        for device in 0..8_u16 {
            scope.spawn(move || {
                let mut tickets = Vec::new();
                for n in 0..100_u32 {
                    let message = message(&format!("d{device}"), 0, n.to_le_bytes().to_vec());
                    tickets.push(log.append(device % 4, &[message]).unwrap());
                    if n % 10 == 0 {
                        settle(log, tickets[tickets.len() - 1]).unwrap();
                    }
                }
                assert!(tickets.is_sorted_by(|a, b| a.position < b.position));
                settle(log, tickets[99]).unwrap();
            });
        }
    });
    for device in 0..8_u16 {
        let sent: Vec<_> = read_all(log, device % 4)
            .into_iter()
            .filter(|event| event.message.sender.identity.device.as_str() == format!("d{device}"))
            .map(|event| u32::from_le_bytes(event.message.body[..].try_into().unwrap()))
            .collect();
        assert_eq!(sent, (0..100).collect::<Vec<_>>(), "device {device}");
    }
}
