//! Twins over HTTPS (`docs/protocol/service-rest.md` §4).

use http::Method;
use hub::access::Operation;
use hub::edge::EdgeContent;
use hub::error::HubError;
use hub::hub::Hub;
use hub::registry::By;
use hub::twin::{How, TwinEdit, TwinView, time_text};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{Answer, NEVER, no_content, tagged};
use super::registry::{BODY_BYTES_MAX, connection_state, if_match, kind_and_thumbprints, last_change};
use super::request::{self, Asked};
use super::specs::object;
use super::{HttpsFront, authorize, route, shapes};
use crate::listen::Visitor;

/// `GET`, `PATCH` and `PUT /twins/{id}` and `/twins/{id}/modules/{mid}`.
pub(super) async fn twin(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    id: (&str, Option<&str>),
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let (operation, view) = match asked.method {
        Method::GET => {
            authorize::service(hub, asked, visitor, Operation::ReadTwins).await?;
            ("read", read(hub, id).await)
        }
        _ => {
            let by = authorize::service(hub, asked, visitor, Operation::WriteTwins).await?;
            ("update", update(hub, asked, id, incoming, &by).await)
        }
    };
    front.metrics.service_twin(operation, view.is_ok());
    let view = view?;
    Ok(tagged(&twin_json(&view), &view.twin.etag()))
}

async fn read(hub: &Hub, (device, module): (&str, Option<&str>)) -> Result<TwinView, HubError> {
    hub.twin(&route::identity(device, module)?).await
}

async fn update(
    hub: &Hub,
    asked: &Asked,
    (device, module): (&str, Option<&str>),
    incoming: &mut Incoming,
    by: &By,
) -> Result<TwinView, HubError> {
    let identity = route::identity(device, module)?;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::TWIN).await?;
    let edit = TwinEdit::of(object(&body)?)?;
    let how = if asked.method == Method::PUT { How::Replace } else { How::Merge };
    hub.edit_twin(&identity, &edit, how, if_match(asked).as_ref(), by).await
}

/// `POST /devices/{id}/applyConfigurationContent`.
pub(super) async fn apply_to_edge_device(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    device: &str,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let by = authorize::service(hub, asked, visitor, Operation::ApplyConfiguration).await?;
    let device = route::identity(device, None)?.device;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::EDGE_CONTENT).await?;
    hub.apply_edge_content(&device, &EdgeContent::of(object(&body)?)?, &by).await?;
    Ok(no_content())
}

/// A twin as the service API shows it.
fn twin_json(view: &TwinView) -> Value {
    let (twin, device) = (&view.twin, &view.device);
    let (authentication, thumbprints) = kind_and_thumbprints(&view.authentication);
    let mut value = json!({ "deviceId": device.id });
    if let Some(module) = &view.identity.module {
        value["moduleId"] = json!(module);
    }
    if let Some(model) = &twin.model_id {
        value["modelId"] = json!(model);
    }
    value["etag"] = json!(twin.etag());
    value["deviceEtag"] = json!(view.identity_etag);
    value["status"] = json!(device.status);
    value["statusReason"] = json!(device.status_reason.as_deref().unwrap_or_default());
    // Without the `d` that the same datum has in the identity.
    value["statusUpdateTime"] = json!(device.status_updated.map_or_else(|| NEVER.to_owned(), time_text));
    value["connectionState"] = json!(connection_state(view.connected));
    value["lastActivityTime"] = json!(last_change(view.activity.as_ref()));
    value["cloudToDeviceMessageCount"] = json!(view.messages_waiting);
    value["authenticationType"] = json!(authentication);
    value["x509Thumbprint"] = thumbprints;
    value["version"] = json!(twin.version);
    value["tags"] = json!(twin.tags);
    value["properties"] = json!({ "desired": twin.desired.to_json(), "reported": twin.reported.to_json() });
    if view.identity.module.is_none() {
        value["capabilities"] = json!({ "iotEdge": device.edge });
        if let Some(scope) = &device.device_scope {
            value["deviceScope"] = json!(scope);
        }
        if !device.parent_scopes.is_empty() {
            value["parentScopes"] = json!(device.parent_scopes);
        }
    }
    value
}
