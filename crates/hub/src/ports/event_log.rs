//! The port through which telemetry becomes durable and is read again.

use std::task::{Context, Poll};

use super::BoxFuture;
use crate::placement::Placement;
use crate::telemetry::{Message, Millis};

/// Partitions with contiguous sequence numbers from 0.
///
/// `append` returns at once; the message is durable when its ticket is. The tickets of one partition become
/// durable in the order they were given. Readers see durable events only.
pub trait EventLog: Send + Sync {
    /// How many partitions there are, 1 to 128; fixed when the log was created.
    fn partition_count(&self) -> u16;

    /// How the partition of a device is found; fixed when the log was created.
    fn placement(&self) -> Placement;

    /// Takes messages for one partition, all of them or none, in this order, and gives the ticket that is
    /// durable when all of them are. The caller must not acknowledge before [`EventLog::poll_durable`] says so.
    ///
    /// Each event's time in the stream is the message's `enqueued`, or the time of the event before it in the
    /// partition where that is later: stream time never goes back.
    fn append(&self, partition: u16, messages: &[Message]) -> Result<Ticket, AppendError>;

    /// Ready when `append` would not answer [`AppendError::Full`]; else the waker is called when it would not.
    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when the ticket is durable, or when it never will be; else the waker is called when that is known.
    fn poll_durable(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<(), AppendError>>;

    /// The ends of a partition, or `None` when there is no such partition.
    fn bounds(&self, partition: u16) -> Option<Bounds>;

    /// The sequence number of the first event to read for a start position; one past the last when every durable
    /// event lies before it. A position older than the retention starts at the first event that is left.
    fn find(&self, partition: u16, start: StartPosition) -> BoxFuture<'_, Result<u64, ReadError>>;

    /// Reads durable events in order from `from` (a sequence number) on, at most `events_max` and about
    /// `bytes_max` of them, but at least one when there is one. Events that were pruned or damaged are passed over:
    /// the sequence numbers of what is returned tell.
    fn read(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>>;

    /// Ready when an event with this sequence number or a later one is durable; else the waker is called then.
    fn poll_readable(&self, partition: u16, from: u64, cx: &mut Context<'_>) -> Poll<()>;
}

/// A place in the order in which appended messages become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The partition it belongs to.
    pub partition: u16,
    /// Rises by at least one with each append. What it counts is the adapter's own business.
    pub position: u64,
}

/// The ends of a partition as `$management` reports them (`docs/protocol/event-hubs-endpoint.md` §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The sequence number of the first event that is left; one past the last when none is.
    pub first_sequence: u64,
    /// The sequence number of the next event that will become durable: one past the last durable one.
    pub next_sequence: u64,
    /// The offset of the last durable event ever; `None` in a partition that never held one.
    pub last_offset: Option<u64>,
    /// The stream time of the last durable event ever; 0 in a partition that never held one.
    pub last_enqueued: Millis,
}

impl Bounds {
    /// The first event to read for a sequence number.
    pub fn find_sequence(&self, sequence: u64, inclusive: bool) -> Result<u64, ReadError> {
        let wanted = if inclusive { sequence } else { sequence.saturating_add(1) };
        if wanted > self.next_sequence {
            let last = i64::try_from(self.next_sequence).map_or(i64::MAX, |next| next - 1);
            return Err(ReadError::SequenceBeyondEnd { asked: sequence, last });
        }
        Ok(wanted.max(self.first_sequence))
    }
}

/// Where a reader begins (`docs/protocol/event-hubs-endpoint.md` §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartPosition {
    /// The first event that is left.
    Earliest,
    /// After the last durable event.
    Latest,
    /// At or after an offset.
    Offset {
        /// The offset of an event.
        offset: u64,
        /// Whether the event at this very offset is meant too.
        inclusive: bool,
    },
    /// At or after a sequence number. One past the last is the end; what lies beyond is an error, as for an offset.
    Sequence {
        /// The sequence number, −1 allowed by the wire and mapped to `Earliest` by the front.
        sequence: u64,
        /// Whether the event with this very number is meant too.
        inclusive: bool,
    },
    /// The first event whose stream time is later (or equal, when inclusive).
    Enqueued {
        /// The time.
        time: Millis,
        /// Whether events of this very time are meant too.
        inclusive: bool,
    },
}

/// An event as a reader gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its number in the partition, from 0, without gaps.
    pub sequence: u64,
    /// Grows with the sequence number; opaque to readers.
    pub offset: u64,
    /// Its stream time.
    pub stored: Millis,
    /// The message.
    pub message: Message,
}

/// Why a message was not taken, or will never be durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The queue in front of the disk is full: try again later.
    #[error("the journal's queue is full ({bytes} bytes wait to be written)")]
    Full {
        /// What waits.
        bytes: usize,
    },
    /// There is no space left for the journal.
    #[error("no space is left for the journal")]
    NoSpace,
    /// The disk failed; what was not yet durable is lost and must be sent again.
    #[error("the journal could not be written: {0}")]
    Failed(String),
    /// The log is closing.
    #[error("the journal is closing")]
    Closing,
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoPartition(u16),
}

/// Why events could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no such partition.
    #[error("there is no partition {0}")]
    NoPartition(u16),
    /// An offset beyond the last event was asked for.
    #[error("the supplied offset '{asked}' is invalid. The last offset in the system is '{last}'")]
    OffsetBeyondEnd {
        /// What was asked for.
        asked: u64,
        /// The last offset there is, −1 in an empty partition.
        last: i64,
    },
    /// A sequence number beyond the last event was asked for.
    #[error(
        "the supplied sequence number '{asked}' is invalid. The last sequence number in the system is '{last}'"
    )]
    SequenceBeyondEnd {
        /// What was asked for.
        asked: u64,
        /// The last sequence number there is, −1 in an empty partition.
        last: i64,
    },
    /// The disk failed.
    #[error("the journal could not be read: {0}")]
    Failed(String),
}
