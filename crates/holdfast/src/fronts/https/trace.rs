//! What became of messages, for the operator: `/holdfast/v1/trace` and `/holdfast/v1/stream`.

use http::StatusCode;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::identity::{DeviceId, Identity};
use serde_json::{Value, json};

use super::answer::{Answer, json_body};
use super::request::Asked;
use super::route;

/// `events/{message id}` takes a step of a search through a partition of the stream, `messages/{message id}` one through
/// the queues of device-bound messages. Whoever asks goes on where `next` says.
pub(super) async fn dispatch(hub: &Hub, asked: &Asked, segments: &[&str]) -> Result<Answer, HubError> {
    let device = match asked.parameter("device") {
        None => None,
        Some(device) => Some(route::identity(device, None)?.device),
    };
    match segments {
        ["events", id] => events(hub, asked, id, device.as_ref()).await,
        ["messages", id] => messages(hub, asked, id, device.as_ref()).await,
        _ => Err(HubError::new(HubErrorCode::GenericNotFound, "There is no such resource")),
    }
}

async fn events(hub: &Hub, asked: &Asked, id: &str, device: Option<&DeviceId>) -> Result<Answer, HubError> {
    let partition = number(asked, "partition")?.unwrap_or_default();
    let from = number(asked, "from")?.unwrap_or_default();
    Ok(json_body(StatusCode::OK, &json!(hub.trace_events(id, device, partition, from).await?)))
}

async fn messages(hub: &Hub, asked: &Asked, id: &str, device: Option<&DeviceId>) -> Result<Answer, HubError> {
    let after = match (asked.parameter("afterDevice"), asked.parameter("afterModule")) {
        (None, _) => None,
        (Some(device), module) => Some(route::identity(device, module)?),
    };
    let traced = hub.trace_messages(id, device, after).await?;
    let mut answer = json!(traced);
    answer["next"] = traced
        .next
        .map_or(Value::Null, |Identity { device, module }| json!({ "device": device, "module": module }));
    Ok(json_body(StatusCode::OK, &answer))
}

/// What became of all events, for each consumer group.
pub(super) async fn stream(hub: &Hub) -> Result<Answer, HubError> {
    let groups: Vec<Value> = hub
        .stream_balances()
        .await?
        .into_iter()
        .map(|(group, balance)| {
            let mut row = json!(balance);
            row["name"] = group.into();
            row
        })
        .collect();
    Ok(json_body(StatusCode::OK, &Value::Array(groups)))
}

fn number<N: std::str::FromStr>(asked: &Asked, name: &str) -> Result<Option<N>, HubError> {
    let Some(text) = asked.parameter(name) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| {
        HubError::new(HubErrorCode::ArgumentInvalid, format!("`{name}` is a number, and not '{text}'"))
    })
}
