//! Requests of devices about their twins, and what they are sent of them (`spec/amqp.md` §6.5).

use bytes::{Bytes, BytesMut};
use hub::decision::cut;
use hub::error::{HubError, HubErrorCode};
use hub::telemetry::MESSAGE_BYTES_MAX;
use hub::twin::DesiredChange;
use jiff::Timestamp;
use wire::amqp::codec::ValueRef;
use wire::amqp::message::{Message, MessageId, MessageWriter, Properties};

use super::telemetry::body;
use crate::fronts::twin::{Outcome, error_body, invalid};

const REPORTED: &str = "/properties/reported";
const DESIRED: &str = "/notifications/twin/properties/desired";

/// What a device asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    /// The twin.
    Read,
    /// To change its reported properties by a patch, if they have this version.
    Report {
        /// JSON.
        patch: Bytes,
        /// The version, where the device names one.
        version: Option<u64>,
    },
    /// To be told of changes of its desired properties.
    Subscribe,
    /// To be told no longer.
    Unsubscribe,
}

impl Request {
    /// Reads a request.
    pub(super) fn read(encoded: &Bytes, message: &Message<'_>) -> Result<Self, HubError> {
        let text = |name: &str| {
            message.message_annotations.get(name).and_then(ValueRef::as_text).unwrap_or_default()
        };
        let (operation, resource) = (text("operation"), text("resource"));
        match operation {
            "GET" => Ok(Self::Read),
            "PATCH" if resource == REPORTED => {
                let patch = body(encoded, message.body).map_err(|problem| invalid(problem.to_string()))?;
                if patch.len() > MESSAGE_BYTES_MAX {
                    let text =
                        format!("The patch has {} bytes, the limit is {MESSAGE_BYTES_MAX}", patch.len());
                    return Err(HubError::new(HubErrorCode::MessageTooLarge, text));
                }
                let version = message.message_annotations.get("version").and_then(ValueRef::as_i64);
                let version = version.map(u64::try_from).transpose();
                let version = version.map_err(|_| invalid("`version` is negative".to_owned()))?;
                Ok(Self::Report { patch, version })
            }
            "PUT" if resource == DESIRED => Ok(Self::Subscribe),
            "DELETE" if resource == DESIRED => Ok(Self::Unsubscribe),
            _ => Err(invalid(format!(
                "`{}` of `{}` is no request to a twin: it is GET, PATCH of `{REPORTED}`, PUT or DELETE of `{DESIRED}`",
                cut(operation),
                cut(resource)
            ))),
        }
    }
}

/// The answer to a request, with its id in the type in which it came. `None` stands for what only has to be confirmed.
pub(super) fn answer(
    id: MessageId<'_>,
    outcome: &Result<Option<Outcome>, HubError>,
    now: Timestamp,
) -> BytesMut {
    let (status, version, body) = match outcome {
        Ok(Some(Outcome::Read(twin))) => (200, None, Some(twin.for_device().to_string())),
        Ok(Some(Outcome::Reported(version))) => (204, i64::try_from(*version).ok(), None),
        Ok(None) => (204, None, None),
        Err(error) => (error.code.status(), None, Some(error_body(error, now).to_string())),
    };
    let mut answer = BytesMut::new();
    let mut w = MessageWriter::new(&mut answer);
    // The C SDK reads them in these types only.
    w.message_annotations(|map| {
        map.int("status", i32::from(status));
        if let Some(version) = version {
            map.long("version", version);
        }
    });
    w.properties(&Properties { correlation_id: Some(id), ..Properties::default() });
    if let Some(body) = body {
        w.data(body.as_bytes());
    }
    answer
}

/// Writes a change of the desired properties. That it has no correlation-id tells it from an answer.
pub(super) fn write_change(w: &mut MessageWriter<'_>, change: &DesiredChange) {
    w.data(&change.body);
}
