//! One reader of a partition: it pulls from the log what its link has credit for, in bounded batches.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hub::ports::event_log::{EventLog, ReadError, StoredEvent};
use hub::positions::{Handed, SharedPosition};
use hub::readers::Seat;
use jiff::Timestamp;
use wire::amqp::connection::{Connection, LinkId, SendError, SendOptions};

use super::event;

/// Events and bytes that are read at once for one link.
const BATCH_EVENTS: usize = 256;
const BATCH_BYTES: usize = 512 * 1024;

type Reading = Pin<Box<dyn Future<Output = Result<Vec<StoredEvent>, ReadError>> + Send>>;

/// A reader with its place in the partition.
pub(super) struct Reader {
    link: LinkId,
    log: Arc<dyn EventLog>,
    partition: u16,
    /// The next event to read.
    next: u64,
    /// What was read and not sent yet.
    events: VecDeque<StoredEvent>,
    reading: Option<Reading>,
    /// One past the last event that was durable when the reading began.
    end: u64,
    /// Whether each event tells how far the partition is.
    runtime_metric: bool,
    /// How far the readers of its group are in the partition.
    position: SharedPosition,
    /// What it was handed since that was told there.
    handed: Option<Handed>,
    _seat: Seat,
}

/// How far a reader got.
pub(super) enum Progress {
    /// It sent something: there is output.
    Sent,
    /// It waits for events, credit, or room in the output, and is woken.
    Waiting,
    /// It cannot go on.
    Failed(ReadError),
}

impl Reader {
    /// A reader that begins at a sequence number.
    pub(super) fn new(
        link: LinkId,
        log: Arc<dyn EventLog>,
        partition: u16,
        next: u64,
        runtime_metric: bool,
        (seat, position): (Seat, SharedPosition),
    ) -> Self {
        Self {
            link,
            log,
            partition,
            next,
            events: VecDeque::new(),
            reading: None,
            end: next,
            runtime_metric,
            position,
            handed: None,
            _seat: seat,
        }
    }

    /// Sends what there is, as far as the link lets it, and tells how far its group is. `now` stands in the runtime metric.
    pub(super) fn poll(
        &mut self,
        machine: &mut Connection,
        now: Timestamp,
        cx: &mut Context<'_>,
    ) -> Progress {
        let progress = self.send(machine, now.as_millisecond(), cx);
        if let Some(handed) = self.handed.take() {
            let first_left = || self.log.bounds(self.partition).map_or(0, |bounds| bounds.first_sequence);
            self.position.hand(handed, first_left, now);
        }
        progress
    }

    fn send(&mut self, machine: &mut Connection, now: i64, cx: &mut Context<'_>) -> Progress {
        let mut sent = false;
        loop {
            while let Some(event) = self.events.front() {
                let runtime =
                    self.runtime_metric.then(|| self.log.bounds(self.partition)).flatten().map(|b| (b, now));
                match machine.send(self.link, SendOptions::settled(), |w| event::write(w, event, runtime)) {
                    Ok(_) => {
                        sent = true;
                        let sequence = event.sequence;
                        self.handed = Some(self.handed.map_or(Handed::one(sequence), |h| h.and(sequence)));
                        self.events.pop_front();
                    }
                    // The machine says when to try again.
                    Err(SendError::Blocked(_) | SendError::Command(_)) => return progress(sent),
                    Err(error @ SendError::MessageTooLarge { .. }) => {
                        tracing::warn!(%error, sequence = event.sequence, "an event is too large for its reader");
                        self.events.pop_front();
                    }
                }
            }
            // Nothing is read ahead of credit: a reader that takes nothing costs nothing.
            if self.reading.is_none() && machine.sendable(self.link).is_err() {
                return progress(sent);
            }
            if self.reading.is_none() {
                if self.log.poll_readable(self.partition, self.next, cx).is_pending() {
                    return progress(sent);
                }
                self.end = self.log.bounds(self.partition).map_or(self.next, |bounds| bounds.next_sequence);
                let (log, partition, next) = (self.log.clone(), self.partition, self.next);
                self.reading =
                    Some(Box::pin(async move { log.read(partition, next, BATCH_EVENTS, BATCH_BYTES).await }));
            }
            let Some(reading) = self.reading.as_mut() else { return progress(sent) };
            match reading.as_mut().poll(cx) {
                Poll::Pending => return progress(sent),
                Poll::Ready(Err(error)) => return Progress::Failed(error),
                Poll::Ready(Ok(events)) => {
                    self.reading = None;
                    // What was durable and did not come is pruned or damaged, and passed over.
                    self.next = events.last().map_or(self.end.max(self.next), |last| last.sequence + 1);
                    self.events = events.into();
                }
            }
        }
    }
}

fn progress(sent: bool) -> Progress {
    if sent { Progress::Sent } else { Progress::Waiting }
}
