//! The messages to services of a hub: each step loaded, decided and committed.

use jiff::Timestamp;
use serde_json::Value;

use super::{BATCH_MAX, Feedback, FeedbackKey, Lane, Number, WAITING_MAX, Waiting};
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::inbox::{LockLost, LockToken, Settlement};
use crate::ports::registry::{Change, StoreError, Versioned, Write};
use crate::record::{Key, Kind, Record};

/// Messages that are looked at in one go.
const PAGE: usize = 32;

/// A message in the hands of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// What it is settled with.
    pub token: LockToken,
    /// When it was made.
    pub enqueued: Timestamp,
    /// How often it was abandoned.
    pub abandoned: u32,
    /// What is in it: JSON.
    pub body: String,
}

/// What there is for a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This message.
    Message(Box<Delivery>),
    /// Nothing, and nothing comes back from another receiver before then.
    Nothing(Option<Timestamp>),
}

impl Hub {
    /// Gives a receiver the oldest message that nobody has, and locks it for [`super::LOCK_TIME`].
    pub async fn take_service_bound(&self, lane: Lane) -> Result<Next, HubError> {
        let now = self.now();
        let mut back: Option<Timestamp> = None;
        let mut after = None;
        loop {
            let page = self.registry.list(lane.kind(), after.take(), PAGE).await?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, stored) in page {
                let (Key::ServiceBound(_, number), Record::ServiceBound(mut waiting)) = (&key, stored.record)
                else {
                    continue;
                };
                if let Some(until) = waiting.held_until(now) {
                    back = Some(back.map_or(until, |back| back.min(until)));
                    continue;
                }
                let mut random = [0; 8];
                self.random.fill(&mut random);
                let token = number.token(random);
                let taken = waiting.take(token, now);
                let record = taken.then(|| Record::ServiceBound(waiting.clone()));
                let write = Write { key, replaces: Some(stored.version), record };
                match self.registry.commit(Change { writes: vec![write], ..Change::default() }).await {
                    Ok(_) if taken => {
                        let Waiting { enqueued, abandoned, body, .. } = *waiting;
                        return Ok(Next::Message(Box::new(Delivery { token, enqueued, abandoned, body })));
                    }
                    // It expired, or another receiver was first.
                    Ok(_) | Err(StoreError::Stale(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !full {
                return Ok(Next::Nothing(back));
            }
        }
    }

    /// Settles a message; durable when this returns.
    pub async fn settle_service_bound(
        &self,
        lane: Lane,
        token: LockToken,
        settlement: Settlement,
    ) -> Result<(), HubError> {
        self.change_held(lane, token, |waiting, now| waiting.settle(token, settlement, now)).await
    }

    /// Takes a message back from a receiver that is gone.
    pub async fn release_service_bound(&self, lane: Lane, token: LockToken) -> Result<(), HubError> {
        self.change_held(lane, token, |waiting, now| waiting.release(token, now).map(|()| true)).await
    }

    async fn change_held(
        &self,
        lane: Lane,
        token: LockToken,
        step: impl Fn(&mut Waiting, Timestamp) -> Result<bool, LockLost>,
    ) -> Result<(), HubError> {
        let key = Key::ServiceBound(lane, Number::of(token));
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let Some(Versioned { version, record: Record::ServiceBound(waiting) }) = &loaded[0] else {
                return Err(lock_lost());
            };
            let mut waiting = waiting.clone();
            let stays = step(&mut waiting, now).map_err(|LockLost| lock_lost())?;
            let record = stays.then_some(Record::ServiceBound(waiting));
            let write = Write { key: key.clone(), replaces: Some(*version), record };
            Ok((Change { writes: vec![write], ..Change::default() }, ()))
        })
        .await
    }

    /// What puts a message into its queue, the oldest one gone where the queue is full.
    pub(crate) async fn service_bound_writes(
        &self,
        lane: Lane,
        body: String,
        now: Timestamp,
    ) -> Result<Vec<Write>, StoreError> {
        let mut random = [0; 2];
        self.random.fill(&mut random);
        let key = Key::ServiceBound(lane, Number::new(now, random));
        let record = Some(Record::ServiceBound(Box::new(Waiting::new(body, now))));
        let mut writes = vec![Write { key, replaces: None, record }];
        if self.registry.count(lane.kind()).await? >= WAITING_MAX {
            let oldest = self.registry.list(lane.kind(), None, 1).await?;
            writes.extend(oldest.into_iter().map(|(key, stored)| Write {
                key,
                replaces: Some(stored.version),
                record: None,
            }));
        }
        Ok(writes)
    }

    /// Makes a message of the feedback that waits, if there are at least so many records, and says how many there are left
    /// to look at: 0 when fewer than that wait.
    pub async fn batch_feedback(&self, at_least: usize) -> Result<usize, HubError> {
        loop {
            let waiting = self.registry.list(Kind::Feedback, None, BATCH_MAX).await?;
            if waiting.is_empty() || waiting.len() < at_least {
                return Ok(0);
            }
            let count = waiting.len();
            let mut records: Vec<(FeedbackKey, Feedback)> = Vec::with_capacity(count);
            let mut writes = Vec::with_capacity(count + 2);
            for (key, stored) in waiting {
                if let (Key::Feedback(of), Record::Feedback(feedback)) = (&key, stored.record) {
                    records.push(((**of).clone(), feedback));
                }
                writes.push(Write { key, replaces: Some(stored.version), record: None });
            }
            records.sort_by_key(|(_, feedback)| feedback.time);
            let records: Vec<Value> = records.iter().map(|(key, feedback)| feedback.json(key)).collect();
            let body = Value::Array(records).to_string();
            writes.extend(self.service_bound_writes(Lane::Feedback, body, self.now()).await?);
            match self.registry.commit(Change { writes, ..Change::default() }).await {
                Ok(_) => return Ok(count),
                // A device was deleted in between, and its feedback with it.
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How many messages of a kind wait, those included that a receiver has.
    pub async fn service_bound_waiting(&self, lane: Lane) -> Result<u64, HubError> {
        Ok(self.registry.count(lane.kind()).await?)
    }

    /// Removes what expired.
    pub async fn expire_service_bound(&self, lane: Lane) -> Result<(), HubError> {
        let now = self.now();
        loop {
            let page = self.registry.list(lane.kind(), None, PAGE).await?;
            let full = page.len() == PAGE;
            let is_expired = |stored: &Versioned| matches!(&stored.record, Record::ServiceBound(waiting) if waiting.is_expired(now));
            let gone = page.into_iter().filter(|(_, stored)| is_expired(stored));
            let writes: Vec<Write> = gone
                .map(|(key, stored)| Write { key, replaces: Some(stored.version), record: None })
                .collect();
            let all = writes.len() == PAGE;
            if writes.is_empty() {
                return Ok(());
            }
            match self.registry.commit(Change { writes, ..Change::default() }).await {
                Ok(_) if full && all => {}
                // A receiver took one of them in between: the next look finds the others.
                Ok(_) | Err(StoreError::Stale(_)) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn lock_lost() -> HubError {
    HubError::new(
        HubErrorCode::DeviceMessageLockLost,
        "The lock of this message lapsed, or it was settled already",
    )
}
