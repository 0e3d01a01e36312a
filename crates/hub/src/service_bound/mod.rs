//! What waits for services: feedback of device-bound messages, and notices of files that devices uploaded
//! (`docs/protocol/amqp.md` §9.2, §9.3). One rule serves both.
//!
//! Each message is a record of its own, with its own lock, and records sort by when they were made: two receivers meet
//! only where both want the same message, and never does a device meet another one here.

use std::time::Duration;

mod feedback;
mod message;
mod service;
#[cfg(test)]
mod tests;

pub use self::feedback::{Feedback, FeedbackKey};
pub use self::message::{Held, Number, Waiting};
pub use self::service::{Delivery, Next};
use crate::access::Operation;

/// How long a message waits before it expires (`docs/protocol/limits.md` §5).
pub const TIME_TO_LIVE: Duration = Duration::from_secs(3_600);
/// How long a receiver may take to settle a message.
pub const LOCK_TIME: Duration = Duration::from_secs(60);
/// How often a message is delivered at most, counting those that were abandoned.
pub const DELIVERIES_MAX: u32 = 10;
/// Messages of a kind that may wait. For one beyond it the oldest goes, as it would when it expires.
pub const WAITING_MAX: u64 = 10_000;
/// Records of feedback that one message holds.
pub const BATCH_MAX: usize = 64;
/// How long fewer than [`BATCH_MAX`] records wait at most, counted from the last message of feedback.
pub const BATCH_EVERY: Duration = Duration::from_secs(15);

/// A kind of messages to services: all receivers of it compete for its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// What became of device-bound messages.
    Feedback,
    /// Which files devices uploaded.
    FileNotifications,
}

impl Lane {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Feedback, Self::FileNotifications];

    /// The media type of its messages.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Feedback => "application/vnd.microsoft.iothub.feedback.json",
            Self::FileNotifications => "application/vnd.microsoft.iothub.filenotification.json",
        }
    }

    /// What a receiver of it does.
    pub fn operation(self) -> Operation {
        match self {
            Self::Feedback => Operation::ReceiveFeedback,
            Self::FileNotifications => Operation::ReceiveFileNotifications,
        }
    }
}
