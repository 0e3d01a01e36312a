//! Telemetry over HTTPS: one message, or a batch (`docs/protocol/device-https.md` §3).

use std::future::poll_fn;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use hub::authenticate::Grant;
use hub::decision::Door;
use hub::deed::DeviceOperation;
use hub::error::{HubError, HubErrorCode};
use hub::hub::{Hub, NotTaken};
use hub::identity::Identity;
use hub::ports::event_log::AppendError;
use hub::properties::Properties;
use hub::refusal::Refusal;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message, PropertyValue, SystemProperty};
use hyper::body::Incoming;
use serde_json::Value;

use super::answer::{Answer, no_content};
use super::request::{self, Asked};
use super::{HttpsFront, authorize, shapes};
use crate::listen::Visitor;
use crate::metrics::DoorMetrics;

const BATCH_TYPE: &str = "application/vnd.microsoft.iothub.json";
const APPLICATION_PREFIX: &str = "iothub-app-";
/// Messages in one batch (`docs/protocol/limits.md` §1).
const BATCH_MESSAGES_MAX: usize = 500;
/// Base64 and JSON make a batch of the largest size this much longer on the wire.
const BATCH_BYTES_MAX: usize = MESSAGE_BYTES_MAX * 2;

/// `POST /devices/{d}[/modules/{m}]/messages/events`.
pub(super) async fn send(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    header_names: &[String],
    identity: Identity,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let door = front.metrics.door(Some(Door::Https));
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::SendTelemetry).await?;
    let sent = take(hub, &door, (asked, visitor), header_names, &grant, incoming).await;
    if let Err(HubError { code: HubErrorCode::MessageTooLarge, .. }) = &sent {
        door.too_large();
        // A body that is too long is not read to its end, which a chunked one does not tell.
        let told = asked.header("content-length").and_then(|length| length.parse().ok());
        let size = told.unwrap_or(MESSAGE_BYTES_MAX + 1);
        let refusal = Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX };
        authorize::not_served(hub, asked, visitor, Some(identity.to_string()), refusal);
    }
    sent
}

async fn take(
    hub: &Hub,
    door: &DoorMetrics,
    (asked, visitor): (&Asked, &Visitor),
    header_names: &[String],
    grant: &Grant,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let content_type = asked.header("content-type").unwrap_or_default();
    let is_batch =
        content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(BATCH_TYPE));
    let messages = match is_batch {
        true => batch(hub, grant, &request::json(incoming, BATCH_BYTES_MAX, &shapes::BATCH).await?)?,
        false => {
            let body = request::body(incoming, MESSAGE_BYTES_MAX).await?;
            vec![single(hub, grant, asked, header_names, body)?]
        }
    };
    let (taken, begun) = (messages.len() as u64, Instant::now());
    let bytes = messages.iter().map(Message::metered_bytes).sum::<usize>() as u64;
    let refused = |error: &NotTaken| {
        if matches!(error, NotTaken::Log(AppendError::NoSpace)) {
            let identity = grant.identity().to_string();
            authorize::not_served(hub, asked, visitor, Some(identity), Refusal::DiskFull);
        }
        not_taken(error)
    };
    let tickets = hub.take_batch(messages).map_err(|error| {
        if matches!(error, NotTaken::Log(_)) {
            door.full();
        }
        refused(&error)
    })?;
    for ticket in tickets {
        poll_fn(|cx| hub.log.poll_durable(ticket, cx))
            .await
            .map_err(|error| refused(&NotTaken::Log(error)))?;
    }
    door.accepted(taken, bytes);
    door.acknowledged.observe(begun.elapsed());
    Ok(no_content())
}

fn single(
    hub: &Hub,
    grant: &Grant,
    asked: &Asked,
    header_names: &[String],
    body: Bytes,
) -> Result<Message, HubError> {
    let mut properties = Properties::default();
    for name in asked.headers.keys() {
        // hyper folds the case of names; the tap has them as they were written, each in its turn.
        let mut written = header_names.iter().filter(|written| written.eq_ignore_ascii_case(name.as_str()));
        for value in asked.headers.get_all(name) {
            let written = written.next().map_or(name.as_str(), String::as_str);
            // What means nothing to a message may be whatever it is.
            if let Some(named) = Named::of(written) {
                let value = value.to_str().map_err(|_| illegal(written))?;
                named.add(&mut properties, Some(value))?;
            }
        }
    }
    Ok(message(hub, grant, properties, body))
}

fn batch(hub: &Hub, grant: &Grant, value: &Value) -> Result<Vec<Message>, HubError> {
    let entries = value.as_array().ok_or_else(|| malformed("a batch is a JSON array"))?;
    if entries.is_empty() || entries.len() > BATCH_MESSAGES_MAX {
        return Err(malformed(&format!("a batch holds 1 to {BATCH_MESSAGES_MAX} messages")));
    }
    entries.iter().map(|entry| batch_entry(hub, grant, entry)).collect()
}

fn batch_entry(hub: &Hub, grant: &Grant, entry: &Value) -> Result<Message, HubError> {
    let text = entry["body"].as_str().ok_or_else(|| malformed("a message of a batch has a `body` text"))?;
    let body = match entry.get("base64Encoded") {
        Some(Value::Bool(false)) => Bytes::copy_from_slice(text.as_bytes()),
        None | Some(Value::Bool(true) | Value::Null) => {
            STANDARD.decode(text).map_err(|_| malformed("`body` is not base64"))?.into()
        }
        Some(_) => return Err(malformed("`base64Encoded` is true or false")),
    };
    let mut properties = Properties::default();
    match entry.get("properties") {
        None | Some(Value::Null) => {}
        Some(Value::Object(given)) => {
            for (name, value) in given {
                let value = match value {
                    Value::String(text) => Some(text.as_str()),
                    // .NET writes it for a property that is set to null.
                    Value::Null => None,
                    Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        return Err(malformed("the values of `properties` are texts or null"));
                    }
                };
                if let Some(named) = Named::of(name) {
                    named.add(&mut properties, value)?;
                }
            }
        }
        Some(_) => return Err(malformed("`properties` is an object")),
    }
    Ok(message(hub, grant, properties, body))
}

fn message(hub: &Hub, grant: &Grant, properties: Properties, body: Bytes) -> Message {
    let (system, application) = properties.into_parts();
    let enqueued = hub.now().as_millisecond();
    Message { enqueued, sender: grant.sender.clone(), system, application, body }
}

/// What a header, or a property of a batch, stands for.
enum Named<'a> {
    System(SystemProperty),
    Application(&'a str),
}

impl<'a> Named<'a> {
    /// `None` for what means nothing to a message.
    fn of(name: &'a str) -> Option<Self> {
        match name.split_at_checked(APPLICATION_PREFIX.len()) {
            Some((prefix, own)) if prefix.eq_ignore_ascii_case(APPLICATION_PREFIX) => {
                Some(Self::Application(own))
            }
            _ => SystemProperty::of_header(name).map(Self::System),
        }
    }

    /// Adds it, with its value or null.
    fn add(self, properties: &mut Properties, value: Option<&str>) -> Result<(), HubError> {
        match self {
            Self::System(property) => {
                if let Some(value) = value {
                    properties.set(property, value.into());
                }
            }
            Self::Application(name) => {
                if name.is_empty() || !value.unwrap_or_default().chars().chain(name.chars()).all(is_legal) {
                    return Err(illegal(name));
                }
                let value = value.map_or(PropertyValue::Null, |value| PropertyValue::Text(value.into()));
                properties.add(name.into(), value);
            }
        }
        Ok(())
    }
}

/// The characters of property names and values over HTTPS (`docs/protocol/limits.md` §4). Values such as times and
/// paths come from real clients with more than the documented set, so that only what cannot be in a header is refused.
fn is_legal(character: char) -> bool {
    character.is_ascii_graphic() || character == ' '
}

fn illegal(name: &str) -> HubError {
    let text = format!("The property '{name}' has a character that HTTPS does not carry");
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}

fn malformed(problem: &str) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, format!("The batch is malformed: {problem}"))
}

fn too_large(bytes: usize) -> HubError {
    let text = format!("{bytes} bytes are over the limit of {MESSAGE_BYTES_MAX}");
    HubError::new(HubErrorCode::MessageTooLarge, text)
}

fn not_taken(error: &NotTaken) -> HubError {
    match error {
        NotTaken::TooLarge { size } => too_large(*size),
        NotTaken::Nothing => malformed("there is no message"),
        NotTaken::Log(AppendError::Full { .. }) => HubError::new(HubErrorCode::ServerBusy, "The hub is busy"),
        NotTaken::Log(AppendError::NoSpace) => {
            HubError::new(HubErrorCode::ServiceUnavailable, "The hub has no space left")
        }
        NotTaken::Log(AppendError::Failed(_) | AppendError::Closing | AppendError::NoPartition(_)) => {
            HubError::new(HubErrorCode::ServiceUnavailable, "The hub could not store the message")
        }
    }
}
