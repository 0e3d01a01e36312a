//! One message to services: pure steps from one state to the next.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{DELIVERIES_MAX, LOCK_TIME, TIME_TO_LIVE};
use crate::inbox::{LockLost, LockToken, Settlement};

/// Names a message among those of its kind, and sorts by when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Number(pub u64);

impl Number {
    /// The number of a message that is made now: milliseconds, and what tells those of one millisecond apart. A number
    /// that is taken already does not commit.
    pub(super) fn new(now: Timestamp, random: [u8; 2]) -> Self {
        let millis = u64::try_from(now.as_millisecond()).unwrap_or_default();
        Self(millis << 16 | u64::from(u16::from_be_bytes(random)))
    }

    /// A token for one delivery of it. A service brings nothing back but the token, so that the number is its first half.
    pub(super) fn token(self, random: [u8; 8]) -> LockToken {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0.to_be_bytes());
        bytes[8..].copy_from_slice(&random);
        LockToken(Uuid::from_bytes(bytes))
    }

    /// The message that a token is of.
    pub fn of(token: LockToken) -> Self {
        Self(token.0.as_u64_pair().0)
    }
}

/// A message that waits for a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// When it was made.
    pub enqueued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// How often it was abandoned.
    #[serde(default)]
    pub abandoned: u32,
    /// Who has it at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// What is in it: JSON.
    pub body: String,
}

/// That a receiver has a message and has not settled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// What it is settled with.
    pub token: LockToken,
    /// When the lock lapses.
    pub until: Timestamp,
}

impl Waiting {
    /// A message that is made now.
    pub fn new(body: String, now: Timestamp) -> Self {
        Self { enqueued: now, expires: after(now, TIME_TO_LIVE), abandoned: 0, held: None, body }
    }

    /// Until when a receiver has it.
    pub fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.held.as_ref().map(|held| held.until).filter(|until| *until > now)
    }

    /// Whether nobody has it and nobody will.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires <= now && self.held_until(now).is_none()
    }

    /// Gives it to a receiver, unless another one has it or it expired.
    pub fn take(&mut self, token: LockToken, now: Timestamp) -> bool {
        let is_free = self.held_until(now).is_none() && self.expires > now;
        if is_free {
            self.held = Some(Held { token, until: after(now, LOCK_TIME) });
        }
        is_free
    }

    /// Settles it; false when it is gone.
    pub fn settle(
        &mut self,
        token: LockToken,
        settlement: Settlement,
        now: Timestamp,
    ) -> Result<bool, LockLost> {
        self.release(token, now)?;
        Ok(match settlement {
            Settlement::Complete | Settlement::Reject | Settlement::Refuse(_) => false,
            Settlement::Abandon => {
                self.abandoned += 1;
                self.abandoned < DELIVERIES_MAX && self.expires > now
            }
        })
    }

    /// Takes it back from a receiver that is gone, which counts for nothing.
    pub fn release(&mut self, token: LockToken, now: Timestamp) -> Result<(), LockLost> {
        let is_held = self.held.as_ref().is_some_and(|held| held.token == token && held.until > now);
        if !is_held {
            return Err(LockLost);
        }
        self.held = None;
        Ok(())
    }
}

fn after(now: Timestamp, length: std::time::Duration) -> Timestamp {
    let length = SignedDuration::try_from(length).unwrap_or(SignedDuration::MAX);
    now.checked_add(length).unwrap_or(Timestamp::MAX)
}
