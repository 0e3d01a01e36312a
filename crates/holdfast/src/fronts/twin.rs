//! What a device asks about its twin, whatever protocol it speaks (`docs/protocol/device-mqtt.md` §8,
//! `docs/protocol/amqp.md` §6.5).

use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::json::{self, WrongJson};
use hub::telemetry::Sender;
use hub::twin::{Members, Part, Twin, time_text};
use serde_json::{Value, json};

/// What came of a request.
pub(crate) enum Outcome {
    /// The twin was read.
    Read(Box<Twin>),
    /// The reported properties have this version now.
    Reported(u64),
}

/// Reads the twin of a connection.
pub(crate) async fn read(hub: &Hub, sender: &Sender) -> Result<Outcome, HubError> {
    hub.own_twin(&sender.identity, &sender.generation).await.map(|twin| Outcome::Read(Box::new(twin)))
}

/// Changes the reported properties by a patch in JSON, if they have the version that is named.
pub(crate) async fn report(
    hub: &Hub,
    sender: &Sender,
    patch: &[u8],
    version: Option<u64>,
) -> Result<Outcome, HubError> {
    let patch = object(patch)?;
    hub.report(&sender.identity, &sender.generation, &patch, version).await.map(Outcome::Reported)
}

/// The body of an error, in the form that the Node SDK reads over MQTT, where it does not look at the status.
pub(crate) fn error_body(error: &HubError, now: jiff::Timestamp) -> Value {
    let stamp = now.strftime("%m/%d/%Y %H:%M:%S");
    json!({
        "errorCode": error.code.number(),
        "trackingId": format!("{}-G:0-TimeStamp:{stamp}", uuid::Uuid::new_v4().simple()),
        "message": error.message,
        "timestampUtc": time_text(now),
        "info": null,
    })
}

/// That a request is none that can be made.
pub(crate) fn invalid(text: String) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}

fn object(body: &[u8]) -> Result<Members, HubError> {
    match json::read(body).map_err(|wrong| wrong.below(Part::Reported.as_str())) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) => Err(invalid("The reported properties are no JSON object".to_owned())),
        Err(WrongJson::Syntax(problem)) => {
            Err(invalid(format!("The reported properties are not JSON: {problem}")))
        }
        Err(error) => Err(error.into()),
    }
}
