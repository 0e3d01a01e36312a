//! An event log in memory: each partition keeps its newest events.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hub::placement::Placement;
use hub::ports::BoxFuture;
use hub::ports::event_log::{AppendError, Bounds, EventLog, ReadError, StartPosition, StoredEvent, Ticket};
use hub::telemetry::{Message, Millis};

use crate::journal::Tickets;

/// An event log without a disk. What is appended is "durable" at once, unless a test holds it back to see that
/// nobody is told too early.
#[derive(Debug)]
pub struct MemoryLog {
    state: Mutex<State>,
    tickets: Tickets,
    events_max: usize,
}

#[derive(Debug)]
struct State {
    partitions: Vec<Ring>,
    /// The position of the last ticket given.
    position: u64,
    /// What was appended since [`MemoryLog::hold`].
    held: Option<Vec<(u16, Vec<Message>)>>,
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
        let partitions = (0..partitions).map(|_| Ring::default()).collect();
        let state = State { partitions, position: 0, held: None };
        Self { state: Mutex::new(state), tickets: Tickets::default(), events_max }
    }

    /// From now on what is appended is not durable, as if the disk took its time.
    pub fn hold(&self) {
        self.state().held.get_or_insert_default();
    }

    /// Makes durable what was held back, or fails it with an error, and holds nothing back any longer.
    pub fn release(&self, result: Result<(), AppendError>) {
        let mut state = self.state();
        let position = state.position;
        let mut wakers = Vec::new();
        for (partition, messages) in state.held.take().unwrap_or_default() {
            if result.is_ok() {
                let ring = &mut state.partitions[usize::from(partition)];
                wakers.append(&mut ring.push(&messages, self.events_max));
            }
        }
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        self.tickets.settle(position, result);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ring(&self, partition: u16) -> Result<&Ring, ReadError> {
        self.partitions.get(usize::from(partition)).ok_or(ReadError::NoPartition(partition))
    }
}

impl Ring {
    /// Takes messages, and gives those who wait for them.
    fn push(&mut self, messages: &[Message], events_max: usize) -> Vec<Waker> {
        for message in messages {
            let stored = match self.last_offset {
                None => message.enqueued,
                Some(_) => message.enqueued.max(self.last_time),
            };
            let (sequence, offset) = (self.next_sequence, self.next_offset);
            self.events.push_back(StoredEvent { sequence, offset, stored, message: message.clone() });
            self.next_sequence += 1;
            self.next_offset += 1 + message.metered_bytes() as u64;
            (self.last_offset, self.last_time) = (Some(offset), stored);
            if self.events.len() > events_max {
                self.events.pop_front();
            }
        }
        std::mem::take(&mut self.waiting)
    }

    fn first_sequence(&self) -> u64 {
        self.events.front().map_or(self.next_sequence, |event| event.sequence)
    }

    fn bounds(&self) -> Bounds {
        Bounds {
            first_sequence: self.first_sequence(),
            next_sequence: self.next_sequence,
            last_offset: self.last_offset,
            last_enqueued: self.last_time,
        }
    }

    fn find(&self, start: StartPosition) -> Result<u64, ReadError> {
        let first = |meets: &dyn Fn(&StoredEvent) -> bool| {
            self.events.iter().find(|event| meets(event)).map_or(self.next_sequence, |event| event.sequence)
        };
        Ok(match start {
            StartPosition::Earliest => self.first_sequence(),
            StartPosition::Latest => self.next_sequence,
            StartPosition::Offset { offset, .. } if self.last_offset.is_none_or(|last| offset > last) => {
                let last = self.last_offset.map_or(-1, |last| last as i64);
                return Err(ReadError::OffsetBeyondEnd { asked: offset, last });
            }
            StartPosition::Offset { offset, inclusive } => {
                first(&|event| event.offset > offset || (inclusive && event.offset == offset))
            }
            StartPosition::Sequence { sequence, inclusive } => {
                return self.bounds().find_sequence(sequence, inclusive);
            }
            StartPosition::Enqueued { time, inclusive } => {
                first(&|event| event.stored > time || (inclusive && event.stored == time))
            }
        })
    }

    fn read(&self, from: u64, events_max: usize, bytes_max: usize) -> Vec<StoredEvent> {
        let mut bytes = 0;
        let wanted = self.events.iter().skip_while(|event| event.sequence < from).take(events_max);
        wanted
            .take_while(|event| {
                let fits = bytes < bytes_max.max(1);
                bytes += event.message.metered_bytes();
                fits
            })
            .cloned()
            .collect()
    }
}

impl EventLog for MemoryLog {
    fn partition_count(&self) -> u16 {
        self.state().partitions.len() as u16
    }

    fn placement(&self) -> Placement {
        Placement::Lookup3
    }

    fn append(&self, partition: u16, messages: &[Message]) -> Result<Ticket, AppendError> {
        let mut guard = self.state();
        let state = &mut *guard;
        let ring = state.partitions.get_mut(usize::from(partition));
        let ring = ring.ok_or(AppendError::NoPartition(partition))?;
        state.position += 1;
        let position = state.position;
        if let Some(held) = &mut state.held {
            held.push((partition, messages.to_vec()));
            return Ok(Ticket { partition, position });
        }
        let wakers = ring.push(messages, self.events_max);
        drop(guard);
        wakers.into_iter().for_each(Waker::wake);
        self.tickets.settle(position, Ok(()));
        Ok(Ticket { partition, position })
    }

    fn poll_space(&self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Ready(())
    }

    fn poll_durable(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<(), AppendError>> {
        self.tickets.poll(ticket.position, cx)
    }

    fn bounds(&self, partition: u16) -> Option<Bounds> {
        let state = self.state();
        let ring = state.ring(partition).ok()?;
        Some(ring.bounds())
    }

    fn find(&self, partition: u16, start: StartPosition) -> BoxFuture<'_, Result<u64, ReadError>> {
        let found = self.state().ring(partition).and_then(|ring| ring.find(start));
        Box::pin(std::future::ready(found))
    }

    fn read(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        let read = self.state().ring(partition).map(|ring| ring.read(from, events_max, bytes_max));
        Box::pin(std::future::ready(read))
    }

    fn poll_readable(&self, partition: u16, from: u64, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.state();
        let Some(ring) = state.partitions.get_mut(usize::from(partition)) else { return Poll::Ready(()) };
        if ring.next_sequence > from {
            return Poll::Ready(());
        }
        if !ring.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            ring.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_back_is_neither_durable_nor_read() {
        let log = MemoryLog::new(1, 10);
        let cx = &mut Context::from_waker(Waker::noop());
        log.hold();
        let first = log.append(0, &[]).expect("room");
        assert_eq!(log.poll_durable(first, cx), Poll::Pending);
        log.release(Err(AppendError::NoSpace));
        assert_eq!(log.poll_durable(first, cx), Poll::Ready(Err(AppendError::NoSpace)));
        log.hold();
        let second = log.append(0, &[]).expect("room");
        log.release(Ok(()));
        assert_eq!(log.poll_durable(second, cx), Poll::Ready(Ok(())));
        let third = log.append(0, &[]).expect("room");
        assert_eq!(log.poll_durable(third, cx), Poll::Ready(Ok(())));
    }
}
