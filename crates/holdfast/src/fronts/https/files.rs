//! Uploads of files: devices begin and end them (`docs/protocol/file-upload.md` §1, §3), services and the operator read
//! what was uploaded.

use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderValue, StatusCode};
use hub::access::Operation;
use hub::deed::DeviceOperation;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::identity::DeviceId;
use hub::registry::By;
use hub::upload::{AccountText, BlobName, CONTAINER, FileView, Finished, UploadError};
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{self, Answer, no_content};
use super::content::Content;
use super::own_address::own_address;
use super::request::{self, Asked};
use super::{HttpsFront, authorize, route, shapes, specs};
use crate::listen::Visitor;

const BODY_BYTES_MAX: usize = 16 * 1024;
/// A connection string and a certificate authority.
const ACCOUNT_BYTES_MAX: usize = 256 * 1024;
/// Files that one answer lists.
const LIST_MAX: usize = 1_000;

/// `POST /devices/{d}/files`.
pub(super) async fn start(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    device: &str,
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let identity = route::identity(device, None)?;
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::BeginUpload).await?;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::UPLOAD).await?;
    let name = body["blobName"].as_str().ok_or_else(|| {
        HubError::new(HubErrorCode::ArgumentNull, "`blobName` is missing: the name that the file is to have")
    })?;
    let started = hub.start_upload(&identity.device, &grant.sender.generation, name).await;
    let started = started.map_err(|error| told(hub, asked, visitor, &identity.device, error))?;
    authorize::served(hub, asked, visitor, &identity, DeviceOperation::BeginUpload);
    let elsewhere = started.elsewhere;
    let answer = json!({
        "correlationId": started.upload,
        "hostName": elsewhere.as_ref().map_or_else(|| host(front, asked), |place| place.host.clone()),
        "containerName": elsewhere.as_ref().map_or(CONTAINER, |place| &place.container),
        "blobName": started.blob_name,
        "sasToken": started.query,
    });
    Ok(answer::json_body(StatusCode::OK, &answer))
}

/// `POST /devices/{d}/files/notifications[/{correlationId}]`.
pub(super) async fn finish(
    front: &HttpsFront,
    asked: &Asked,
    visitor: &Visitor,
    (device, in_path): (&str, Option<&str>),
    incoming: &mut Incoming,
) -> Result<Answer, HubError> {
    let hub = &*front.hub;
    let identity = route::identity(device, None)?;
    let grant = authorize::device(hub, asked, visitor, &identity, DeviceOperation::EndUpload).await?;
    let body = request::json(incoming, BODY_BYTES_MAX, &shapes::UPLOADED).await?;
    let in_body = body["correlationId"].as_str();
    let upload = match (in_path, in_body) {
        (Some(path), Some(body)) if path != body => {
            let text = "The correlation id in the path is another than the one in the body";
            return Err(HubError::new(HubErrorCode::ArgumentInvalid, text));
        }
        (Some(id), _) | (None, Some(id)) => id.to_owned(),
        (None, None) => {
            let text = "`correlationId` is missing, in the path or in the body";
            return Err(HubError::new(HubErrorCode::ArgumentNull, text));
        }
    };
    let success = specs::truth(specs::object(&body)?, "isSuccess")?
        .ok_or_else(|| HubError::new(HubErrorCode::ArgumentNull, "`isSuccess` is missing: true or false"))?;
    let finished = Finished { upload, success };
    let ended =
        hub.finish_upload(&identity.device, &grant.sender.generation, &finished, &host(front, asked)).await;
    ended.map_err(|error| told(hub, asked, visitor, &identity.device, error))?;
    authorize::served(hub, asked, visitor, &identity, DeviceOperation::EndUpload);
    Ok(no_content())
}

/// `GET /uploads/{d}/{name}` by a service: what `blobUri` of a notification leads to.
pub(super) async fn read(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    (device, name): (&DeviceId, &str),
) -> Result<Answer, HubError> {
    authorize::service(hub, asked, visitor, Operation::ReadFiles).await?;
    content(hub, device, name).await
}

/// The content of a file.
pub(super) async fn content(hub: &Hub, device: &DeviceId, name: &str) -> Result<Answer, HubError> {
    let (blob, reader) = hub.file(device, name).await?;
    let mut answer = Answer::new(Content::file(reader, blob.bytes()));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{}\"", blob.etag())) {
        headers.insert(ETAG, tag);
    }
    Ok(answer)
}

/// A list of files as Holdfast's own API shows it; `afterDevice` and `afterName` go on behind a file.
pub(super) async fn list(hub: &Hub, asked: &Asked) -> Result<Value, HubError> {
    let illegal = |text: String| HubError::new(HubErrorCode::ArgumentInvalid, text);
    let device = |text: &str| DeviceId::parse(text).map_err(|error| illegal(error.to_string()));
    let of = asked.parameter("device").map(device).transpose()?;
    let after = match (asked.parameter("afterDevice"), asked.parameter("afterName")) {
        (Some(id), Some(name)) => Some((device(id)?, BlobName::parse(name).map_err(illegal)?)),
        _ => None,
    };
    let file = |file: &FileView| json!({ "device": file.device, "name": file.name, "bytes": file.bytes, "modified": file.modified });
    Ok(hub.files(of.as_ref(), after, LIST_MAX).await?.iter().map(file).collect())
}

/// The storage that files go to, as Holdfast's own API shows it; null where it is the hub.
pub(super) async fn account(hub: &Hub) -> Result<Value, HubError> {
    let account = hub.upload_account().await?;
    Ok(account.map_or(Value::Null, |account| {
        json!({
            "account": account.name,
            "host": account.host,
            "container": account.container,
            "keyFingerprint": account.key.fingerprint,
            "keySet": account.key.set,
        })
    }))
}

/// Sets the storage that files go to.
pub(super) async fn set_account(hub: &Hub, incoming: &mut Incoming, by: &By) -> Result<Value, HubError> {
    let body = request::json(incoming, ACCOUNT_BYTES_MAX, &shapes::FILE_STORAGE).await?;
    let text = |name: &str| body[name].as_str().map(str::to_owned);
    let account = AccountText {
        connection_string: text("connectionString").unwrap_or_default().into(),
        container: text("container").unwrap_or_default(),
        authority: text("authority"),
    };
    hub.set_upload_account(Some(&account), by).await?;
    self::account(hub).await
}

/// Records a refusal, and says what the client is told.
fn told(hub: &Hub, asked: &Asked, visitor: &Visitor, device: &DeviceId, error: UploadError) -> HubError {
    match error.refusal() {
        Some(refusal) => authorize::not_served(hub, asked, visitor, Some(device.to_string()), refusal),
        None => tracing::warn!(%error, %device, "a step of an upload failed"),
    }
    error.into()
}

/// The hub's address for the links that a client is given.
fn host(front: &HttpsFront, asked: &Asked) -> String {
    own_address(&front.hub.settings.hosts, asked.header("host"), front.public_port)
}
