//! Events that the hub makes itself and puts into the stream: twins that changed, identities that were made or removed,
//! devices that came and went (`hub-events` in `docs/operating.md`).
//!
//! Those of a change are part of it ([`Change::events`](crate::ports::registry::Change)) and enter the stream in the order
//! of the commits. A device cannot send what looks like one: the source is a stamp of the hub.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::hub::{Hub, SECURITY_PARTITIONS};
use crate::identity::Identity;
use crate::ports::bus::{Epoch, Holder};
use crate::ports::event_log::EventLog;
use crate::ports::registry::{Versioned, Write};
use crate::record::{Key, Record};
use crate::telemetry::{Message, PropertyValue, Sender, Source, SystemProperty};
use crate::twin::{Members, Twin, time_text};

/// Which of its own events a hub makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct HubEvents {
    /// Twins that changed.
    pub twin_changes: bool,
    /// Identities that were made or removed.
    pub lifecycle: bool,
    /// Devices and modules that came and went over MQTT and AMQP.
    pub connection_state: bool,
}

impl HubEvents {
    /// All of them.
    pub const ALL: Self = Self { twin_changes: true, lifecycle: true, connection_state: true };
    /// None of them.
    pub const NONE: Self = Self { twin_changes: false, lifecycle: false, connection_state: false };
}

/// What is not the name of a source of events.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no source of events of the hub: name TwinChangeEvents, DeviceLifecycleEvents, \
     DeviceConnectionStateEvents with commas between them, or all, or none"
)]
pub struct UnknownSource(String);

impl TryFrom<String> for HubEvents {
    type Error = UnknownSource;

    fn try_from(text: String) -> Result<Self, UnknownSource> {
        text.parse()
    }
}

impl FromStr for HubEvents {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, UnknownSource> {
        let mut events = Self::NONE;
        for name in text.split(',').map(str::trim) {
            match name.to_ascii_lowercase().as_str() {
                "all" => events = Self::ALL,
                "none" => {}
                "twinchangeevents" => events.twin_changes = true,
                "devicelifecycleevents" => events.lifecycle = true,
                "deviceconnectionstateevents" => events.connection_state = true,
                _ => return Err(UnknownSource(name.to_owned())),
            }
        }
        Ok(events)
    }
}

/// The way of the hub's own events into the stream.
pub struct EventStream {
    log: Arc<dyn EventLog>,
    lost: AtomicU64,
}

impl EventStream {
    /// Into this log.
    pub fn new(log: Arc<dyn EventLog>) -> Self {
        Self { log, lost: AtomicU64::new(0) }
    }

    /// Puts events into the stream. What the log has no room for is lost and counted, for what it tells of has happened.
    pub fn publish(&self, events: &[Message]) {
        for event in events {
            let partitions = self.log.partition_count() - SECURITY_PARTITIONS;
            let partition = self.log.placement().partition_of(&event.sender.identity.device, partitions);
            if self.log.append(partition, std::slice::from_ref(event)).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// How many events did not enter the stream, because the log had no room or failed.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// What happened to whom.
struct Happening<'a> {
    source: Source,
    schema: &'static str,
    operation: &'static str,
    identity: &'a Identity,
    time: Timestamp,
}

impl Hub {
    /// The event of a twin that a service or its device changed in part: `changed` holds what was given.
    pub(crate) fn twin_updated(
        &self,
        identity: &Identity,
        twin: &Twin,
        changed: &TwinParts<'_>,
        time: Timestamp,
    ) -> Option<Message> {
        self.settings.events.twin_changes.then(|| {
            let mut body = Map::from_iter([("version".to_owned(), json!(twin.version))]);
            if let Some(tags) = changed.tags.as_deref() {
                body.insert("tags".to_owned(), Value::Object(tags.clone()));
            }
            let mut properties = Map::new();
            for (name, section, patch) in [
                ("desired", &twin.desired, changed.desired.as_deref()),
                ("reported", &twin.reported, changed.reported.as_deref()),
            ] {
                if let Some(patch) = patch {
                    properties.insert(name.to_owned(), section.changed_json(patch));
                }
            }
            if !properties.is_empty() {
                body.insert("properties".to_owned(), Value::Object(properties));
            }
            self.event(&twin_change("updateTwin", identity, time), &Value::Object(body))
        })
    }

    /// The event of a twin that was replaced.
    pub(crate) fn twin_replaced(&self, identity: &Identity, twin: &Twin, time: Timestamp) -> Option<Message> {
        let happening = twin_change("replaceTwin", identity, time);
        self.settings.events.twin_changes.then(|| self.event(&happening, &whole(identity, twin)))
    }

    /// The events of the identities whose first twins are among these writes.
    pub(crate) fn made(&self, writes: &[Write], time: Timestamp) -> Vec<Message> {
        let twins = writes.iter().filter_map(|write| twin_of(&write.key, write.record.as_ref()));
        self.lifecycle("createDeviceIdentity", twins, time)
    }

    /// The events of the identities whose last twins are among these records.
    pub(crate) fn removed(
        &self,
        keys: &[Key],
        loaded: &[Option<Versioned>],
        time: Timestamp,
    ) -> Vec<Message> {
        let records = loaded.iter().map(|stored| stored.as_ref().map(|stored| &stored.record));
        let twins = keys.iter().zip(records).filter_map(|(key, record)| twin_of(key, record));
        self.lifecycle("deleteDeviceIdentity", twins, time)
    }

    fn lifecycle<'a>(
        &self,
        operation: &'static str,
        twins: impl Iterator<Item = (&'a Identity, &'a Twin)>,
        time: Timestamp,
    ) -> Vec<Message> {
        if !self.settings.events.lifecycle {
            return Vec::new();
        }
        let (source, schema) = (Source::DeviceLifecycle, "deviceLifecycleNotification");
        let event = |(identity, twin)| {
            self.event(&Happening { source, schema, operation, identity, time }, &whole(identity, twin))
        };
        twins.map(event).collect()
    }

    /// Makes this the connection of its identity, ends the one that was, and tells the stream.
    pub fn claim(&self, holder: Arc<dyn Holder>) -> Epoch {
        let identity = holder.grant().identity().clone();
        let epoch = self.bus.claim(holder);
        self.connection_event("deviceConnected", &identity);
        epoch
    }

    /// Gives the claim up, if it is still the current one, and tells the stream that the identity is gone.
    pub fn release(&self, identity: &Identity, epoch: Epoch) {
        if self.bus.release(identity, epoch) {
            self.connection_event("deviceDisconnected", identity);
        }
    }

    fn connection_event(&self, operation: &'static str, identity: &Identity) {
        if !self.settings.events.connection_state {
            return;
        }
        let time = self.now();
        let happening = Happening {
            source: Source::DeviceConnectionState,
            schema: "deviceConnectionStateNotification",
            operation,
            identity,
            time,
        };
        let body = json!({ "sequenceNumber": sequence_number(time) });
        self.events.publish(&[self.event(&happening, &body)]);
    }

    fn event(&self, happening: &Happening<'_>, body: &Value) -> Message {
        let Happening { source, schema, operation, identity, time } = happening;
        let hub_name = self.settings.hosts.first().map_or("hub", |host| match host.split_once('.') {
            Some((name, _)) if host.parse::<std::net::IpAddr>().is_err() => name,
            _ => host,
        });
        let mut random = [0_u8; 6];
        self.random.fill(&mut random);
        let correlation: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = |value: String| PropertyValue::Text(value.into());
        let mut application = vec![
            ("opType".into(), text((*operation).to_owned())),
            ("hubName".into(), text(hub_name.to_owned())),
            ("deviceId".into(), text(identity.device.to_string())),
        ];
        if let Some(module) = &identity.module {
            application.push(("moduleId".into(), text(module.to_string())));
        }
        application.push(("operationTimestamp".into(), text(time_text(*time))));
        Message {
            enqueued: time.as_millisecond(),
            sender: Arc::new(Sender {
                identity: (*identity).clone(),
                generation: String::new(),
                auth_method: String::new(),
                source: *source,
                model_id: None,
            }),
            system: vec![
                (SystemProperty::CorrelationId, correlation.into()),
                (SystemProperty::UserId, hub_name.into()),
                (SystemProperty::ContentType, "application/json".into()),
                (SystemProperty::ContentEncoding, "utf-8".into()),
                (SystemProperty::MessageSchema, (*schema).into()),
            ],
            application,
            body: Bytes::from(body.to_string()),
        }
    }
}

/// The parts of a twin that a change named, as they were given.
#[derive(Default)]
pub(crate) struct TwinParts<'a> {
    pub(crate) tags: Option<Cow<'a, Members>>,
    pub(crate) desired: Option<Cow<'a, Members>>,
    pub(crate) reported: Option<Cow<'a, Members>>,
}

fn twin_change<'a>(operation: &'static str, identity: &'a Identity, time: Timestamp) -> Happening<'a> {
    Happening { source: Source::TwinChange, schema: "twinChangeNotification", operation, identity, time }
}

fn twin_of<'a>(key: &'a Key, record: Option<&'a Record>) -> Option<(&'a Identity, &'a Twin)> {
    match (key, record) {
        (Key::Twin(identity), Some(Record::Twin(twin))) => Some((identity, twin)),
        _ => None,
    }
}

/// A whole twin, as the bodies of events hold it.
fn whole(identity: &Identity, twin: &Twin) -> Value {
    let mut body = Map::from_iter([("deviceId".to_owned(), json!(identity.device.as_str()))]);
    if let Some(module) = &identity.module {
        body.insert("moduleId".to_owned(), json!(module.as_str()));
    }
    body.insert("etag".to_owned(), json!(twin.etag()));
    body.insert("version".to_owned(), json!(twin.version));
    if !twin.tags.is_empty() {
        body.insert("tags".to_owned(), Value::Object(twin.tags.clone()));
    }
    body.insert(
        "properties".to_owned(),
        json!({ "desired": twin.desired.to_json(), "reported": twin.reported.to_json() }),
    );
    Value::Object(body)
}

/// The number of a connection state, as 64 hexadecimal digits that are compared as text: it rises with every event of the
/// process, and with the time from one process to the next.
fn sequence_number(time: Timestamp) -> String {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let now = u64::try_from(time.as_microsecond()).unwrap_or_default();
    let next = |last: u64| now.max(last + 1);
    let before = LAST.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
    let number = next(before.unwrap_or_default());
    format!("{:032X}{number:032X}", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_by_azures_names_without_case() {
        let all: HubEvents =
            "twinChangeEvents, DeviceLifecycleEvents,DEVICECONNECTIONSTATEEVENTS".parse().expect("sources");
        assert_eq!((all, "all".parse(), "none".parse()), (HubEvents::ALL, Ok(all), Ok(HubEvents::NONE)));
        let error = "twinChangeEvents,routes".parse::<HubEvents>().expect_err("no such source");
        assert!(error.to_string().contains("`routes`"), "{error}");
        assert!("".parse::<HubEvents>().is_err());
    }

    #[test]
    fn sequence_numbers_rise_as_text_even_when_the_clock_goes_back() {
        let time = |seconds| Timestamp::from_second(seconds).expect("a time");
        let numbers =
            [time(1_900_000_000), time(1_900_000_000), time(10), time(1_900_000_001)].map(sequence_number);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(numbers.iter().all(|number| number.len() == 64));
    }
}
