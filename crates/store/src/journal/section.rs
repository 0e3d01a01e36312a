//! The events of one section, in order.

use bytes::{Buf, Bytes};
use hub::ports::event_log::StoredEvent;
use hub::telemetry::Millis;

use super::batch::{End, Placed};
use super::codec::DecodeError;
use super::record::{self, Glance, LENGTH_BYTES, Senders};

/// Walks the records of a section whose checksum is right.
#[derive(Debug)]
pub(super) struct Events {
    left: Bytes,
    base: Millis,
    senders: Senders,
    next: End,
    events_left: u32,
    start_offset: u64,
    bytes: usize,
}

/// An event of which number, offset and time are known; its message is decoded on demand.
#[derive(Debug)]
pub(super) struct Sighted {
    pub(super) sequence: u64,
    pub(super) offset: u64,
    pub(super) stored: Millis,
    /// How long the record is.
    pub(super) bytes: usize,
    glance: Glance,
}

impl Events {
    pub(super) fn new(placed: &Placed, bytes: Bytes) -> Self {
        Self {
            bytes: bytes.len(),
            left: bytes,
            base: placed.section.base,
            senders: Senders::default(),
            next: placed.before,
            events_left: placed.section.events,
            start_offset: placed.before.next_offset,
        }
    }

    /// The next event, `None` after the last. After an error within a record the walk goes on behind it; the
    /// numbers stay right.
    pub(super) fn sight(&mut self) -> Option<Result<Sighted, DecodeError>> {
        if self.events_left == 0 {
            return None;
        }
        self.events_left -= 1;
        let sequence = self.next.next_sequence;
        let offset = self.start_offset.saturating_add((self.bytes - self.left.len()) as u64);
        self.next.next_sequence = sequence.saturating_add(1);
        let record = match self.record() {
            Ok(record) => record,
            Err(error) => {
                // Without a length there is no way on.
                self.events_left = 0;
                return Some(Err(error));
            }
        };
        let bytes = record.len() + LENGTH_BYTES;
        match record::glance(record, self.base, &mut self.senders) {
            Ok(glance) => {
                let first_ever = sequence == 0;
                let stored =
                    if first_ever { glance.enqueued } else { glance.enqueued.max(self.next.last_time) };
                self.next.last_time = stored;
                Some(Ok(Sighted { sequence, offset, stored, bytes, glance }))
            }
            Err(error) => {
                // Whoever follows must not be given the sender of somebody else.
                self.senders = Senders::default();
                Some(Err(error))
            }
        }
    }

    /// Decodes the event that was sighted last.
    pub(super) fn read(&mut self, sighted: Sighted) -> Result<StoredEvent, DecodeError> {
        let Sighted { sequence, offset, stored, glance, .. } = sighted;
        Ok(StoredEvent { sequence, offset, stored, message: glance.read(&mut self.senders)? })
    }

    fn record(&mut self) -> Result<Bytes, DecodeError> {
        let length = u32::from_le_bytes(*self.left.first_chunk().ok_or(DecodeError::Short)?) as usize;
        self.left.advance(LENGTH_BYTES);
        if length > self.left.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.left.split_to(length))
    }
}
