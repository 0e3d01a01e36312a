//! Random operations, faults and crashes against a model of what must hold:
//!
//! - what was acknowledged, and what a reader saw, is there after every crash, under the same sequence number;
//! - numbers have no gaps, no message is there twice, and the messages of a device are in the order it sent them;
//! - no reader sees a message whose ticket failed, unless a crash came between.
//!
//! The journal's thread runs freely, so a seed fixes the operations and not their timing: the model holds for any.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use holdfast_store::journal::{Journal, JournalConfig};
use hub::ports::event_log::{EventLog, StoredEvent, Ticket};

use crate::messages::message;
use crate::power::{Crash, Plugged, PowerDisk, Random};
use crate::{settle, wait};

const PARTITIONS: u16 = 3;

struct Model {
    disk: Arc<PowerDisk>,
    journal: Journal,
    random: Random,
    next_id: u64,
    open: Vec<(Ticket, Vec<u64>)>,
    /// Acknowledged messages, by partition.
    acknowledged: Vec<BTreeSet<u64>>,
    /// What a reader saw: by partition, the message under each sequence number.
    seen: Vec<BTreeMap<u64, u64>>,
    /// Messages whose tickets failed since the last start.
    failed: BTreeSet<u64>,
    /// The first number that pruning has left, by partition.
    first: Vec<u64>,
}

fn config() -> JournalConfig {
    JournalConfig {
        partitions: PARTITIONS,
        segment_bytes: 6_000,
        recent_bytes_max: 3_000,
        retry_after: Duration::from_millis(1),
        ..JournalConfig::default()
    }
}

fn open(disk: &Arc<PowerDisk>) -> Journal {
    Journal::on_disk(Arc::new(Plugged(Arc::clone(disk))), config()).unwrap()
}

fn id(event: &StoredEvent) -> u64 {
    u64::from_le_bytes(*event.message.body.first_chunk().unwrap())
}

impl Model {
    fn new(seed: u64) -> Self {
        let disk = PowerDisk::new(seed);
        let journal = open(&disk);
        Self {
            disk,
            journal,
            random: Random(seed ^ 0x5eed),
            next_id: 0,
            open: vec![],
            acknowledged: vec![BTreeSet::new(); PARTITIONS.into()],
            seen: vec![BTreeMap::new(); PARTITIONS.into()],
            failed: BTreeSet::new(),
            first: vec![0; PARTITIONS.into()],
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..50 => self.append(),
            50..65 => self.settle_all(),
            65..80 => self.read_some(),
            80..88 => self.go_wrong(),
            88..91 => self.disk.set(|faults| *faults = Default::default()),
            91..93 => self.prune(),
            93..95 => self.reopen_in_order(),
            _ => self.crash(),
        }
    }

    fn append(&mut self) {
        let device = self.random.below(7);
        let partition = (device % u64::from(PARTITIONS)) as u16;
        let count = 1 + self.random.below(4);
        let ids: Vec<u64> = (self.next_id..self.next_id + count).collect();
        self.next_id += count;
        let messages: Vec<_> = ids
            .iter()
            .map(|id| {
                let mut body = id.to_le_bytes().to_vec();
                body.resize(8 + self.random.below(400) as usize, *id as u8);
                message(&format!("d{device}"), (*id as i64) * 10 - self.random.below(30) as i64, body)
            })
            .collect();
        if let Ok(ticket) = self.journal.append(partition, &messages) {
            self.open.push((ticket, ids));
        }
    }

    fn settle_all(&mut self) {
        for (ticket, ids) in std::mem::take(&mut self.open) {
            let partition = usize::from(ticket.partition);
            if settle(&self.journal, ticket).is_ok() {
                self.acknowledged[partition].extend(ids);
            } else {
                assert!(
                    !self.seen[partition].values().any(|seen| ids.contains(seen)),
                    "a failed message was read"
                );
                self.failed.extend(ids);
            }
        }
    }

    fn read_some(&mut self) {
        let partition = self.random.below(PARTITIONS.into()) as u16;
        let bounds = self.journal.bounds(partition).unwrap();
        let from = self.random.below(bounds.next_sequence + 2);
        let (events_max, bytes_max) = (self.random.below(20) as usize, self.random.below(5_000) as usize);
        for event in wait(self.journal.read(partition, from, events_max, bytes_max)).unwrap() {
            assert!(event.sequence >= from);
            self.see(partition, &event);
        }
    }

    fn see(&mut self, partition: u16, event: &StoredEvent) {
        assert!(!self.failed.contains(&id(event)), "a failed message was read");
        let before = self.seen[usize::from(partition)].insert(event.sequence, id(event));
        assert!(before.is_none_or(|before| before == id(event)), "a number was given to two messages");
    }

    fn go_wrong(&mut self) {
        let when = self.random.below(4) as u32;
        let what = self.random.below(6);
        let used: usize = self.disk.files().values().map(Vec::len).sum();
        let space = used + self.random.below(3_000) as usize;
        self.disk.set(|faults| match what {
            0 => faults.fail_sync = Some(when),
            1 => faults.fail_write = Some(when),
            2 => faults.fail_name_sync = Some(when),
            3 => faults.short_writes = true,
            4 => faults.space = Some(space),
            _ => faults.fail_truncate = true,
        });
    }

    fn prune(&mut self) {
        // All that is half as old as the newest message, which is about one segment in two.
        let now = (self.next_id as i64) * 5 + 24 * 60 * 60 * 1000;
        // A disk with a fault may keep the file: it is only space.
        let _ = self.journal.prune(now);
        for partition in 0..PARTITIONS {
            let first = self.journal.bounds(partition).unwrap().first_sequence;
            let known = &mut self.first[usize::from(partition)];
            assert!(first >= *known);
            *known = first;
        }
    }

    fn reopen_in_order(&mut self) {
        self.disk.set(|faults| *faults = Default::default());
        self.journal.close();
        self.settle_all();
        self.disk = self.disk.crash(Crash::LoseAll);
        self.restart();
    }

    fn crash(&mut self) {
        if self.random.once_in(2) {
            // Some are acknowledged before, some are in flight.
            let keep = self.random.below(self.open.len() as u64 + 1) as usize;
            let later = self.open.split_off(keep);
            self.settle_all();
            self.open = later;
        }
        let crash = match self.random.below(5) {
            0 => Crash::Kill,
            1 => Crash::LoseAll,
            2 => Crash::KeepAll,
            _ => Crash::Random(self.random.next()),
        };
        self.disk = self.disk.crash(crash);
        self.open.clear();
        self.restart();
        if self.random.once_in(3) {
            // What this start showed to readers must survive a power loss right after it.
            self.disk = self.disk.crash(Crash::LoseAll);
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.journal = open(&self.disk);
        self.failed.clear();
        assert_eq!(self.journal.damages(), []);
        self.check();
    }

    fn check(&mut self) {
        for partition in 0..PARTITIONS {
            let at = usize::from(partition);
            let bounds = self.journal.bounds(partition).unwrap();
            // A removed file may come back with a power loss, and only that.
            assert!(bounds.first_sequence <= self.first[at]);
            self.first[at] = bounds.first_sequence;
            let mut events = Vec::new();
            let mut from = bounds.first_sequence;
            while from < bounds.next_sequence {
                let more = wait(self.journal.read(partition, from, 50, 10_000)).unwrap();
                assert_eq!(more.first().map(|event| event.sequence), Some(from), "a gap");
                from = more.last().unwrap().sequence + 1;
                events.extend(more);
            }
            assert!(events.windows(2).all(|pair| pair[0].sequence + 1 == pair[1].sequence));
            assert!(events.is_sorted_by(|a, b| a.offset < b.offset && a.stored <= b.stored));
            for event in &events {
                self.see(partition, event);
            }
            let ids: BTreeSet<_> = events.iter().map(id).collect();
            assert_eq!(ids.len(), events.len(), "a message is there twice");
            for (sequence, seen) in self.seen[at].range(bounds.first_sequence..) {
                assert!(ids.contains(seen), "message {seen}, which was read as number {sequence}, is gone");
            }
            // Pruned are those before the first that is left; only what a reader saw is known to be one of them.
            let pruned: BTreeSet<_> =
                self.seen[at].range(..bounds.first_sequence).map(|(_, id)| *id).collect();
            let oldest = ids.first().copied().unwrap_or(u64::MAX);
            for acknowledged in &self.acknowledged[at] {
                let may_be_pruned = bounds.first_sequence > 0
                    && (pruned.contains(acknowledged) || *acknowledged < oldest || ids.is_empty());
                assert!(ids.contains(acknowledged) || may_be_pruned, "acknowledged {acknowledged} is gone");
            }
            for device in 0..7 {
                let name = format!("d{device}");
                let sent: Vec<_> = events
                    .iter()
                    .filter(|event| event.message.sender.identity.device.as_str() == name)
                    .map(id)
                    .collect();
                assert!(sent.is_sorted(), "the messages of {name} changed places: {sent:?}");
            }
        }
    }
}

#[test]
fn nothing_acknowledged_or_read_is_ever_lost_doubled_or_reordered() {
    // Another seed: JOURNAL_SEED=n. More of them: JOURNAL_SEEDS=n.
    let variable = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let first: u64 = variable("JOURNAL_SEED").unwrap_or(1);
    let count = variable("JOURNAL_SEEDS").unwrap_or(60);
    for seed in first..first + count {
        let run = std::panic::catch_unwind(|| {
            let mut model = Model::new(seed);
            for _ in 0..200 {
                model.step();
            }
            model.crash();
        });
        if let Err(panic) = run {
            eprintln!("JOURNAL_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
