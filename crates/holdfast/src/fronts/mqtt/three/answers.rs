//! What a device asks about its twin, and what it answers to calls of methods (`docs/protocol/device-mqtt.md` §7, §8):
//! topics and bodies, both ways.

use bytes::Bytes;
use hub::error::HubError;
use hub::hub::Hub;
use hub::method::CallId;
use hub::record::Session;

use super::address::{TwinRequest, matches};
use crate::fronts::twin::{self, Outcome, error_body, invalid};

/// The topics that answers to twin requests begin with.
const TWIN_ANSWERS: &str = "$iothub/twin/res/";

/// A message to the client.
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) body: Bytes,
}

/// What a connection asks of its twin; the twin itself when it was read.
pub(crate) async fn twin_request(
    hub: &Hub,
    sender: &hub::telemetry::Sender,
    request: TwinRequest<'_>,
    body: &[u8],
) -> Result<Outcome, HubError> {
    match request {
        TwinRequest::Get { .. } => twin::read(hub, sender).await,
        TwinRequest::Report { version, .. } => {
            twin::report(hub, sender, body, version.map(number).transpose()?).await
        }
    }
}

/// The answer to a request about the twin.
pub(crate) fn twin_answer(
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

/// The topic on which a device is told of a version of its desired properties.
pub(crate) fn desired_topic(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// The topic by which a method is called.
pub(crate) fn call_topic(name: &str, id: CallId) -> String {
    format!("$iothub/methods/POST/{name}/?$rid={id}")
}

/// Whether a session is to get answers about its twin.
pub(crate) fn wants_twin_answers(session: &Session) -> bool {
    wants(session, &format!("{TWIN_ANSWERS}200/?$rid=1"))
}

/// Whether a session is to get changes of the desired properties.
pub(crate) fn wants_desired(session: &Session) -> bool {
    wants(session, &desired_topic(1))
}

/// Whether a session is to get calls of methods, at least of some.
pub(crate) fn wants_calls(session: &Session) -> bool {
    session.subscriptions.iter().any(|have| have.filter.starts_with("$iothub/methods/POST/"))
}

/// Whether a session has a filter for this topic.
pub(crate) fn wants(session: &Session, topic: &str) -> bool {
    session.subscriptions.iter().any(|have| matches(&have.filter, topic))
}

fn number(text: &str) -> Result<u64, HubError> {
    text.parse()
        .map_err(|_| invalid(format!("`$version` is `{}`, which is no number", hub::decision::cut(text))))
}
