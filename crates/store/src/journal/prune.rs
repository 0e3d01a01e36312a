//! Dropping what is older than the retention, a whole segment at a time.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use hub::telemetry::Millis;

use super::batch::End;
use super::segments::Segment;
use super::{Shared, segment};

impl Shared {
    /// Drops the segments whose events are all too old, and the oldest ones beyond the size bound. Before the first one goes,
    /// somebody is told of the first numbers that will be left.
    pub(super) fn prune(&self, now: Millis, tell: impl FnOnce(&[u64])) -> io::Result<usize> {
        let retention = Millis::try_from(self.config.retention.as_millis()).unwrap_or(Millis::MAX);
        let oldest_kept = now.saturating_sub(retention);
        // The newest segment can go only when another one carries its numbers on.
        if self.is_wholly_older(oldest_kept) {
            self.queue.rotate();
        }
        let table = self.segments.table();
        let due = self.due(&table, oldest_kept);
        if due > 0 {
            let firsts: Vec<u64> = table[due].starts.iter().map(|start| start.next_sequence).collect();
            tell(&firsts);
        }
        let mut dropped = 0;
        for segment in &table[..due] {
            // The removal before this one is made durable first: after a power loss the oldest segment that is left
            // may be there again, but never with a hole after it.
            self.segments.disk.sync()?;
            let Some(first) = self.segments.forget_oldest(segment.number) else { break };
            self.ends.set_firsts(&first.starts);
            self.remove_files(segment.number)?;
            dropped += 1;
        }
        if dropped > 0 {
            self.segments.disk.sync()?;
        }
        Ok(dropped)
    }

    /// How many of the oldest segments are to go. The newest one stays, to carry the numbers on.
    fn due(&self, table: &[Arc<Segment>], oldest_kept: Millis) -> usize {
        let mut bytes: u64 = table.iter().map(|segment| segment.size()).sum();
        let is_due = |pair: &&[Arc<Segment>]| {
            let is_due =
                newest(&pair[1].starts) < oldest_kept || self.config.bytes_max.is_some_and(|max| bytes > max);
            bytes -= pair[0].size();
            is_due
        };
        table.windows(2).take_while(is_due).count()
    }

    /// Whether there are events, and none of them is young enough to be kept.
    fn is_wholly_older(&self, oldest_kept: Millis) -> bool {
        let all = || (0..self.config.partitions).filter_map(|partition| self.ends.bounds(partition));
        all().any(|bounds| bounds.first_sequence < bounds.next_sequence)
            && all().all(|bounds| bounds.last_offset.is_none() || bounds.last_enqueued < oldest_kept)
    }

    fn remove_files(&self, number: u64) -> io::Result<()> {
        self.segments.disk.remove(&segment::name(number))?;
        match self.segments.disk.remove(&segment::index_name(number)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// The time of the newest event before a segment began.
fn newest(starts: &[End]) -> Millis {
    let held = starts.iter().filter(|start| start.next_sequence > 0);
    held.map(|start| start.last_time).max().unwrap_or(Millis::MIN)
}
