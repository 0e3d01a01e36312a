//! Device-bound messages: what waits for a device or module, and what becomes of it (`docs/protocol/device-mqtt.md` §5,
//! `docs/protocol/device-https.md` §4, `docs/protocol/amqp.md` §9).
//!
//! Each identity has a queue: a record that says what waits in which state, beside a record for the content of each
//! message. Every step replaces the queue's record, so that two steps at a time cannot both be true.

pub use crate::limits::C2D_MESSAGE_BYTES_MAX as MESSAGE_BYTES_MAX;
use std::time::Duration;

pub use crate::limits::C2D_QUEUE_MAX as QUEUE_MAX;

mod expiry;
mod message;
mod queue;
mod service;
#[cfg(test)]
mod tests;

pub use self::message::{Ack, Content, NotEnqueued, Submission};
pub use self::queue::{
    Dead, Deadline, Entry, Fate, Gone, Lock, LockLost, LockToken, Numbering, Passed, Queue, QueueFull,
    Receiver, Taken, Unfit,
};
pub(crate) use self::service::waiting;
pub use self::service::{Delivery, InboxCounts, InboxView, Settlement, Waiting, lock_token};

/// How many messages that are gone a queue remembers.
pub const PASSED_MAX: usize = 20;
/// How long a message waits when its sender does not say.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(3_600);
/// How long it may wait at most.
pub const TIME_TO_LIVE_MAX: Duration = Duration::from_secs(2 * 86_400);
/// How long a receiver may take to settle a message.
pub const LOCK_TIME: Duration = Duration::from_secs(60);
/// How often a message is delivered at most, counting those that were abandoned.
pub const DELIVERIES_MAX: u32 = 10;
