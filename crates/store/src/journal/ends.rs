//! Where the partitions stand durably, and the readers that wait for more.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use hub::ports::event_log::Bounds;

use super::batch::End;
use super::lock;

/// The durable ends of all partitions.
#[derive(Debug)]
pub(super) struct Ends {
    partitions: Vec<Partition>,
}

#[derive(Debug)]
struct Partition {
    /// `end.next_sequence` of the state, to be read without the lock.
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    first_sequence: u64,
    end: End,
    waiting: Vec<(u64, Waker)>,
}

/// How many wakers one partition keeps. Beyond that all are called: who still waits comes back, and those whose
/// task is gone are forgotten.
const WAITING_MAX: usize = 1024;

impl Ends {
    pub(super) fn new(firsts: &[End], ends: &[End]) -> Self {
        let partitions = firsts
            .iter()
            .zip(ends)
            .map(|(first, end)| Partition {
                next: AtomicU64::new(end.next_sequence),
                state: Mutex::new(State {
                    first_sequence: first.next_sequence,
                    end: *end,
                    waiting: Vec::new(),
                }),
            })
            .collect();
        Self { partitions }
    }

    pub(super) fn count(&self) -> usize {
        self.partitions.len()
    }

    /// The sequence number after the last durable event.
    pub(super) fn next_sequence(&self, partition: u16) -> Option<u64> {
        Some(self.partitions.get(usize::from(partition))?.next.load(Ordering::Acquire))
    }

    /// The number of the first event that is left.
    pub(super) fn first_sequence(&self, partition: u16) -> Option<u64> {
        Some(lock(&self.partitions.get(usize::from(partition))?.state).first_sequence)
    }

    pub(super) fn bounds(&self, partition: u16) -> Option<Bounds> {
        let state = lock(&self.partitions.get(usize::from(partition))?.state);
        let held_one = state.end.next_sequence > 0;
        Some(Bounds {
            first_sequence: state.first_sequence,
            next_sequence: state.end.next_sequence,
            last_offset: held_one.then_some(state.end.last_offset),
            last_enqueued: state.end.last_time,
        })
    }

    /// Sets where a partition stands, and wakes the readers that can go on.
    pub(super) fn publish(&self, partition: u16, end: End) {
        let Some(partition) = self.partitions.get(usize::from(partition)) else { return };
        let mut state = lock(&partition.state);
        state.end = end;
        partition.next.store(end.next_sequence, Ordering::Release);
        if state.waiting.is_empty() {
            return;
        }
        let ready: Vec<_> = state.waiting.extract_if(.., |(from, _)| *from < end.next_sequence).collect();
        drop(state);
        ready.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// Moves the first events that are left.
    pub(super) fn set_firsts(&self, firsts: &[End]) {
        for (partition, first) in self.partitions.iter().zip(firsts) {
            lock(&partition.state).first_sequence = first.next_sequence;
        }
    }

    /// Ready when an event with this number or a later one is durable.
    pub(super) fn poll_readable(&self, partition: u16, from: u64, cx: &mut Context<'_>) -> Poll<()> {
        // The read that follows says that there is no such partition.
        let Some(partition) = self.partitions.get(usize::from(partition)) else { return Poll::Ready(()) };
        if partition.next.load(Ordering::Acquire) > from {
            return Poll::Ready(());
        }
        let mut state = lock(&partition.state);
        if state.end.next_sequence > from {
            return Poll::Ready(());
        }
        if let Some(known) = state.waiting.iter_mut().find(|(_, waker)| waker.will_wake(cx.waker())) {
            known.0 = known.0.min(from);
            return Poll::Pending;
        }
        let mut stale = Vec::new();
        if state.waiting.len() >= WAITING_MAX {
            stale = std::mem::take(&mut state.waiting);
        }
        state.waiting.push((from, cx.waker().clone()));
        drop(state);
        stale.into_iter().for_each(|(_, waker)| waker.wake());
        Poll::Pending
    }
}
