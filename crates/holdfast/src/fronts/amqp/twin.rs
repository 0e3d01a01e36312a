//! Requests of devices about their twins, and what they are sent of them (`docs/protocol/amqp.md` §6.5).

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

#[cfg(test)]
mod tests {
    use hub::twin::Twin;

    use super::*;

    fn request(operation: &str, resource: &str, body: &[u8]) -> Result<Request, HubError> {
        let mut bytes = BytesMut::new();
        let mut w = MessageWriter::new(&mut bytes);
        w.message_annotations(|map| {
            map.string("operation", operation);
            map.string("resource", resource);
            map.value_ref("version", ValueRef::Null);
        });
        w.data(body);
        let bytes = bytes.freeze();
        Request::read(&bytes, &Message::parse(&bytes).expect("a message"))
    }

    #[test]
    fn requests_are_read_and_what_is_none_is_named() {
        assert_eq!(request("GET", "", b" "), Ok(Request::Read));
        let patch = Bytes::from_static(b"{}");
        assert_eq!(request("PATCH", REPORTED, b"{}"), Ok(Request::Report { patch, version: None }));
        assert_eq!(request("PUT", DESIRED, b" "), Ok(Request::Subscribe));
        assert_eq!(request("DELETE", DESIRED, b""), Ok(Request::Unsubscribe));
        for (operation, resource) in [("PUT", REPORTED), ("PATCH", DESIRED), ("", ""), ("get", "")] {
            let error = request(operation, resource, b"").expect_err("no request");
            assert!(error.message.contains(operation) && error.message.contains(resource), "{error:?}");
        }
        let large = vec![b' '; MESSAGE_BYTES_MAX + 1];
        let error = request("PATCH", REPORTED, &large).expect_err("too large");
        assert_eq!(error.code, HubErrorCode::MessageTooLarge);
    }

    #[test]
    fn answers_are_of_the_types_that_the_c_sdk_takes() {
        let now = Timestamp::from_second(1_900_000_000).expect("a time");
        let error = HubError::new(HubErrorCode::ArgumentInvalid, "wrong");
        let twin = Box::new(Twin::new("1", now));
        let cases = [
            (
                Ok(Some(Outcome::Read(twin))),
                200,
                None,
                r#"{"desired":{"$version":1},"reported":{"$version":1}}"#,
            ),
            (Ok(Some(Outcome::Reported(9))), 204, Some(9), ""),
            (Ok(None), 204, None, ""),
            (Err(error), 400, None, r#""message":"wrong""#),
        ];
        for (outcome, status, version, text) in cases {
            let bytes = answer(MessageId::String("Get1"), &outcome, now).freeze();
            let message = Message::parse(&bytes).expect("a message");
            assert_eq!(message.properties.correlation_id, Some(MessageId::String("Get1")));
            assert_eq!(message.message_annotations.get("status"), Some(ValueRef::Int(status)));
            assert_eq!(message.message_annotations.get("version"), version.map(ValueRef::Long));
            let body = body(&bytes, message.body).expect("data or nothing");
            assert!(std::str::from_utf8(&body).expect("JSON").contains(text), "{body:?}");
            assert_eq!(text.is_empty(), body.is_empty());
        }
    }

    #[test]
    fn a_change_has_a_body_and_nothing_else() {
        let identity = hub::identity::Identity::parse("d").expect("legal");
        let change = DesiredChange { identity, version: 3, body: Bytes::from_static(b"{}") };
        let mut bytes = BytesMut::new();
        write_change(&mut MessageWriter::new(&mut bytes), &change);
        assert_eq!(&bytes[..], b"\x00\x53\x75\xa0\x02{}");
    }
}
