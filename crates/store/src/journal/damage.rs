//! What was found damaged, by name.

use std::fmt;

use super::batch::{End, Placed};

/// Bytes of a segment that were durable once and are no longer what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The number of the segment.
    pub segment: u64,
    /// Where the damage begins in the file.
    pub position: u64,
    /// How much of the file it spans.
    pub bytes: u64,
    /// What is damaged.
    pub harm: Harm,
    /// The events that are gone, as far as the batches around the damage tell.
    pub lost: Vec<Lost>,
}

/// What part of a segment is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The header of the segment.
    Header,
    /// The head of a batch.
    Head,
    /// Records of a batch whose head is whole.
    Body,
    /// A batch that should be there is not.
    Missing,
}

/// A run of events of one partition that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    /// The partition.
    pub partition: u16,
    /// The first sequence number that is gone.
    pub first: u64,
    /// The first one after it that is not.
    pub next: u64,
}

impl Lost {
    /// What lies between two states of the partitions.
    pub(super) fn between(ends: &[End], next: &[End]) -> Vec<Self> {
        let gap = |(partition, (end, next)): (usize, (&End, &End))| {
            (end.next_sequence < next.next_sequence).then_some(Self {
                partition: partition as u16,
                first: end.next_sequence,
                next: next.next_sequence,
            })
        };
        ends.iter().zip(next).enumerate().filter_map(gap).collect()
    }

    pub(super) fn section(placed: &Placed) -> Self {
        Self {
            partition: placed.section.partition,
            first: placed.before.next_sequence,
            next: placed.next_sequence(),
        }
    }
}

impl Damage {
    /// Tells the operator.
    pub(super) fn log(&self) {
        tracing::error!(segment = self.segment, position = self.position, bytes = self.bytes, "{self}");
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.harm {
            Harm::Header => "the header of the segment is",
            Harm::Head => "the head of a batch is",
            Harm::Body => "records are",
            Harm::Missing => "a batch that should be here is gone or",
        };
        write!(
            f,
            "journal segment {}: {what} damaged at byte {} ({} bytes); ",
            self.segment, self.position, self.bytes
        )?;
        if self.lost.is_empty() {
            return f.write_str("no event is lost");
        }
        f.write_str("lost events:")?;
        for lost in &self.lost {
            write!(f, " partition {} from {} to {}", lost.partition, lost.first, lost.next - 1)?;
        }
        f.write_str("; everything else is kept")
    }
}
