//! The sections committed last, kept in memory so that a reader at the tail never touches the disk.

use std::collections::VecDeque;
use std::sync::Mutex;

use bytes::Bytes;

use super::batch::Placed;
use super::lock;

/// The newest sections of each partition, without gaps, up to so many bytes in all.
#[derive(Debug)]
pub(super) struct Recent {
    state: Mutex<State>,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    partitions: Vec<VecDeque<(Placed, Bytes)>>,
    /// The partition and size of each section kept, oldest first.
    order: VecDeque<(u16, usize)>,
    bytes: usize,
}

impl Recent {
    pub(super) fn new(partitions: usize, bytes_max: usize) -> Self {
        let state = State { partitions: vec![VecDeque::new(); partitions], order: VecDeque::new(), bytes: 0 };
        Self { state: Mutex::new(state), bytes_max }
    }

    /// Keeps the sections of one batch.
    pub(super) fn push(&self, sections: impl Iterator<Item = (Placed, Bytes)>) {
        let mut state = lock(&self.state);
        for (placed, bytes) in sections {
            let partition = placed.section.partition;
            let kept = bytes.len() + ENTRY_BYTES;
            state.partitions[usize::from(partition)].push_back((placed, bytes));
            state.order.push_back((partition, kept));
            state.bytes += kept;
        }
        while state.bytes > self.bytes_max
            && let Some((partition, kept)) = state.order.pop_front()
        {
            state.partitions[usize::from(partition)].pop_front();
            state.bytes -= kept;
        }
    }

    /// The sections that hold what is at or after a sequence number, up to about so many events and bytes; `None` when
    /// some of it may be older than what is kept.
    pub(super) fn sections(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Option<Vec<(Placed, Bytes)>> {
        let state = lock(&self.state);
        let kept = state.partitions.get(usize::from(partition))?;
        if kept.front()?.0.before.next_sequence > from {
            return None;
        }
        let at = kept.partition_point(|(placed, _)| placed.next_sequence() <= from);
        let mut bytes = 0;
        let end = from.saturating_add(events_max as u64);
        let mut sections = Vec::new();
        for (placed, section) in kept.range(at..) {
            sections.push((*placed, section.clone()));
            // The first section may be wanted from its last event on only.
            if sections.len() > 1 {
                bytes += section.len();
            }
            if bytes >= bytes_max || placed.next_sequence() >= end {
                break;
            }
        }
        Some(sections)
    }
}

/// What a section costs beside its bytes.
const ENTRY_BYTES: usize = 256;
