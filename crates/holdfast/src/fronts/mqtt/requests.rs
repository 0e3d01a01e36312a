//! What a device asks about its twin, and what it answers to calls of methods (`spec/device-mqtt.md` §7, §8): topics and
//! bodies, both ways.

use bytes::Bytes;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::method::CallId;
use hub::record::Session;
use hub::twin::{Members, Twin, time_text};
use serde_json::{Value, json};

use super::address::{TwinRequest, matches};

/// The topics that answers to twin requests begin with.
const TWIN_ANSWERS: &str = "$iothub/twin/res/";

/// A message to the client.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) body: Bytes,
}

/// What a connection asks of its twin; the twin itself when it was read.
pub(super) async fn twin_request(
    hub: &Hub,
    sender: &hub::telemetry::Sender,
    request: TwinRequest<'_>,
    body: &[u8],
) -> Result<Outcome, HubError> {
    let (identity, generation) = (&sender.identity, sender.generation.as_str());
    match request {
        TwinRequest::Get { .. } => {
            hub.own_twin(identity, generation).await.map(|twin| Outcome::Read(Box::new(twin)))
        }
        TwinRequest::Report { version, .. } => {
            let patch = object(body)?;
            let version = version.map(number).transpose()?;
            hub.report(identity, generation, &patch, version).await.map(Outcome::Reported)
        }
    }
}

/// What came of a request about the twin.
pub(super) enum Outcome {
    /// The twin was read.
    Read(Box<Twin>),
    /// The reported properties have this version now.
    Reported(u64),
}

/// The answer to a request about the twin.
pub(super) fn twin_answer(
    outcome: &Result<Outcome, HubError>,
    request_id: &str,
    now: jiff::Timestamp,
) -> Message {
    let (status, parameters, body) = match outcome {
        Ok(Outcome::Read(twin)) => (200, String::new(), Bytes::from(twin.for_device().to_string())),
        Ok(Outcome::Reported(version)) => (204, format!("&$version={version}"), Bytes::new()),
        Err(error) => (error.code.status(), String::new(), Bytes::from(error_body(error, now).to_string())),
    };
    Message { topic: format!("{TWIN_ANSWERS}{status}/?$rid={request_id}{parameters}"), body }
}

/// The body of an error, in the form that the Node SDK reads, which does not look at the status.
fn error_body(error: &HubError, now: jiff::Timestamp) -> Value {
    let stamp = now.strftime("%m/%d/%Y %H:%M:%S");
    json!({
        "errorCode": error.code.number(),
        "trackingId": format!("{}-G:0-TimeStamp:{stamp}", uuid::Uuid::new_v4().simple()),
        "message": error.message,
        "timestampUtc": time_text(now),
        "info": null,
    })
}

/// The topic on which a device is told of a version of its desired properties.
pub(super) fn desired_topic(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// The topic by which a method is called.
pub(super) fn call_topic(name: &str, id: CallId) -> String {
    format!("$iothub/methods/POST/{name}/?$rid={id}")
}

/// Whether a session is to get answers about its twin.
pub(super) fn wants_twin_answers(session: &Session) -> bool {
    wants(session, &format!("{TWIN_ANSWERS}200/?$rid=1"))
}

/// Whether a session is to get changes of the desired properties.
pub(super) fn wants_desired(session: &Session) -> bool {
    wants(session, &desired_topic(1))
}

/// Whether a session is to get calls of methods, at least of some.
pub(super) fn wants_calls(session: &Session) -> bool {
    session.subscriptions.iter().any(|have| have.filter.starts_with("$iothub/methods/POST/"))
}

/// Whether a session has a filter for this topic.
pub(super) fn wants(session: &Session, topic: &str) -> bool {
    session.subscriptions.iter().any(|have| matches(&have.filter, topic))
}

fn object(body: &[u8]) -> Result<Members, HubError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(invalid("The reported properties are no JSON object".to_owned())),
        Err(error) => Err(invalid(format!("The reported properties are not JSON: {error}"))),
    }
}

fn number(text: &str) -> Result<u64, HubError> {
    text.parse()
        .map_err(|_| invalid(format!("`$version` is `{}`, which is no number", hub::decision::cut(text))))
}

fn invalid(text: String) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
