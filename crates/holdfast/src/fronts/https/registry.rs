//! The identity registry over HTTPS: JSON of devices and modules, both ways (`docs/protocol/service-rest.md` §3).

use http::{Method, StatusCode};
use hub::access::Operation;
use hub::activity::Activity;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::identity::{DeviceId, Identity, ModuleId};
use hub::record::{Authentication, Slot};
use hub::registry::{BULK_MAX, By, DeviceView, IfMatch, LIST_MAX, ModuleView};
use hub::twin::{How, TwinEdit, time_text as time};
use hyper::body::Incoming;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answer::{Answer, NEVER, json_body, no_content, tagged};
use super::request::{self, Asked};
use super::specs::{device_spec, module_spec, object, text};
use super::{authorize, shapes};
use crate::listen::Visitor;

/// A bulk request of a hundred devices with certificates and tags stays well below this.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// `GET /devices`.
pub(super) async fn list(hub: &Hub, asked: &Asked, visitor: &Visitor) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Operation::ReadIdentities).await?;
    let top =
        asked.parameter("top").and_then(|top| top.parse().ok()).filter(|top| (1..=LIST_MAX).contains(top));
    let devices = hub.devices(None, top.unwrap_or(LIST_MAX)).await?;
    Ok(json_body(StatusCode::OK, &devices.iter().map(device_json).collect()))
}

/// `GET`, `PUT` and `DELETE /devices/{id}`.
pub(super) async fn device(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    id: &str,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    if asked.method == Method::GET {
        authorize::service(hub, asked, visitor, Operation::ReadIdentities).await?;
        let view = hub.device(&device_id(id)?).await?;
        return Ok(tagged(&device_json(&view), &view.device.etag));
    }
    let by = authorize::service(hub, asked, visitor, Operation::WriteIdentities).await?;
    let id = device_id(id)?;
    if asked.method == Method::DELETE {
        hub.delete_device(&id, if_match(asked), &by).await?;
        return Ok(no_content());
    }
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::DEVICE).await?;
    same_id(&body, "deviceId", id.as_str())?;
    let view = hub.put_device(&id, device_spec(&body)?, if_match(asked), &by).await?;
    Ok(tagged(&device_json(&view), &view.device.etag))
}

/// `GET /devices/{id}/modules`.
pub(super) async fn modules(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    device: &str,
) -> Result<Answer, HubError> {
    authorize::of_modules(hub, asked, visitor, device, Operation::ReadIdentities).await?;
    let modules = hub.modules(&device_id(device)?).await?;
    Ok(json_body(StatusCode::OK, &modules.iter().map(module_json).collect()))
}

/// `GET`, `PUT` and `DELETE /devices/{id}/modules/{mid}`.
pub(super) async fn module(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    (device, id): (&str, &str),
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    if asked.method == Method::GET {
        authorize::of_modules(hub, asked, visitor, device, Operation::ReadIdentities).await?;
        let view = hub.module(&device_id(device)?, &module_id(id)?).await?;
        return Ok(tagged(&module_json(&view), &view.module.etag));
    }
    let by = authorize::of_modules(hub, asked, visitor, device, Operation::WriteIdentities).await?;
    let (device, id) = (device_id(device)?, module_id(id)?);
    if asked.method == Method::DELETE {
        hub.delete_module(&device, &id, if_match(asked), &by).await?;
        return Ok(no_content());
    }
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::MODULE).await?;
    same_id(&body, "deviceId", device.as_str())?;
    same_id(&body, "moduleId", id.as_str())?;
    let view = hub.put_module(&device, &id, module_spec(&body)?, if_match(asked), &by).await?;
    Ok(tagged(&module_json(&view), &view.module.etag))
}

/// `GET /statistics/devices`.
pub(super) async fn device_statistics(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Operation::ReadRegistryStatistics).await?;
    let (total, disabled) = hub.device_counts().await?;
    let value = json!({
        "totalDeviceCount": total,
        "enabledDeviceCount": total.saturating_sub(disabled),
        "disabledDeviceCount": disabled,
    });
    Ok(json_body(StatusCode::OK, &value))
}

/// `GET /statistics/service`.
pub(super) async fn service_statistics(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Operation::ReadServiceStatistics).await?;
    Ok(json_body(StatusCode::OK, &json!({ "connectedDeviceCount": hub.bus.connected() })))
}

/// `POST /devices`: many at once, each on its own.
pub(super) async fn bulk(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let by = authorize::service(hub, asked, visitor, Operation::WriteIdentities).await?;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::BULK).await?;
    let entries = body.as_array().ok_or_else(|| invalid("The body is an array of devices"))?;
    if entries.is_empty() {
        return Err(invalid("The array is empty"));
    }
    if entries.len() > BULK_MAX {
        let text = format!("{} entries are over the limit of {BULK_MAX}", entries.len());
        return Err(HubError::new(HubErrorCode::TooManyDevices, text));
    }
    let name = |entry: &Value| {
        (entry["id"].as_str().map(str::to_owned), entry["moduleId"].as_str().map(str::to_owned))
    };
    for (at, entry) in entries.iter().enumerate() {
        if entries[..at].iter().any(|earlier| name(earlier) == name(entry)) {
            let text = format!("The id '{}' comes twice", entry["id"].as_str().unwrap_or_default());
            return Err(HubError::new(HubErrorCode::DeviceDefinedMultipleTimes, text));
        }
    }
    let mut errors = Vec::new();
    for entry in entries {
        // What is no text is no mode either.
        let mode = match &entry["importMode"] {
            Value::Null => "createorupdate".to_owned(),
            Value::String(mode) => mode.to_ascii_lowercase(),
            other => other.to_string(),
        };
        if let Err(error) = bulk_entry(hub, entry, &mode, &by).await {
            errors.push(json!({
                "deviceId": entry["id"],
                "moduleId": entry["moduleId"],
                "errorCode": error.code.number(),
                "errorStatus": error.message,
                "operation": mode,
            }));
        }
    }
    let status = if errors.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    let value = json!({ "isSuccessful": errors.is_empty(), "errors": errors, "warnings": [] });
    Ok(json_body(status, &value))
}

/// `POST /devices/keys/regenerate`: new keys for many identities, each on its own.
pub(super) async fn regenerate_keys(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let by = authorize::service(hub, asked, visitor, Operation::WriteIdentities).await?;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::REGENERATE).await?;
    let which = body["policyKey"].as_str().unwrap_or_default();
    let slots: &[Slot] = match which.to_ascii_lowercase().as_str() {
        "primarykey" => &[Slot::Primary],
        "secondarykey" => &[Slot::Secondary],
        "both" => &[Slot::Primary, Slot::Secondary],
        _ => return Err(invalid("`policyKey` is primaryKey, secondaryKey or both")),
    };
    let entries = body["devices"].as_array().filter(|entries| (1..=BULK_MAX).contains(&entries.len()));
    let entries = entries.ok_or_else(|| invalid(&format!("`devices` names 1 to {BULK_MAX} identities")))?;
    let (mut rotated, mut errors) = (Vec::new(), Vec::new());
    for entry in entries {
        match regenerate_entry(hub, entry, slots, &by).await {
            Ok(keys) => rotated.push(json!({
                "id": entry["id"],
                "moduleId": entry["moduleId"],
                "primaryKey": keys[0].as_str(),
                "secondaryKey": keys[1].as_str(),
            })),
            Err(error) => errors.push(json!({
                "id": entry["id"],
                "moduleId": entry["moduleId"],
                "errorCode": error.code.number(),
                "errorStatus": error.message,
            })),
        }
    }
    let status = match (rotated.is_empty(), errors.is_empty()) {
        (_, true) => StatusCode::OK,
        (false, false) => StatusCode::MULTI_STATUS,
        (true, false) => StatusCode::BAD_REQUEST,
    };
    Ok(json_body(status, &json!({ "policyKey": which, "rotatedKeys": rotated, "errors": errors })))
}

async fn regenerate_entry(
    hub: &Hub,
    entry: &Value,
    slots: &[Slot],
    by: &By,
) -> Result<[Zeroizing<String>; 2], HubError> {
    let device = device_id(entry["id"].as_str().ok_or_else(|| invalid("`id` is missing"))?)?;
    let module = text(object(entry)?, "moduleId")?.filter(|id| !id.is_empty()).map(module_id).transpose()?;
    hub.regenerate_keys(&Identity { device, module }, slots, by).await
}

async fn bulk_entry(hub: &Hub, entry: &Value, mode: &str, by: &By) -> Result<(), HubError> {
    let device = device_id(entry["id"].as_str().ok_or_else(|| invalid("`id` is missing"))?)?;
    let module = text(object(entry)?, "moduleId")?.filter(|id| !id.is_empty()).map(module_id).transpose()?;
    let members = object(entry)?;
    let (etag, twin_etag) = (text(members, "eTag")?, text(members, "twinETag")?);
    let etag = || if_match_of(etag.unwrap_or_default());
    let twin = TwinEdit::of(members)?;
    if mode == "updatetwin" || mode == "updatetwinifmatchetag" {
        let condition = (mode == "updatetwinifmatchetag").then(|| if_match_of(twin_etag.unwrap_or_default()));
        let identity = Identity { device, module };
        return hub.edit_twin(&identity, &twin, How::Replace, condition.as_ref(), by).await.map(|_| ());
    }
    let exists = match &module {
        None => hub.device(&device).await.map(|_| ()),
        Some(module) => hub.module(&device, module).await.map(|_| ()),
    };
    let (deletes, condition) = match mode {
        "create" => (false, None),
        "createorupdate" => (false, exists.is_ok().then_some(IfMatch::Any)),
        "createorupdateifmatchetag" => (false, exists.is_ok().then(etag)),
        "update" => (false, Some(IfMatch::Any)),
        "updateifmatchetag" => (false, Some(etag())),
        "delete" => (true, Some(IfMatch::Any)),
        "deleteifmatchetag" => (true, Some(etag())),
        _ => return Err(invalid(&format!("The importMode '{mode}' is not supported"))),
    };
    match (deletes, module) {
        (true, None) => hub.delete_device(&device, condition, by).await,
        (true, Some(module)) => hub.delete_module(&device, &module, condition, by).await,
        (false, module) => {
            match &module {
                None => drop(hub.put_device(&device, device_spec(entry)?, condition, by).await?),
                Some(module) => {
                    drop(hub.put_module(&device, module, module_spec(entry)?, condition, by).await?)
                }
            }
            // A new identity may bring its first tags and desired properties.
            if exists.is_err() && twin != TwinEdit::default() {
                let identity = Identity { device, module };
                hub.edit_twin(&identity, &twin, How::Replace, None, by).await?;
            }
            Ok(())
        }
    }
}

fn device_id(id: &str) -> Result<DeviceId, HubError> {
    DeviceId::parse(id).map_err(|error| invalid(&format!("The device id is illegal: {error}")))
}

fn module_id(id: &str) -> Result<ModuleId, HubError> {
    ModuleId::parse(id).map_err(|error| invalid(&format!("The module id is illegal: {error}")))
}

fn invalid(text: &str) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}

fn same_id(body: &Value, member: &str, id: &str) -> Result<(), HubError> {
    match body.get(member) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(given)) if given == id => Ok(()),
        Some(_) => Err(invalid(&format!("`{member}` in the body is not the id in the path"))),
    }
}

/// `If-Match` in every spelling that SDKs use (`docs/protocol/service-rest.md` §1.1).
pub(super) fn if_match(asked: &Asked) -> Option<IfMatch> {
    asked.header("if-match").map(if_match_of)
}

fn if_match_of(tag: &str) -> IfMatch {
    match unquoted(tag) {
        "*" => IfMatch::Any,
        tag => IfMatch::Etag(tag.to_owned()),
    }
}

fn unquoted(tag: &str) -> &str {
    let tag = tag.trim();
    let tag = tag.strip_prefix("W/").unwrap_or(tag);
    tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).unwrap_or(tag)
}

/// A device as the service API shows it.
pub(super) fn device_json(view: &DeviceView) -> Value {
    let device = &view.device;
    let mut value = json!({
        "deviceId": device.id,
        "generationId": device.generation,
        "etag": device.etag,
        "connectionState": connection_state(view.connected),
        "status": device.status,
        "statusReason": device.status_reason,
        "connectionStateUpdatedTime": last_change(view.activity.as_ref()),
        "statusUpdatedTime": device.status_updated.map_or_else(|| NEVER.to_owned(), time),
        "lastActivityTime": last_change(view.activity.as_ref()),
        "cloudToDeviceMessageCount": view.messages_waiting,
        "capabilities": { "iotEdge": device.edge },
        "authentication": authentication_json(&device.authentication, view.keys.as_ref()),
    });
    if let Some(scope) = &device.device_scope {
        value["deviceScope"] = json!(scope);
    }
    if !device.parent_scopes.is_empty() {
        value["parentScopes"] = json!(device.parent_scopes);
    }
    value
}

/// A module as the service API shows it.
pub(super) fn module_json(view: &ModuleView) -> Value {
    let module = &view.module;
    json!({
        "moduleId": module.id,
        "managedBy": module.managed_by,
        "deviceId": module.device,
        "generationId": module.generation,
        "etag": module.etag,
        "connectionState": connection_state(view.connected),
        "connectionStateUpdatedTime": last_change(view.activity.as_ref()),
        "lastActivityTime": last_change(view.activity.as_ref()),
        "cloudToDeviceMessageCount": view.messages_waiting,
        "authentication": authentication_json(&module.authentication, view.keys.as_ref()),
    })
}

/// When an identity was admitted last, or its connection ended, as far as that is written down.
pub(super) fn last_change(activity: Option<&Activity>) -> String {
    let last = activity.map(|activity| activity.ended.unwrap_or(activity.admitted));
    last.map_or_else(|| NEVER.to_owned(), time)
}

pub(super) fn connection_state(connected: bool) -> &'static str {
    if connected { "Connected" } else { "Disconnected" }
}

fn authentication_json(authentication: &Authentication, keys: Option<&[Zeroizing<String>; 2]>) -> Value {
    let (kind, thumbprints) = kind_and_thumbprints(authentication);
    json!({
        "symmetricKey": {
            "primaryKey": keys.map(|keys| keys[0].as_str()),
            "secondaryKey": keys.map(|keys| keys[1].as_str()),
        },
        "x509Thumbprint": thumbprints,
        "type": kind,
    })
}

/// What the service API shows of how an identity proves who it is, but its keys.
pub(super) fn kind_and_thumbprints(authentication: &Authentication) -> (&'static str, Value) {
    let (kind, thumbprints) = match authentication {
        Authentication::Sas { .. } => ("sas", [None, None]),
        Authentication::SelfSigned { primary, secondary } => {
            ("selfSigned", [primary.as_ref(), secondary.as_ref()])
        }
        Authentication::CertificateAuthority => ("certificateAuthority", [None, None]),
        Authentication::None => ("none", [None, None]),
    };
    (kind, json!({ "primaryThumbprint": thumbprints[0], "secondaryThumbprint": thumbprints[1] }))
}
