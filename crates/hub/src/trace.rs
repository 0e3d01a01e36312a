//! What became of one message, found by its id: computed from the stream of events, the queues of device-bound messages and the
//! positions of readers. No record is kept of a message.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::error::HubError;
use crate::hub::Hub;
use crate::identity::{DeviceId, Identity};
use crate::inbox::{Entry, Passed, Queue, Unfit};
use crate::ports::event_log::{ReadError, StoredEvent};
use crate::positions::ReadState;
use crate::record::{Key, Kind, Record};
use crate::telemetry::SystemProperty;

/// Events that one step of a search looks at.
const EVENTS_MAX: usize = 20_000;
/// Bytes of events that are read at once.
const BYTES_MAX: usize = 1024 * 1024;
/// Queues that one step of a search looks at.
const QUEUES_MAX: usize = 2_000;

/// A step of a search through one partition of the stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventsTraced {
    /// What was found.
    pub found: Vec<TracedEvent>,
    /// The first event that this step looked at, or would have.
    pub first: u64,
    /// Where the next step begins; `None` when the partition is searched.
    pub next: Option<u64>,
    /// One past the last event of the partition.
    pub end: u64,
}

/// An event of the stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedEvent {
    /// Who sent it.
    pub identity: Identity,
    /// How the connection that sent it was authenticated, as readers are told.
    pub auth_method: String,
    /// What kind of event it is.
    pub source: &'static str,
    /// When the hub received it.
    pub received: Timestamp,
    /// The partition in which it is durable.
    pub partition: u16,
    /// Its number there.
    pub sequence: u64,
    /// Its offset.
    pub offset: u64,
    /// What each consumer group has made of it.
    pub readers: BTreeMap<String, Read>,
}

/// What the readers of a group have made of an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Read {
    /// Whether it was handed to one.
    pub state: ReadState,
    /// How many events they have to read before it; 0 when they are past it.
    pub ahead: u64,
    /// When they were handed something of this partition last.
    pub last: Option<Timestamp>,
}

/// A step of a search through the queues of device-bound messages.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessagesTraced {
    /// What was found.
    pub found: Vec<TracedMessage>,
    /// After whose queue the next step goes on; `None` when all are searched.
    pub next: Option<Identity>,
}

/// A device-bound message.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedMessage {
    /// Who it is for.
    pub identity: Identity,
    /// Its number in the queue.
    pub sequence: u64,
    /// Who sent it: a policy, or the operator.
    pub sender: String,
    /// When the hub took it, durably.
    pub received: Timestamp,
    /// How often it was handed to a receiver.
    pub deliveries: u32,
    /// When that was last.
    pub delivered: Option<Timestamp>,
    /// `waiting`, `locked`, or how it went.
    pub state: String,
    /// When it went; until when a receiver has it; when it expires.
    pub at: Timestamp,
    /// `connection` or `requests`: who settled it, or has it.
    pub by: Option<String>,
    /// Why the hub rejected it in place of its receiver, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

impl Hub {
    /// Looks for a message of this id in a partition, from a sequence number on. With a device, only among its own.
    pub async fn trace_events(
        &self,
        id: &str,
        device: Option<&DeviceId>,
        partition: u16,
        from: u64,
    ) -> Result<EventsTraced, HubError> {
        let bounds = self.log.bounds(partition).filter(|_| partition < self.partition_count());
        let bounds = bounds.ok_or_else(|| read_error(&ReadError::NoPartition(partition)))?;
        let end = bounds.next_sequence;
        let first = from.max(bounds.first_sequence);
        let elsewhere = device.is_some_and(|device| self.partition_of(device) != partition);
        let mut traced = EventsTraced {
            found: Vec::new(),
            first,
            next: (!elsewhere && first < end).then_some(first),
            end,
        };
        let mut looked_at = 0;
        while let Some(at) = traced.next.filter(|_| looked_at < EVENTS_MAX) {
            let events = self.log.read(partition, at, EVENTS_MAX - looked_at, BYTES_MAX).await;
            let events = events.map_err(|error| read_error(&error))?;
            looked_at += events.len();
            // What is durable and does not come is gone: the rest of the partition, when nothing comes.
            traced.next = events.last().map(|last| last.sequence + 1).filter(|next| *next < end);
            for event in events.iter().filter(|event| is_it(event, id, device)) {
                traced.found.push(self.traced(partition, event).await?);
            }
        }
        Ok(traced)
    }

    async fn traced(&self, partition: u16, event: &StoredEvent) -> Result<TracedEvent, HubError> {
        let sender = &event.message.sender;
        let groups = self.consumer_groups().await?;
        let read = |group: &String| {
            let position = self.positions.get(group, partition);
            let state = position.fate(event.sequence);
            Read { state, ahead: event.sequence.saturating_sub(position.next), last: position.last }
        };
        Ok(TracedEvent {
            identity: sender.identity.clone(),
            auth_method: sender.auth_method.clone(),
            source: sender.source.as_str(),
            received: Timestamp::from_millisecond(event.message.enqueued).unwrap_or_default(),
            partition,
            sequence: event.sequence,
            offset: event.offset,
            readers: groups.iter().map(|group| (group.clone(), read(group))).collect(),
        })
    }

    /// Looks for a message of this id among those that wait in the queues, and the last [`crate::inbox::PASSED_MAX`] that left
    /// each; after an identity, in the order of the queues. With a device, only in its own queues.
    pub async fn trace_messages(
        &self,
        id: &str,
        device: Option<&DeviceId>,
        after: Option<Identity>,
    ) -> Result<MessagesTraced, HubError> {
        let stored = match device {
            Some(device) => self.registry.list_of(Kind::Inbox, device.clone()).await?,
            None => self.registry.list(Kind::Inbox, after.map(Key::Inbox), QUEUES_MAX).await?,
        };
        let is_full = device.is_none() && stored.len() == QUEUES_MAX;
        let now = self.now();
        let mut traced = MessagesTraced { found: Vec::new(), next: None };
        for (key, stored) in stored {
            let (Key::Inbox(identity), Record::Inbox(mut queue)) = (key, stored.record) else { continue };
            queue.expire(now);
            traced.found.extend(in_queue(&identity, &queue, id, now));
            traced.next = is_full.then_some(identity);
        }
        Ok(traced)
    }
}

fn is_it(event: &StoredEvent, id: &str, device: Option<&DeviceId>) -> bool {
    let message = &event.message;
    let has_id = |(property, value): &(SystemProperty, _)| {
        *property == SystemProperty::MessageId && AsRef::<str>::as_ref(value) == id
    };
    message.system.iter().any(has_id) && device.is_none_or(|device| message.sender.identity.device == *device)
}

fn in_queue(identity: &Identity, queue: &Queue, id: &str, now: Timestamp) -> Vec<TracedMessage> {
    let passed = queue.passed.iter().filter(|passed| passed.message_id == id);
    let waiting = queue.entries.iter().filter(|entry| entry.message_id.as_deref() == Some(id));
    let passed = passed.map(|passed| TracedMessage::passed(identity, passed));
    passed.chain(waiting.map(|entry| TracedMessage::waiting(identity, entry, now))).collect()
}

impl TracedMessage {
    fn passed(identity: &Identity, passed: &Passed) -> Self {
        Self {
            identity: identity.clone(),
            sequence: passed.sequence,
            sender: passed.sender.clone(),
            received: passed.enqueued,
            deliveries: passed.deliveries,
            delivered: passed.delivered,
            state: passed.fate.as_str().to_owned(),
            at: passed.ended,
            by: passed.by.map(|by| by.as_str().to_owned()),
            reason: passed.reason.map(Unfit::as_str),
        }
    }

    fn waiting(identity: &Identity, entry: &Entry, now: Timestamp) -> Self {
        let lock = entry.lock.as_ref().filter(|lock| lock.until > now);
        Self {
            identity: identity.clone(),
            sequence: entry.sequence,
            sender: entry.sender.clone(),
            received: entry.enqueued,
            deliveries: entry.deliveries,
            delivered: entry.delivered,
            state: if lock.is_some() { "locked" } else { "waiting" }.to_owned(),
            at: lock.map_or(entry.expires, |lock| lock.until),
            by: lock.map(|lock| lock.by.as_str().to_owned()),
            reason: None,
        }
    }
}

fn read_error(error: &ReadError) -> HubError {
    let code = match error {
        ReadError::NoPartition(_) => crate::error::HubErrorCode::ArgumentInvalid,
        _ => crate::error::HubErrorCode::ServerError,
    };
    HubError::new(code, error.to_string())
}
