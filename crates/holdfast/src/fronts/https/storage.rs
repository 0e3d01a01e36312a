//! As much of Azure's Blob storage as devices need to write a file with the link that the hub gave them: Put Blob, Put
//! Block, Put Block List (`docs/protocol/file-upload.md` §2).

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, LAST_MODIFIED, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::BodyExt as _;
use hub::hub::Hub;
use hub::identity::DeviceId;
use hub::limits::UPLOAD_BYTES_PER_SECOND_MIN as BYTES_PER_SECOND_MIN;
use hub::limits::UPLOAD_SILENCE_MAX as SILENCE_MAX;
use hub::ports::blobs::{BlobError, Part};
use hub::upload::{BLOCKS_MAX, LinkText, UploadError, Writable, Writing, Written};
use hyper::body::Incoming;
use jiff::Timestamp;

use super::answer::{self, Answer};
use super::block_list;
use super::request::{self, Asked};
use super::{authorize, files};
use crate::listen::Visitor;

/// A list of the largest number of blocks, each with the longest id and its tags.
const LIST_BYTES_MAX: usize = BLOCKS_MAX * 160;
/// How much of a body that is refused is taken, so that the client reads the answer.
const UNWANTED_BYTES_MAX: usize = 5 * 1024 * 1024;

/// An answer of storage's own form.
enum Failure {
    /// The hub's refusal or failure.
    Upload(UploadError),
    /// What is wrong with the request itself: a code of storage's, and the text.
    Request(StatusCode, &'static str, String),
}

impl From<UploadError> for Failure {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}

/// Answers a request below `/uploads`.
pub(super) async fn dispatch(hub: &Hub, asked: &Asked, visitor: &Visitor, body: &mut Incoming) -> Answer {
    let mut known = None;
    let failure = match serve(hub, asked, visitor, body, &mut known).await {
        Ok(answer) => return answer,
        Err(failure) => failure,
    };
    if let Failure::Upload(error) = &failure {
        explain(hub, asked, visitor, known, error);
    }
    request::drain(body, UNWANTED_BYTES_MAX, &visitor.admission).await;
    failed(asked, &failure)
}

async fn serve(
    hub: &Hub,
    asked: &Asked,
    visitor: &Visitor,
    body: &mut Incoming,
    known: &mut Option<String>,
) -> Result<Answer, Failure> {
    // An encoded slash is one like the others: some SDKs encode the whole name.
    let path = asked.segments[1..].join("/");
    let Some((device, name)) = path.split_once('/') else {
        return Err(request_failure("InvalidUri", "The path is /uploads/{device}/{name}".to_owned()));
    };
    let device = DeviceId::parse(device).map_err(|error| request_failure("InvalidUri", error.to_string()))?;
    let text = LinkText {
        upload: asked.parameter("si"),
        ends: asked.parameter("se"),
        permissions: asked.parameter("sp"),
        signature: asked.parameter("sig"),
    };
    let reads = matches!(asked.method, Method::GET | Method::HEAD);
    if reads && text.signature.is_some() && asked.header("authorization").is_none() {
        admit(hub, (&device, name), text, known).await?;
        return Err(UploadError::WritesOnly { method: asked.method.to_string() }.into());
    }
    if asked.method == Method::GET {
        let answer = files::read(hub, asked, visitor, (&device, name)).await;
        return Ok(answer.unwrap_or_else(|error| answer::error(&error, hub.now())));
    }
    if asked.method != Method::PUT {
        let text = format!("{} is not served here, only PUT with a link and GET by a service", asked.method);
        return Err(Failure::Request(StatusCode::METHOD_NOT_ALLOWED, "UnsupportedHttpVerb", text));
    }
    let writable = admit(hub, (&device, name), text, known).await?;
    visitor.admission.admit().await;
    let only_new = asked.header("if-none-match").is_some_and(|value| value.trim() == "*");
    match asked.parameter("comp").map(str::to_ascii_lowercase).as_deref() {
        None => put_blob(hub, asked, &writable, body, only_new).await,
        Some("block") => put_block(hub, asked, &writable, body).await,
        Some("blocklist") => {
            let list = request::body(body, LIST_BYTES_MAX).await;
            let list = list.map_err(|error| request_failure("InvalidXmlDocument", error.message))?;
            let ids = block_list::parse(&list)
                .map_err(|problem| request_failure("InvalidXmlDocument", problem.to_owned()))?;
            let written = hub.commit_blocks(&writable, &ids, only_new).await?;
            Ok(created(asked, Some(&written), hub.now()))
        }
        Some(other) => {
            let text = format!("comp={other} is not served here, only block and blocklist");
            Err(request_failure("InvalidQueryParameterValue", text))
        }
    }
}

/// What a link opens; `known` gets the device that it is of.
async fn admit(
    hub: &Hub,
    (device, name): (&DeviceId, &str),
    text: LinkText<'_>,
    known: &mut Option<String>,
) -> Result<Writable, UploadError> {
    let admitted = hub.admit_upload(device, name, text).await;
    if !matches!(admitted, Err(UploadError::Link(_))) {
        // Only a link that was the hub's says whose it is.
        *known = Some(device.to_string());
    }
    admitted
}

async fn put_blob(
    hub: &Hub,
    asked: &Asked,
    writable: &Writable,
    body: &mut Incoming,
    only_new: bool,
) -> Result<Answer, Failure> {
    match asked.header("x-ms-blob-type") {
        Some(kind) if kind.eq_ignore_ascii_case("BlockBlob") => {}
        Some(kind) => {
            let text = format!("x-ms-blob-type is {kind}; only BlockBlob is served here");
            return Err(request_failure("InvalidHeaderValue", text));
        }
        None => {
            let text = "x-ms-blob-type: BlockBlob is missing".to_owned();
            return Err(request_failure("MissingRequiredHeader", text));
        }
    }
    let (mut writing, name) = hub.write_whole(writable).await?;
    take(body, &mut writing).await?;
    let bytes = writing.finish().await?;
    let written = hub.commit_file(writable, vec![Part { name, bytes }], only_new).await?;
    Ok(created(asked, Some(&written), hub.now()))
}

async fn put_block(
    hub: &Hub,
    asked: &Asked,
    writable: &Writable,
    body: &mut Incoming,
) -> Result<Answer, Failure> {
    let id = asked.parameter("blockid").unwrap_or_default();
    let mut writing = hub.write_block(writable, id).await?;
    take(body, &mut writing).await?;
    writing.finish().await?;
    Ok(created(asked, None, hub.now()))
}

/// Writes a body as it comes: no more of it is in memory than what was read at once.
async fn take(body: &mut Incoming, writing: &mut Writing) -> Result<(), Failure> {
    let broken = |text: &str| request_failure("IncompleteBody", text.to_owned());
    let (begun, mut taken) = (Instant::now(), 0);
    loop {
        let patience = patience(begun.elapsed(), taken);
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => return Err(broken("The body broke off")),
            Err(_) => {
                return Err(broken(
                    "Too little came: a kibibyte a second is the least, after the first minute",
                ));
            }
        };
        if let Ok(data) = frame.into_data() {
            taken += data.len() as u64;
            writing.write(data).await?;
        }
    }
}

/// How long the next bytes of a body may take that has taken so long and brought so much.
fn patience(elapsed: Duration, taken: u64) -> Duration {
    let due = SILENCE_MAX + Duration::from_secs(taken / BYTES_PER_SECOND_MIN);
    due.saturating_sub(elapsed).min(SILENCE_MAX)
}

/// Records why a step was refused.
fn explain(hub: &Hub, asked: &Asked, visitor: &Visitor, device: Option<String>, error: &UploadError) {
    match error.refusal() {
        Some(refusal) if device.is_none() => authorize::link_refused(hub, asked, visitor, refusal),
        Some(refusal) => authorize::not_served(hub, asked, visitor, device, refusal),
        None if matches!(error, UploadError::Exists | UploadError::Busy) => {}
        None => tracing::error!(%error, "a file could not be written"),
    }
}

fn request_failure(code: &'static str, text: String) -> Failure {
    Failure::Request(StatusCode::BAD_REQUEST, code, text)
}

fn created(asked: &Asked, written: Option<&Written>, now: Timestamp) -> Answer {
    let mut answer = answer::no_content();
    *answer.status_mut() = StatusCode::CREATED;
    let modified = written.map_or(now, |written| written.modified);
    let headers = answer.headers_mut();
    let modified = modified.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    if let Ok(value) = HeaderValue::from_str(&modified) {
        headers.insert(LAST_MODIFIED, value);
    }
    let etag = written.and_then(|written| HeaderValue::from_str(&format!("\"{}\"", written.etag)).ok());
    if let Some(value) = etag {
        headers.insert(ETAG, value);
    }
    versioned(asked, answer)
}

/// Echoes the version that the client speaks.
fn versioned(asked: &Asked, mut answer: Answer) -> Answer {
    if let Some(version) = asked.headers.get("x-ms-version") {
        answer.headers_mut().insert("x-ms-version", version.clone());
    }
    answer
}

/// An error as storage tells it.
fn failed(asked: &Asked, failure: &Failure) -> Answer {
    let (status, code, text) = match failure {
        Failure::Request(status, code, text) => (*status, *code, text.clone()),
        Failure::Upload(error) => {
            let (status, code) = code_of(error);
            // Whoever has no link learns nothing from it.
            let text = match code {
                "AuthenticationFailed" => "Server failed to authenticate the request.".to_owned(),
                _ => error.to_string(),
            };
            (status, code, text)
        }
    };
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>{code}</Code><Message>{text}</Message></Error>"
    );
    let mut answer = answer::no_content();
    *answer.status_mut() = status;
    *answer.body_mut() = Bytes::from(xml).into();
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert("x-ms-error-code", HeaderValue::from_static(code));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    versioned(asked, answer)
}

/// The only place where a refusal gets its code of storage's.
fn code_of(error: &UploadError) -> (StatusCode, &'static str) {
    match error {
        UploadError::Link(_) | UploadError::LinkEnded { .. } => {
            (StatusCode::FORBIDDEN, "AuthenticationFailed")
        }
        UploadError::WritesOnly { .. } => (StatusCode::FORBIDDEN, "AuthorizationPermissionMismatch"),
        UploadError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "RequestBodyTooLarge"),
        UploadError::Blocks(_) => (StatusCode::BAD_REQUEST, "InvalidBlockList"),
        UploadError::Exists => (StatusCode::CONFLICT, "BlobAlreadyExists"),
        UploadError::Name(_) => (StatusCode::BAD_REQUEST, "InvalidResourceName"),
        UploadError::Busy | UploadError::Full | UploadError::Blobs(BlobError::NoSpace) => {
            (StatusCode::SERVICE_UNAVAILABLE, "ServerBusy")
        }
        UploadError::Unknown(_) | UploadError::Ended { .. } => (StatusCode::NOT_FOUND, "BlobNotFound"),
        UploadError::Blobs(BlobError::Gone | BlobError::Failed(_)) | UploadError::Hub(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_a_minute_and_then_a_second_for_each_kibibyte() {
        let seconds = |elapsed, taken| patience(Duration::from_secs(elapsed), taken).as_secs();
        assert_eq!(seconds(0, 0), 60);
        assert_eq!(seconds(59, 0), 1);
        assert_eq!((seconds(60, 1_023), seconds(60, 1_024)), (0, 1));
        assert_eq!((seconds(119, 60 * 1_024), seconds(120, 60 * 1_024)), (1, 0));
        // Who was quick before has no more than a minute of silence.
        assert_eq!(seconds(10, 100 * 1_024 * 1_024), 60);
    }
}
