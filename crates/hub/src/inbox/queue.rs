//! The queue of one identity: pure steps from one state to the next.

use std::collections::VecDeque;
use std::num::NonZeroU16;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Ack, DELIVERIES_MAX, LOCK_TIME, PASSED_MAX, QUEUE_MAX};
use crate::identity::Identity;

/// What waits for one device or module, in the order it was sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// The generation of the identity that the messages were sent to.
    pub generation: String,
    /// The number of the message that was sent last; 0 before the first.
    pub last_sequence: u64,
    /// The messages.
    pub entries: Vec<Entry>,
    /// The number that a session was given last; 0 before the first.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_number: u16,
    /// What became of those that are gone.
    #[serde(default)]
    pub gone: Gone,
    /// The last ones that are gone and had an id, oldest first, for whoever asks what became of one.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub passed: VecDeque<Passed>,
}

/// A message that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Passed {
    /// Its number in the queue.
    pub sequence: u64,
    /// Its id.
    pub message_id: String,
    /// Who sent it: a policy, or the operator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// How often it was handed out.
    pub deliveries: u32,
    /// When that was last, if it ever was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Timestamp>,
    /// How it went.
    pub fate: Fate,
    /// When it went.
    pub ended: Timestamp,
    /// What kind of receiver had it then, if one had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Receiver>,
    /// Why the hub rejected it in place of its receiver, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Unfit>,
}

/// Why a message does not fit its receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unfit {
    /// With its properties it is larger than the protocol or the receiver admits.
    TooLarge,
}

impl Unfit {
    /// How it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "tooLarge",
        }
    }
}

impl Passed {
    fn of(entry: &Entry, fate: Fate, now: Timestamp) -> Option<Self> {
        Some(Self {
            sequence: entry.sequence,
            message_id: entry.message_id.clone()?,
            sender: entry.sender.clone(),
            enqueued: entry.enqueued,
            deliveries: entry.deliveries,
            delivered: entry.delivered,
            fate,
            ended: now,
            by: entry.lock.as_ref().map(|lock| lock.by),
            reason: None,
        })
    }
}

/// How many messages left a queue, and how. With those that are still in it they are all that were ever put in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Gone {
    /// [`Fate::Completed`].
    pub completed: u64,
    /// [`Fate::Rejected`].
    pub rejected: u64,
    /// [`Fate::Expired`].
    pub expired: u64,
    /// [`Fate::DeliveryCountExceeded`].
    pub delivery_count_exceeded: u64,
    /// [`Fate::Purged`], and what waited for an earlier identity of the name.
    pub purged: u64,
}

impl std::ops::AddAssign for Gone {
    fn add_assign(&mut self, other: Self) {
        self.completed += other.completed;
        self.rejected += other.rejected;
        self.expired += other.expired;
        self.delivery_count_exceeded += other.delivery_count_exceeded;
        self.purged += other.purged;
    }
}

impl Gone {
    fn count(&mut self, fate: Fate) {
        let counter = match fate {
            Fate::Completed => &mut self.completed,
            Fate::Rejected => &mut self.rejected,
            Fate::Expired => &mut self.expired,
            Fate::DeliveryCountExceeded => &mut self.delivery_count_exceeded,
            Fate::Purged => &mut self.purged,
        };
        *counter += 1;
    }
}

/// One message that waits; its content lies beside the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Its number within the queue, never used again.
    pub sequence: u64,
    /// Its id, if its sender gave it one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// What its sender wants to hear of it.
    #[serde(default)]
    pub ack: Ack,
    /// Who sent it: a policy, or the operator.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sender: String,
    /// How often it was handed out, for whatever reason.
    #[serde(default)]
    pub deliveries: u32,
    /// When that was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<Timestamp>,
    /// How often it was abandoned.
    #[serde(default)]
    pub abandoned: u32,
    /// Who has it at the moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lock: Option<Lock>,
    /// The number by which the session of its receiver knows it, from its first delivery on until it is acknowledged: over
    /// connections and restarts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<NonZeroU16>,
    /// Whether a [`Deadline`] is kept beside the queue.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_deadline: bool,
}

/// That a message expires whose sender wants to hear of it: what is looked through to find them in time, whether or not
/// anybody asks for their queues again. It goes with the message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Deadline {
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// Whose message it is.
    pub identity: Identity,
    /// Its number in the queue.
    pub sequence: u64,
}

/// That a receiver has a message and has not settled it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    /// What it is settled with.
    pub token: LockToken,
    /// When it lapses.
    pub until: Timestamp,
    /// What kind of receiver has it.
    pub by: Receiver,
}

/// A kind of receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Receiver {
    /// The connection of the identity, of which there is one: what an earlier one had is taken back when the next one asks.
    Connection,
    /// Requests over HTTPS, which come and go.
    Requests,
}

/// Names one delivery of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LockToken(pub Uuid);

/// There is no room for another message (403004).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{QUEUE_MAX} messages wait for it already")]
pub struct QueueFull;

/// The lock lapsed, or the message was settled or purged (412002).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lock is lost")]
pub struct LockLost;

/// How a message left its queue (`docs/protocol/amqp.md` §9.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fate {
    /// The receiver completed it.
    Completed,
    /// The receiver rejected it.
    Rejected,
    /// Nobody completed it in time.
    Expired,
    /// It was abandoned too often.
    DeliveryCountExceeded,
    /// A service purged the queue.
    Purged,
}

impl Fate {
    /// How it rests and is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::DeliveryCountExceeded => "deliveryCountExceeded",
            Self::Purged => "purged",
        }
    }
}

impl Receiver {
    /// How it rests and is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Requests => "requests",
        }
    }
}

/// A message that left its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The message, as it was.
    pub entry: Entry,
    /// How it went.
    pub fate: Fate,
}

/// A message that a receiver was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The message, its lock included.
    pub entry: Entry,
    /// What it is settled with.
    pub token: LockToken,
    /// Whether the session had it already, under the same number.
    pub again: bool,
}

/// What is known of deliveries where a message is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbering<'a> {
    /// Nothing outlives the connection, or there is none.
    None,
    /// A session knows them by numbers. These are under way on the connection; a message that is given once more meanwhile
    /// gets another one.
    Session(&'a [NonZeroU16]),
}

fn is_zero(number: &u16) -> bool {
    *number == 0
}

impl Entry {
    fn is_locked(&self, now: Timestamp) -> bool {
        self.lock.as_ref().is_some_and(|lock| lock.until > now)
    }

    /// What is kept beside the queue of an identity to find this message when it expires, if anything is.
    pub(super) fn deadline(&self, identity: &Identity) -> Option<Deadline> {
        // The first whole one at which it is true.
        let time = u64::try_from(self.expires.as_millisecond() + 1).unwrap_or_default();
        self.has_deadline.then(|| Deadline { time, identity: identity.clone(), sequence: self.sequence })
    }

    /// How often it was delivered and came back by no accident: what a receiver is shown.
    pub fn delivery_count(&self) -> u32 {
        self.abandoned
    }
}

impl Queue {
    /// An empty queue of this generation of an identity.
    pub fn new(generation: &str) -> Self {
        Self { generation: generation.to_owned(), ..Self::default() }
    }

    /// Adds a message at the end and gives its number.
    pub fn enqueue(
        &mut self,
        message_id: Option<String>,
        sender: String,
        ack: Ack,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<u64, QueueFull> {
        if self.entries.len() >= QUEUE_MAX {
            return Err(QueueFull);
        }
        self.last_sequence += 1;
        let sequence = self.last_sequence;
        self.entries.push(Entry {
            sequence,
            message_id,
            enqueued: now,
            expires,
            ack,
            sender,
            deliveries: 0,
            delivered: None,
            abandoned: 0,
            lock: None,
            number: None,
            has_deadline: matches!(ack, Ack::Negative | Ack::Full),
        });
        Ok(sequence)
    }

    /// Whether [`Queue::take`] would give a message.
    pub fn has_next(&self, now: Timestamp) -> bool {
        self.entries.iter().any(|entry| !entry.is_locked(now) && entry.expires > now)
    }

    /// Gives the first message that nobody has, and locks it.
    pub fn take(
        &mut self,
        token: LockToken,
        by: Receiver,
        numbering: Numbering<'_>,
        now: Timestamp,
    ) -> Option<Taken> {
        let at = self.entries.iter().position(|entry| !entry.is_locked(now) && entry.expires > now)?;
        let until = now.checked_add(SignedDuration::try_from(LOCK_TIME).ok()?).ok()?;
        let had = self.entries[at].number;
        let number = match numbering {
            Numbering::None => None,
            Numbering::Session(under_way) => {
                had.filter(|had| !under_way.contains(had)).or_else(|| Some(self.next_number(under_way)))
            }
        };
        let entry = &mut self.entries[at];
        entry.number = number;
        entry.lock = Some(Lock { token, until, by });
        entry.deliveries += 1;
        entry.delivered = Some(now);
        Some(Taken { entry: entry.clone(), token, again: number.is_some() && number == had })
    }

    /// The next number that no message has, and that is not under way.
    fn next_number(&mut self, under_way: &[NonZeroU16]) -> NonZeroU16 {
        loop {
            // There are a thousand times as many numbers as a queue has messages.
            self.last_number = self.last_number.wrapping_add(1);
            if let Some(number) = NonZeroU16::new(self.last_number)
                && !under_way.contains(&number)
                && self.entries.iter().all(|entry| entry.number != Some(number))
            {
                return number;
            }
        }
    }

    /// Removes a message that its receiver is done with.
    pub fn finish(&mut self, token: LockToken, fate: Fate, now: Timestamp) -> Result<Dead, LockLost> {
        let at = self.locked(token, now)?;
        Ok(self.remove(at, fate, now))
    }

    /// Removes a message that cannot be given to its receiver: it would not fit the next time either.
    pub fn refuse(&mut self, token: LockToken, reason: Unfit, now: Timestamp) -> Result<Dead, LockLost> {
        let dead = self.finish(token, Fate::Rejected, now)?;
        let last = self.passed.back_mut().filter(|last| last.sequence == dead.entry.sequence);
        if let Some(last) = last {
            last.reason = Some(reason);
        }
        Ok(dead)
    }

    /// Takes a message back at the request of its receiver; beyond [`DELIVERIES_MAX`] times it is gone.
    pub fn abandon(&mut self, token: LockToken, now: Timestamp) -> Result<Option<Dead>, LockLost> {
        let at = self.locked(token, now)?;
        let entry = &mut self.entries[at];
        entry.abandoned += 1;
        if entry.abandoned >= DELIVERIES_MAX {
            return Ok(Some(self.remove(at, Fate::DeliveryCountExceeded, now)));
        }
        entry.number = None;
        entry.lock = None;
        Ok(None)
    }

    /// Takes back what the last connection had: that it is gone is nobody's verdict, and counts for nothing. Says whether
    /// there was anything. A session that does not go on knows no numbers.
    pub fn release_connection(&mut self, goes_on: bool) -> bool {
        let mut released = false;
        for entry in &mut self.entries {
            if !goes_on {
                released |= entry.number.take().is_some();
            }
            if entry.lock.as_ref().is_some_and(|lock| lock.by == Receiver::Connection) {
                entry.lock = None;
                released = true;
            }
        }
        released
    }

    /// Takes back what is locked with these tokens and no verdict came for, which counts for nothing. Says whether there was
    /// anything.
    pub fn give_back(&mut self, tokens: &[LockToken]) -> bool {
        let mut released = false;
        for entry in &mut self.entries {
            if entry.lock.as_ref().is_some_and(|lock| tokens.contains(&lock.token)) {
                entry.lock = None;
                released = true;
            }
        }
        released
    }

    /// Removes what expired. A message that a receiver has may still be settled until its lock lapses.
    pub fn expire(&mut self, now: Timestamp) -> Vec<Dead> {
        let gone = self.entries.extract_if(.., |entry| entry.expires <= now && !entry.is_locked(now));
        let dead: Vec<Entry> = gone.collect();
        self.dead(dead, Fate::Expired, now)
    }

    /// Removes everything, what receivers have included.
    pub fn purge(&mut self, now: Timestamp) -> Vec<Dead> {
        let purged = std::mem::take(&mut self.entries);
        self.dead(purged, Fate::Purged, now)
    }

    fn remove(&mut self, at: usize, fate: Fate, now: Timestamp) -> Dead {
        let entry = self.entries.remove(at);
        self.note(&entry, fate, now);
        Dead { entry, fate }
    }

    fn dead(&mut self, entries: Vec<Entry>, fate: Fate, now: Timestamp) -> Vec<Dead> {
        entries.iter().for_each(|entry| self.note(entry, fate, now));
        entries.into_iter().map(|entry| Dead { entry, fate }).collect()
    }

    /// Counts a message that is gone, and remembers it for a while.
    fn note(&mut self, entry: &Entry, fate: Fate, now: Timestamp) {
        self.gone.count(fate);
        if let Some(passed) = Passed::of(entry, fate, now) {
            if self.passed.len() >= PASSED_MAX {
                self.passed.pop_front();
            }
            self.passed.push_back(passed);
        }
    }

    /// Until when a receiver has this message.
    pub(super) fn held_until(&self, sequence: u64, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.iter().find(|entry| entry.sequence == sequence)?;
        entry.lock.as_ref().map(|lock| lock.until).filter(|until| *until > now)
    }

    /// Whether this message is in it.
    pub(super) fn holds(&self, sequence: u64) -> bool {
        self.entries.iter().any(|entry| entry.sequence == sequence)
    }

    fn locked(&self, token: LockToken, now: Timestamp) -> Result<usize, LockLost> {
        let held =
            |entry: &Entry| entry.lock.as_ref().is_some_and(|lock| lock.token == token && lock.until > now);
        self.entries.iter().position(held).ok_or(LockLost)
    }
}
