//! The queues of a hub: each step loaded, decided and committed.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::{
    Ack, Content, Dead, Entry, Fate, Gone, LockLost, LockToken, MESSAGE_BYTES_MAX, NotEnqueued, Numbering,
    Passed, Queue, Receiver, Submission, Unfit,
};
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::Identity;
use crate::ports::registry::{Change, Versioned, Write};
use crate::record::{Key, Kind, Record};
use crate::registry::{unknown_device, unknown_module};
use crate::service_bound::{Feedback, FeedbackKey};

/// A message in the hands of a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its place in the queue, and its state.
    pub entry: Entry,
    /// What it is settled with.
    pub token: LockToken,
    /// Whether the session had it already, under the same number.
    pub again: bool,
    /// What is in it.
    pub content: Content,
}

/// A queue, as an operator sees it: `sent` is always the sum of what is gone and what waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InboxView {
    /// How many messages were ever sent.
    pub sent: u64,
    /// How many are gone, and how.
    #[serde(flatten)]
    pub gone: Gone,
    /// What waits, in the order it was sent; what receivers have included.
    pub waiting: Vec<Waiting>,
    /// The last that are gone and had an id, in the order in which they went.
    pub passed: VecDeque<Passed>,
}

/// What became of all device-bound messages: `sent` is always the sum of what is gone and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InboxCounts {
    /// How many were ever sent to those who are registered now.
    pub sent: u64,
    /// How many wait.
    pub waiting: u64,
    /// How many are gone, and how.
    pub gone: Gone,
}

/// Queues that are read at once.
const PAGE: usize = 1_000;

/// A message that waits, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// Its number in the queue.
    pub sequence: u64,
    /// Its id, if its sender gave it one.
    pub message_id: Option<String>,
    /// When it was sent.
    pub enqueued: Timestamp,
    /// When it expires.
    pub expires: Timestamp,
    /// What its sender wants to hear of it.
    pub ack: Ack,
    /// How often it was handed out so far.
    pub deliveries: u32,
    /// Until when a receiver has it, if one does.
    pub locked_until: Option<Timestamp>,
}

impl Waiting {
    fn of(entry: Entry, now: Timestamp) -> Self {
        let locked_until = entry.lock.as_ref().map(|lock| lock.until).filter(|until| *until > now);
        Self {
            sequence: entry.sequence,
            deliveries: entry.deliveries,
            message_id: entry.message_id,
            enqueued: entry.enqueued,
            expires: entry.expires,
            ack: entry.ack,
            locked_until,
        }
    }
}

/// What a receiver makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// It is done with it.
    Complete,
    /// It does not want it.
    Reject,
    /// It cannot be given to it.
    Refuse(Unfit),
    /// It wants it again, or somebody else shall have it.
    Abandon,
}

/// A queue, and where its record has to be replaced.
pub(super) struct Loaded {
    pub(super) queue: Queue,
    version: Option<u64>,
    /// Messages of an earlier identity of this name.
    stale: Vec<Entry>,
}

impl Hub {
    /// Puts a message into the queue of a device or module; durable when this returns.
    pub async fn send_to_device(
        &self,
        identity: &Identity,
        submission: &Submission,
    ) -> Result<u64, NotEnqueued> {
        let bytes = submission.metered_bytes();
        if bytes > MESSAGE_BYTES_MAX {
            return Err(NotEnqueued::TooLarge { bytes });
        }
        submission.check_texts()?;
        let now = self.now();
        let expires = submission.expiry(now)?;
        let content = Content::from(submission);
        let generation = self.generation_of(identity).await?;
        let sequence = self
            .change(&[Key::Inbox(identity.clone())], |loaded| {
                let mut loaded = Loaded::of(loaded, &generation, now);
                let dead = loaded.queue.expire(now);
                let (id, sender) = (submission.message_id(), submission.sender.clone());
                let Ok(sequence) = loaded.queue.enqueue(id, sender, submission.ack, now, expires) else {
                    return Err(HubError::from(NotEnqueued::QueueFull));
                };
                // A message that is past its time is not kept for anybody.
                let at_once = loaded.queue.expire(now);
                let expired = !at_once.is_empty();
                let entry = loaded.queue.entries.last();
                let deadline = entry.filter(|_| !expired).and_then(|entry| entry.deadline(identity));
                let mut change = loaded.change(identity, &dead, now);
                let feedback = at_once.iter().filter_map(|dead| feedback(identity, &generation, dead, now));
                change.writes.extend(feedback);
                change.writes.extend(deadline.map(|deadline| Write {
                    key: Key::InboxDeadline(Box::new(deadline)),
                    replaces: None,
                    record: Some(Record::InboxDeadline),
                }));
                if !expired {
                    change.writes.push(Write {
                        key: Key::InboxMessage(identity.clone(), sequence),
                        replaces: None,
                        record: Some(Record::InboxMessage(Box::new(content.clone()))),
                    });
                }
                Ok((change, sequence))
            })
            .await
            .map_err(|error| match error.code {
                HubErrorCode::DeviceMaximumQueueDepthExceeded => NotEnqueued::QueueFull,
                _ => NotEnqueued::Hub(error),
            })?;
        self.tell_of_message(identity);
        Ok(sequence)
    }

    /// What was sent to a device or module, and what became of it. Nothing is taken.
    pub async fn inbox(&self, identity: &Identity) -> Result<InboxView, HubError> {
        let generation = self.generation_of(identity).await?;
        let stored = self.registry.load(Key::Inbox(identity.clone())).await?;
        let now = self.now();
        let mut queue = Loaded::of(&[stored], &generation, now).queue;
        queue.expire(now);
        Ok(InboxView {
            sent: queue.last_sequence,
            gone: queue.gone,
            waiting: queue.entries.into_iter().map(|entry| Waiting::of(entry, now)).collect(),
            passed: queue.passed,
        })
    }

    /// The counts of all queues together.
    pub async fn inbox_counts(&self) -> Result<InboxCounts, HubError> {
        let (mut total, now, mut after) = (InboxCounts::default(), self.now(), None);
        loop {
            let page = self.registry.list(Kind::Inbox, after, PAGE).await?;
            let is_last = page.len() < PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (_, stored) in page {
                let Record::Inbox(mut queue) = stored.record else { continue };
                queue.expire(now);
                total.sent += queue.last_sequence;
                total.waiting += queue.entries.len() as u64;
                total.gone += queue.gone;
            }
            if is_last {
                return Ok(total);
            }
        }
    }

    /// Tells the connection of an identity, if there is one, that a message waits which nobody has.
    fn tell_of_message(&self, identity: &Identity) {
        if let Some(holder) = self.bus.holder(identity) {
            holder.inbox_changed();
        }
    }

    /// Gives the first message that nobody has to a receiver that was admitted in this generation, and locks it for
    /// [`super::LOCK_TIME`].
    pub async fn take_from_inbox(
        &self,
        identity: &Identity,
        generation: &str,
        by: Receiver,
        numbering: Numbering<'_>,
    ) -> Result<Option<Delivery>, HubError> {
        let now = self.now();
        // A queue without anything to give, which is the rule, is not written.
        let stored = self.registry.load(Key::Inbox(identity.clone())).await?;
        if !Loaded::of(&[stored], generation, now).queue.has_next(now) {
            return Ok(None);
        }
        let token = self.lock_token();
        let taken = self
            .change(&[Key::Inbox(identity.clone())], |loaded| {
                let mut loaded = Loaded::of(loaded, generation, now);
                let dead = loaded.queue.expire(now);
                let taken = loaded.queue.take(token, by, numbering, now);
                Ok((loaded.change(identity, &dead, now), taken))
            })
            .await?;
        let Some(taken) = taken else { return Ok(None) };
        let stored = self.registry.load(Key::InboxMessage(identity.clone(), taken.entry.sequence)).await?;
        match stored.map(|stored| stored.record) {
            Some(Record::InboxMessage(content)) => {
                Ok(Some(Delivery { entry: taken.entry, token, again: taken.again, content: *content }))
            }
            // It was purged in between.
            _ => Ok(None),
        }
    }

    /// Settles a message; durable when this returns. One that is abandoned over HTTPS goes to the connection, if there is one.
    pub async fn settle(
        &self,
        identity: &Identity,
        generation: &str,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), HubError> {
        let now = self.now();
        self.change(&[Key::Inbox(identity.clone())], |loaded| {
            let mut loaded = Loaded::of(loaded, generation, now);
            let dead = match settlement {
                Settlement::Complete => loaded.queue.finish(token, Fate::Completed, now).map(Some),
                Settlement::Reject => loaded.queue.finish(token, Fate::Rejected, now).map(Some),
                Settlement::Refuse(reason) => loaded.queue.refuse(token, reason, now).map(Some),
                Settlement::Abandon => loaded.queue.abandon(token, now),
            };
            let mut dead: Vec<Dead> = dead.map_err(lock_lost)?.into_iter().collect();
            dead.extend(loaded.queue.expire(now));
            Ok((loaded.change(identity, &dead, now), ()))
        })
        .await?;
        if settlement == Settlement::Abandon {
            self.tell_of_message(identity);
        }
        Ok(())
    }

    /// Takes back what an earlier connection of an identity had, before the next one takes anything. A session that goes on
    /// keeps the numbers of what it had.
    pub async fn release_inbox(
        &self,
        identity: &Identity,
        generation: &str,
        goes_on: bool,
    ) -> Result<(), HubError> {
        self.take_back(identity, generation, |queue| queue.release_connection(goes_on)).await
    }

    /// Takes back what a receiver that is gone had and did not settle. What a newer one has by now stays with it.
    pub async fn give_back(
        &self,
        identity: &Identity,
        generation: &str,
        tokens: &[LockToken],
    ) -> Result<(), HubError> {
        if tokens.is_empty() {
            return Ok(());
        }
        self.take_back(identity, generation, |queue| queue.give_back(tokens)).await?;
        self.tell_of_message(identity);
        Ok(())
    }

    /// Writes the queue only if there is something to take back.
    async fn take_back(
        &self,
        identity: &Identity,
        generation: &str,
        released: impl Fn(&mut Queue) -> bool,
    ) -> Result<(), HubError> {
        let now = self.now();
        let stored = self.registry.load(Key::Inbox(identity.clone())).await?;
        if !released(&mut Loaded::of(&[stored], generation, now).queue) {
            return Ok(());
        }
        self.change(&[Key::Inbox(identity.clone())], |loaded| {
            let mut loaded = Loaded::of(loaded, generation, now);
            Ok(match released(&mut loaded.queue) {
                true => (loaded.change(identity, &[], now), ()),
                false => (Change::default(), ()),
            })
        })
        .await
    }

    /// Empties the queue of a device or module, and says how many messages were in it.
    pub async fn purge_inbox(&self, identity: &Identity) -> Result<usize, HubError> {
        let generation = self.generation_of(identity).await?;
        let now = self.now();
        self.change(&[Key::Inbox(identity.clone())], |loaded| {
            let mut loaded = Loaded::of(loaded, &generation, now);
            let mut dead = loaded.queue.expire(now);
            let purged = loaded.queue.purge(now);
            let count = purged.len();
            dead.extend(purged);
            Ok((loaded.change(identity, &dead, now), count))
        })
        .await
    }

    fn lock_token(&self) -> LockToken {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        LockToken(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }

    /// The generation of a registered identity.
    async fn generation_of(&self, identity: &Identity) -> Result<String, HubError> {
        let device = self.registry.load(Key::Device(identity.device.clone())).await?;
        let Some(Record::Device(device)) = device.map(|stored| stored.record) else {
            return Err(unknown_device(&identity.device));
        };
        let Some(id) = &identity.module else { return Ok(device.generation) };
        let module = self.registry.load(Key::Module(identity.device.clone(), id.clone())).await?;
        match module.map(|stored| stored.record) {
            Some(Record::Module(module)) => Ok(module.generation),
            _ => Err(unknown_module(&identity.device, id)),
        }
    }
}

/// How many messages wait in a stored queue.
pub(crate) fn waiting(stored: &Option<Versioned>, generation: &str, now: Timestamp) -> usize {
    if stored.is_none() {
        return 0;
    }
    let mut queue = Loaded::of(std::slice::from_ref(stored), generation, now).queue;
    queue.expire(now);
    queue.entries.len()
}

impl Loaded {
    pub(super) fn of(stored: &[Option<Versioned>], generation: &str, now: Timestamp) -> Self {
        let mut loaded = Self::as_stored(stored).unwrap_or_else(|| Self {
            queue: Queue::new(generation),
            version: None,
            stale: Vec::new(),
        });
        if loaded.queue.generation != generation {
            // Numbers go on, for the contents of the old messages are still there.
            loaded.stale = loaded.queue.purge(now).into_iter().map(|dead| dead.entry).collect();
            generation.clone_into(&mut loaded.queue.generation);
        }
        loaded
    }

    /// The queue as it lies, of whichever generation.
    pub(super) fn as_stored(stored: &[Option<Versioned>]) -> Option<Self> {
        let stored = stored.first()?.as_ref()?;
        match &stored.record {
            Record::Inbox(queue) => {
                Some(Self { queue: (**queue).clone(), version: Some(stored.version), stale: Vec::new() })
            }
            _ => None,
        }
    }

    /// The change that makes the queue what it is now, without the contents of what left it, and with what its senders
    /// are to hear.
    pub(super) fn change(self, identity: &Identity, dead: &[Dead], now: Timestamp) -> Change {
        let generation = &self.queue.generation;
        let mut writes: Vec<Write> =
            dead.iter().filter_map(|dead| feedback(identity, generation, dead, now)).collect();
        // Of what was sent to an earlier identity nobody hears any more.
        for entry in dead.iter().map(|dead| &dead.entry).chain(&self.stale) {
            let content = Key::InboxMessage(identity.clone(), entry.sequence);
            let deadline = entry.deadline(identity).map(|deadline| Key::InboxDeadline(Box::new(deadline)));
            // Each is written once.
            let gone = |key| Write { key, replaces: Some(1), record: None };
            writes.extend(std::iter::once(content).chain(deadline).map(gone));
        }
        writes.push(Write {
            key: Key::Inbox(identity.clone()),
            replaces: self.version,
            record: Some(Record::Inbox(Box::new(self.queue))),
        });
        Change { writes, ..Change::default() }
    }
}

/// What the sender of a message is to hear of its end, if it is to hear anything.
fn feedback(identity: &Identity, generation: &str, dead: &Dead, now: Timestamp) -> Option<Write> {
    let key = FeedbackKey {
        identity: identity.clone(),
        generation: generation.to_owned(),
        sequence: dead.entry.sequence,
    };
    let record = Record::Feedback(Feedback::of(dead, now)?);
    Some(Write { key: Key::Feedback(Box::new(key)), replaces: None, record: Some(record) })
}

fn lock_lost(_: LockLost) -> HubError {
    HubError::new(
        HubErrorCode::DeviceMessageLockLost,
        "The lock of this message lapsed, or it was settled already",
    )
}

/// Reads a lock token as clients send it back.
pub fn lock_token(text: &str) -> Result<LockToken, HubError> {
    Uuid::try_parse(text.trim_matches('"')).map(LockToken).map_err(|_| lock_lost(LockLost))
}
