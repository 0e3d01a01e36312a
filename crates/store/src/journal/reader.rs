//! Finding and reading events: from memory at the tail, from the segments further back.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use bytes::Bytes;
use hub::ports::event_log::{ReadError, StartPosition, StoredEvent};

use super::Shared;
use super::batch::Placed;
use super::damage::{Damage, Harm, Lost};
use super::index::Target;
use super::scan::ScanError;
use super::section::{Events, Sighted};
use super::segments::Segment;
use super::walk::{Step, Walk, WalkError};

/// What a reader asked for, and what it got so far.
struct Batch {
    from: u64,
    events_max: usize,
    bytes_left: usize,
    events: Vec<StoredEvent>,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.events.len() >= self.events_max || (self.bytes_left == 0 && !self.events.is_empty())
    }

    /// Takes what is wanted of a section, up to `end`. Returns whether a record was unreadable.
    fn take(&mut self, placed: &Placed, bytes: Bytes, end: u64) -> bool {
        let mut unreadable = false;
        let mut events = Events::new(placed, bytes);
        while !self.is_full()
            && let Some(sighted) = events.sight()
        {
            let event = match sighted {
                Ok(sighted) if sighted.sequence < self.from => continue,
                Ok(sighted) if sighted.sequence >= end => break,
                Ok(sighted) => {
                    self.bytes_left = self.bytes_left.saturating_sub(sighted.bytes);
                    events.read(sighted)
                }
                Err(error) => Err(error),
            };
            match event {
                Ok(event) => self.events.push(event),
                Err(error) => {
                    tracing::error!(partition = placed.section.partition, %error, "a journal record is unreadable");
                    unreadable = true;
                }
            }
        }
        unreadable
    }
}

impl Shared {
    /// Serves a read from memory, or says that the files must be read.
    pub(super) fn read_recent(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Option<Vec<StoredEvent>>, ReadError> {
        let next = self.ends.next_sequence(partition).ok_or(ReadError::NoPartition(partition))?;
        // What is pruned may still be in memory.
        let from = from.max(self.ends.first_sequence(partition).unwrap_or_default());
        if from >= next || events_max == 0 {
            return Ok(Some(Vec::new()));
        }
        let Some(sections) = self.recent.sections(partition, from, events_max, bytes_max) else {
            return Ok(None);
        };
        let mut batch = Batch { from, events_max, bytes_left: bytes_max, events: Vec::new() };
        for (placed, bytes) in sections {
            batch.take(&placed, bytes, next);
        }
        Ok(Some(batch.events))
    }

    /// Serves a read from the files.
    pub(super) fn read_files(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEvent>, ReadError> {
        let first = self.ends.first_sequence(partition).ok_or(ReadError::NoPartition(partition))?;
        let next = self.ends.next_sequence(partition).unwrap_or_default();
        let mut batch =
            Batch { from: from.max(first), events_max, bytes_left: bytes_max, events: Vec::new() };
        while batch.from < next && !batch.is_full() {
            let target = Target::Sequence(batch.from);
            let Some((segment, after)) = self.segments.holding(partition, target) else { break };
            let end = segment_end(partition, after.as_deref(), next);
            let visit = self.visit(partition, target, &segment, after.as_deref(), |placed, bytes| {
                if placed.before.next_sequence >= end {
                    return Flow::Stop;
                }
                if placed.next_sequence() > batch.from {
                    batch.take(placed, bytes, end);
                }
                if batch.is_full() { Flow::Stop } else { Flow::Go }
            });
            match visit {
                Ok(()) => batch.from = end,
                // Pruned between looking and opening: go on with what is left.
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_pruned(&segment) => {
                    batch.from = batch.from.max(self.ends.first_sequence(partition).unwrap_or(next));
                }
                Err(error) => return Err(ReadError::Failed(error.to_string())),
            }
        }
        Ok(batch.events)
    }

    /// The number of the first event to read for a start position; looks into the files where it must.
    pub(super) fn find_start(&self, partition: u16, start: StartPosition) -> Result<u64, ReadError> {
        let bounds = self.ends.bounds(partition).ok_or(ReadError::NoPartition(partition))?;
        let target = match start {
            StartPosition::Earliest => return Ok(bounds.first_sequence),
            StartPosition::Latest => return Ok(bounds.next_sequence),
            StartPosition::Sequence { sequence, inclusive } => {
                return bounds.find_sequence(sequence, inclusive);
            }
            StartPosition::Offset { offset, .. } if bounds.last_offset.is_none_or(|last| offset > last) => {
                let last = bounds.last_offset.map_or(-1, |last| i64::try_from(last).unwrap_or(i64::MAX));
                return Err(ReadError::OffsetBeyondEnd { asked: offset, last });
            }
            StartPosition::Offset { offset, inclusive: true } => Target::Offset(offset),
            StartPosition::Offset { offset, inclusive: false } => Target::Offset(offset.saturating_add(1)),
            StartPosition::Enqueued { time, inclusive: true } => Target::Time(time),
            StartPosition::Enqueued { time, inclusive: false } => Target::Time(time.saturating_add(1)),
        };
        let sequence = self.find_target(partition, target, bounds.next_sequence)?;
        Ok(sequence.clamp(bounds.first_sequence, bounds.next_sequence))
    }

    fn find_target(&self, partition: u16, target: Target, next: u64) -> Result<u64, ReadError> {
        loop {
            let Some((segment, after)) = self.segments.holding(partition, target) else { return Ok(next) };
            let end = segment_end(partition, after.as_deref(), next);
            let mut found = None;
            let visit = self.visit(partition, target, &segment, after.as_deref(), |placed, bytes| {
                found = first_met(target, placed, bytes);
                if found.is_some() || placed.before.next_sequence >= end { Flow::Stop } else { Flow::Go }
            });
            match visit {
                // All events of the segment lie before the target, and all of the next one do not.
                Ok(()) => return Ok(found.unwrap_or(end).min(end)),
                Err(error) if error.kind() == ErrorKind::NotFound && self.is_pruned(&segment) => {}
                Err(error) => return Err(ReadError::Failed(error.to_string())),
            }
        }
    }

    fn is_pruned(&self, segment: &Segment) -> bool {
        !self.segments.table().iter().any(|left| left.number == segment.number)
    }

    /// Visits the good sections of one partition in one segment, from about the target on.
    fn visit(
        &self,
        partition: u16,
        target: Target,
        segment: &Segment,
        after: Option<&Segment>,
        mut visitor: impl FnMut(&Placed, Bytes) -> Flow,
    ) -> io::Result<()> {
        let opened = self.segments.open(segment, after).map_err(unwrap_scan)?;
        let Some(position) = super::lock(&opened.index).position(partition, target) else { return Ok(()) };
        let file = Arc::clone(&opened.file);
        let mut walk = Walk::new(file, segment.salt, Some(segment.starts.len()), position, segment.size());
        // Where the partition stood after the last good head.
        let mut end: Option<u64> = None;
        let mut damaged: Option<(u64, u64)> = None;
        loop {
            let head = match walk.step().map_err(unwrap_walk)? {
                Step::Batch(head) => head,
                Step::Damaged { position, bytes } => {
                    damaged = Some((position, bytes));
                    continue;
                }
                // In a sealed file: what a failure left behind, or damage that the scan of the segment names.
                Step::Tail { .. } | Step::End => return Ok(()),
            };
            if let Some((position, bytes)) = damaged.take() {
                let now = head.ends[usize::from(partition)].next_sequence;
                let lost = end.filter(|end| *end < now).map(|first| Lost { partition, first, next: now });
                let lost = lost.into_iter().collect();
                self.report(Damage { segment: segment.number, position, bytes, harm: Harm::Head, lost });
            }
            for placed in head.placed().filter(|placed| placed.section.partition == partition) {
                match walk.section(&placed).map_err(unwrap_walk)? {
                    Some(bytes) => match visitor(&placed, bytes) {
                        Flow::Go => {}
                        Flow::Stop => return Ok(()),
                    },
                    None => self.report(Damage {
                        segment: segment.number,
                        position: placed.position,
                        bytes: placed.section.bytes.into(),
                        harm: Harm::Body,
                        lost: vec![Lost::section(&placed)],
                    }),
                }
            }
            end = Some(head.ends_after()[usize::from(partition)].next_sequence);
        }
    }
}

enum Flow {
    Go,
    Stop,
}

/// The number of the event after the last one that a segment holds of a partition.
fn segment_end(partition: u16, after: Option<&Segment>, next: u64) -> u64 {
    after.map_or(next, |after| after.starts[usize::from(partition)].next_sequence)
}

fn first_met(target: Target, placed: &Placed, bytes: Bytes) -> Option<u64> {
    let mut events = Events::new(placed, bytes);
    let met = |event: &Sighted| target.met_by(event.sequence, event.offset, event.stored);
    std::iter::from_fn(|| events.sight()).flatten().find(met).map(|event| event.sequence)
}

fn unwrap_scan(error: ScanError) -> io::Error {
    match error {
        ScanError::Io(error) => error,
        ScanError::Walk { source, .. } => unwrap_walk(source),
    }
}

fn unwrap_walk(error: WalkError) -> io::Error {
    match error {
        WalkError::Io(error) => error,
        newer @ WalkError::Newer { .. } => io::Error::new(ErrorKind::Unsupported, newer.to_string()),
    }
}
