//! An event log in memory: each partition keeps its newest events.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hub::ports::BoxFuture;
use hub::ports::event_log::{AppendError, Bounds, EventLog, ReadError, StartPosition, StoredEvent, Ticket};
use hub::telemetry::{Message, Millis};

/// An event log without a disk. What is appended is "durable" at once.
#[derive(Debug)]
pub struct MemoryLog {
    partitions: Vec<Mutex<Ring>>,
    events_max: usize,
}

#[derive(Debug, Default)]
struct Ring {
    events: VecDeque<StoredEvent>,
    next_sequence: u64,
    next_offset: u64,
    last_offset: Option<u64>,
    last_time: Millis,
    waiting: Vec<Waker>,
}

impl MemoryLog {
    /// A log with so many partitions, of which each keeps so many events.
    pub fn new(partitions: u16, events_max: usize) -> Self {
        Self { partitions: (0..partitions).map(|_| Mutex::default()).collect(), events_max }
    }

    fn ring(&self, partition: u16) -> Option<MutexGuard<'_, Ring>> {
        let ring = self.partitions.get(usize::from(partition))?;
        Some(ring.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn find_now(&self, partition: u16, start: StartPosition) -> Result<u64, ReadError> {
        let ring = self.ring(partition).ok_or(ReadError::NoPartition(partition))?;
        let first = |meets: &dyn Fn(&StoredEvent) -> bool| {
            ring.events.iter().find(|event| meets(event)).map_or(ring.next_sequence, |event| event.sequence)
        };
        Ok(match start {
            StartPosition::Earliest => first(&|_| true),
            StartPosition::Latest => ring.next_sequence,
            StartPosition::Offset { offset, .. } if ring.last_offset.is_none_or(|last| offset > last) => {
                let last = ring.last_offset.map_or(-1, |last| last as i64);
                return Err(ReadError::OffsetBeyondEnd { asked: offset, last });
            }
            StartPosition::Offset { offset, inclusive } => {
                first(&|event| event.offset > offset || (inclusive && event.offset == offset))
            }
            StartPosition::Sequence { sequence, inclusive } => {
                first(&|event| event.sequence > sequence || (inclusive && event.sequence == sequence))
            }
            StartPosition::Enqueued { time, inclusive } => {
                first(&|event| event.stored > time || (inclusive && event.stored == time))
            }
        })
    }

    fn read_now(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<StoredEvent>, ReadError> {
        let ring = self.ring(partition).ok_or(ReadError::NoPartition(partition))?;
        let mut bytes = 0;
        let wanted = ring.events.iter().skip_while(|event| event.sequence < from).take(events_max);
        Ok(wanted
            .take_while(|event| {
                let fits = bytes < bytes_max.max(1);
                bytes += event.message.metered_bytes();
                fits
            })
            .cloned()
            .collect())
    }
}

impl EventLog for MemoryLog {
    fn partition_count(&self) -> u16 {
        self.partitions.len() as u16
    }

    fn append(&self, partition: u16, messages: &[Message]) -> Result<Ticket, AppendError> {
        let mut ring = self.ring(partition).ok_or(AppendError::NoPartition(partition))?;
        for message in messages {
            let stored =
                if ring.next_sequence == 0 { message.enqueued } else { message.enqueued.max(ring.last_time) };
            let event = StoredEvent {
                sequence: ring.next_sequence,
                offset: ring.next_offset,
                stored,
                message: message.clone(),
            };
            ring.next_sequence += 1;
            ring.last_offset = Some(event.offset);
            ring.next_offset += 1 + message.metered_bytes() as u64;
            ring.last_time = stored;
            ring.events.push_back(event);
            if ring.events.len() > self.events_max {
                ring.events.pop_front();
            }
        }
        let position = ring.next_sequence;
        let ready = std::mem::take(&mut ring.waiting);
        drop(ring);
        ready.into_iter().for_each(Waker::wake);
        Ok(Ticket { partition, position })
    }

    fn poll_space(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_durable(&self, _: Ticket, _: &mut Context<'_>) -> Poll<Result<(), AppendError>> {
        Poll::Ready(Ok(()))
    }

    fn bounds(&self, partition: u16) -> Option<Bounds> {
        let ring = self.ring(partition)?;
        Some(Bounds {
            first_sequence: ring.events.front().map_or(ring.next_sequence, |event| event.sequence),
            next_sequence: ring.next_sequence,
            last_offset: ring.last_offset,
            last_enqueued: ring.last_time,
        })
    }

    fn find(&self, partition: u16, start: StartPosition) -> BoxFuture<'_, Result<u64, ReadError>> {
        Box::pin(std::future::ready(self.find_now(partition, start)))
    }

    fn read(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(std::future::ready(self.read_now(partition, from, events_max, bytes_max)))
    }

    fn poll_readable(&self, partition: u16, from: u64, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut ring) = self.ring(partition) else { return Poll::Ready(()) };
        if ring.next_sequence > from {
            return Poll::Ready(());
        }
        if !ring.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            ring.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}
