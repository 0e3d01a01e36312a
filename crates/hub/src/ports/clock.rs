//! Time, randomness, and the way out for decisions.

use jiff::Timestamp;

use crate::decision::Decision;
use crate::key_search::Clue;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// Gives randomness that nobody can guess.
pub trait Random: Send + Sync {
    /// Fills the bytes.
    fn fill(&self, bytes: &mut [u8]);
}

/// Takes the decisions that change no record, without ever making the caller wait.
pub trait Recorder: Send + Sync {
    /// Takes one. When too many come it counts what it drops, and records the count.
    fn record(&self, decision: Decision);

    /// Takes one that is too ordinary for the log, such as a message over HTTPS that was let in, but tells who is
    /// active. When too many come they are dropped.
    fn observe(&self, decision: Decision);
    /// Takes the refusal of a wrong signature and looks for the mistake behind it, aside and within bounds, before it is
    /// recorded. One that does not look records it as it is.
    fn search(&self, decision: Decision, clue: Box<Clue>) {
        drop(clue);
        self.record(decision);
    }
}
