//! Device-bound messages for the operator: `/holdfast/v1/inbox`. Azure has no HTTP route to send or list them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::identity::Identity;
use hub::inbox::{Ack, MESSAGE_BYTES_MAX, NotEnqueued, Submission};
use hub::properties::Properties;
use hub::telemetry::{PropertyValue, SystemProperty};
use hyper::body::Incoming;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;

use super::answer::{Answer, json_body};
use super::request::{self, Asked};
use super::{route, shapes};

/// Base64 and JSON make the largest message this much longer.
const BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX * 2;

/// A message as the operator gives it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given {
    /// The payload in base64.
    body: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: Option<String>,
    content_encoding: Option<String>,
    /// When it expires, RFC 3339; in an hour when absent.
    expires: Option<Timestamp>,
    #[serde(default)]
    ack: Ack,
    #[serde(default)]
    properties: BTreeMap<String, String>,
}

/// `GET` lists what waits for a device or module, `POST` sends.
pub(super) async fn dispatch(
    hub: &Hub,
    asked: &Asked,
    segments: &[&str],
    body: &mut Incoming,
) -> Result<Answer, HubError> {
    let identity = match segments {
        [device] => route::identity(device, None)?,
        [device, module] => route::identity(device, Some(module))?,
        _ => return Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource")),
    };
    match asked.method.as_str() {
        "GET" => Ok(json_body(StatusCode::OK, &json!(hub.inbox(&identity).await?))),
        "POST" => send(hub, &identity, body).await,
        _ => Err(HubError::new(HubErrorCode::GenericMethodNotAllowed, "GET lists, POST sends")),
    }
}

async fn send(hub: &Hub, identity: &Identity, body: &mut Incoming) -> Result<Answer, HubError> {
    let given: Given = serde_json::from_value(request::json(body, BODY_BYTES_MAX, &shapes::MESSAGE).await?)
        .map_err(|error| invalid(&error))?;
    let sequence = hub.send_to_device(identity, &given.submission()?).await.map_err(|error| match error {
        NotEnqueued::TooLarge { .. } => HubError::new(HubErrorCode::MessageTooLarge, error.to_string()),
        NotEnqueued::QueueFull => {
            HubError::new(HubErrorCode::DeviceMaximumQueueDepthExceeded, error.to_string())
        }
        NotEnqueued::ExpiresTooLate | NotEnqueued::Nul(_) => invalid(&error),
        NotEnqueued::Hub(error) => error,
    })?;
    Ok(json_body(StatusCode::OK, &json!({ "sequence": sequence })))
}

impl Given {
    fn submission(self) -> Result<Submission, HubError> {
        let body = STANDARD.decode(&self.body).map_err(|_| invalid(&"`body` is not base64"))?;
        let system = [
            (SystemProperty::MessageId, self.message_id),
            (SystemProperty::CorrelationId, self.correlation_id),
            (SystemProperty::ContentType, self.content_type),
            (SystemProperty::ContentEncoding, self.content_encoding),
        ];
        let mut properties = Properties::default();
        for (property, value) in system {
            if let Some(value) = value {
                properties.set(property, value.into());
            }
        }
        for (name, value) in self.properties {
            properties.add(name.into(), PropertyValue::Text(value.into()));
        }
        let (system, application) = properties.into_parts();
        let written = system.iter().find(|(property, _)| *property == SystemProperty::Ack);
        let ack = written.map_or(self.ack, |(_, value)| Ack::parse(value));
        Ok(Submission {
            system: system.into_iter().map(|(property, value)| (property, value.to_string())).collect(),
            application: application.into_iter().map(|(name, value)| (name.to_string(), value)).collect(),
            body: body.into(),
            expires: self.expires,
            ack,
            sender: "operator".to_owned(),
        })
    }
}

fn invalid(error: &dyn std::fmt::Display) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, error.to_string())
}
