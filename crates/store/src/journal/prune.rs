//! Dropping what is older than the retention, a whole segment at a time.

use std::io::{self, ErrorKind};

use hub::telemetry::Millis;

use super::batch::End;
use super::segments::Segment;
use super::{Shared, segment};

impl Shared {
    /// Drops the segments whose events are all too old, and the oldest ones beyond the size bound.
    pub(super) fn prune(&self, now: Millis) -> io::Result<usize> {
        let retention = Millis::try_from(self.config.retention.as_millis()).unwrap_or(Millis::MAX);
        let oldest_kept = now.saturating_sub(retention);
        // The newest segment can go only when another one carries its numbers on.
        if self.is_wholly_older(oldest_kept) {
            self.queue.rotate();
        }
        let mut dropped = 0;
        loop {
            let table = self.segments.table();
            let bytes: u64 = table.iter().map(|segment| segment.size()).sum();
            let is_due = |next: &Segment| {
                newest(&next.starts) < oldest_kept || self.config.bytes_max.is_some_and(|max| bytes > max)
            };
            let due = match &table[..] {
                [oldest, next, ..] if is_due(next) => oldest,
                _ => break,
            };
            // The removal before this one is made durable first: after a power loss the oldest segment that is left
            // may be there again, but never with a hole after it.
            self.segments.disk.sync()?;
            let Some(first) = self.segments.forget_oldest(due.number) else { break };
            self.ends.set_firsts(&first.starts);
            self.remove_files(due.number)?;
            dropped += 1;
        }
        if dropped > 0 {
            self.segments.disk.sync()?;
        }
        Ok(dropped)
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
