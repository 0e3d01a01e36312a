//! What a body says of an identity (`docs/protocol/service-rest.md` §3).

use hub::error::{HubError, HubErrorCode};
use hub::record::Status;
use hub::registry::{AuthenticationSpec, DeviceSpec, ModuleSpec};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

pub(super) fn device_spec(body: &Value) -> Result<DeviceSpec, HubError> {
    let body = object(body)?;
    let status = match text(body, "status")? {
        None => None,
        Some(status) if status.eq_ignore_ascii_case("enabled") => Some(Status::Enabled),
        Some(status) if status.eq_ignore_ascii_case("disabled") => Some(Status::Disabled),
        Some(status) => {
            return Err(invalid(&format!("The status '{status}' is neither enabled nor disabled")));
        }
    };
    let parent_scopes = match body.get("parentScopes") {
        None | Some(Value::Null) => None,
        Some(Value::Array(scopes)) => Some(
            scopes
                .iter()
                .map(|scope| {
                    scope.as_str().map(str::to_owned).ok_or_else(|| invalid("`parentScopes` holds texts"))
                })
                .collect::<Result<_, _>>()?,
        ),
        Some(_) => return Err(invalid("`parentScopes` is an array")),
    };
    let edge = match body.get("capabilities") {
        None | Some(Value::Null) => None,
        Some(capabilities) => truth(object(capabilities)?, "iotEdge")?,
    };
    Ok(DeviceSpec {
        status,
        status_reason: text(body, "statusReason")?.map(str::to_owned),
        authentication: authentication_spec(body)?,
        edge: edge.unwrap_or(false),
        device_scope: text(body, "deviceScope")?.map(str::to_owned),
        parent_scopes,
    })
}

pub(super) fn module_spec(body: &Value) -> Result<ModuleSpec, HubError> {
    let body = object(body)?;
    Ok(ModuleSpec {
        managed_by: text(body, "managedBy")?.map(str::to_owned),
        authentication: authentication_spec(body)?,
    })
}

fn authentication_spec(body: &Map<String, Value>) -> Result<Option<AuthenticationSpec>, HubError> {
    let given = match body.get("authentication") {
        None | Some(Value::Null) => return Ok(None),
        Some(given) => object(given)?,
    };
    let member = |owner: &str, name: &str| match given.get(owner) {
        None | Some(Value::Null) => Ok(None),
        Some(owner) => text(object(owner)?, name).map(|text| text.map(str::to_owned)),
    };
    Ok(Some(AuthenticationSpec {
        kind: text(given, "type")?.map(str::to_owned),
        keys: [
            member("symmetricKey", "primaryKey")?.map(Zeroizing::new),
            member("symmetricKey", "secondaryKey")?.map(Zeroizing::new),
        ],
        thumbprints: [
            member("x509Thumbprint", "primaryThumbprint")?,
            member("x509Thumbprint", "secondaryThumbprint")?,
        ],
    }))
}

pub(super) fn object(value: &Value) -> Result<&Map<String, Value>, HubError> {
    value
        .as_object()
        .ok_or_else(|| HubError::new(HubErrorCode::IotHubFormatError, "A JSON object is expected"))
}

pub(super) fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, HubError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(&format!("`{name}` is a text"))),
    }
}

/// A member that is true or false, or the text of it, as Azure reads both.
pub(super) fn truth(object: &Map<String, Value>, name: &str) -> Result<Option<bool>, HubError> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(truth)) => Ok(Some(*truth)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(_) => Err(invalid(&format!("`{name}` is true or false"))),
    }
}

fn invalid(text: &str) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
