//! Answers: JSON bodies, etags, and the error form that each SDK parses (`docs/protocol/service-rest.md` §12).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hub::error::{HubError, HubErrorCode};
use hub::method::{MethodAnswer, MethodError};
use hub::twin::time_text;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::content::Content;

/// A response of the HTTPS front.
pub(super) type Answer = Response<Content>;

const JSON: &str = "application/json; charset=utf-8";

/// A JSON body.
pub(super) fn json_body(status: StatusCode, value: &Value) -> Answer {
    json_text(status, Bytes::from(value.to_string()))
}

fn json_text(status: StatusCode, text: Bytes) -> Answer {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    identified(response)
}

/// A JSON body with the etag of the one record that it shows.
pub(super) fn tagged(value: &Value, etag: &str) -> Answer {
    let mut response = json_body(StatusCode::OK, value);
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// No body: 204.
pub(super) fn no_content() -> Answer {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NO_CONTENT;
    identified(response)
}

/// A body in a transfer coding that is not known: 501 (RFC 9112 §6.1). Where it would end is known to nobody who trusts such
/// a client, so that the connection is closed.
pub(super) fn unknown_coding() -> Answer {
    let mut response = Response::new(Bytes::new().into());
    *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    identified(response)
}

/// A refusal or failure.
pub(super) fn error(error: &HubError, now: Timestamp) -> Answer {
    // The text ends at the first `;` for those who parse it.
    let text = error.message.replace(';', ",");
    let value = json!({
        "Message": format!("ErrorCode:{};{text}", error.code.name()),
        "ExceptionMessage": format!("Tracking ID:{}", tracking_id(now)),
    });
    coded(error.code, &value)
}

/// The failure of a method, whose `Message` is JSON of its own. Its `info` is null: the .NET SDK does not find the code
/// in one that has an object there, as Azure's has.
pub(super) fn method_error(error: &MethodError, now: Timestamp) -> Answer {
    let message = json!({
        "errorCode": error.code().number(),
        "trackingId": tracking_id(now),
        "message": error.to_string(),
        "info": null,
        "timestampUtc": time_text(now),
    });
    coded(error.code(), &json!({ "Message": message.to_string(), "ExceptionMessage": "" }))
}

/// What a device answered to a call, its payload as it wrote it.
pub(super) fn method_answer(answer: &MethodAnswer) -> Answer {
    let mut body = format!("{{\"status\":{},\"payload\":", answer.status).into_bytes();
    body.extend_from_slice(&answer.payload);
    body.push(b'}');
    json_text(StatusCode::OK, body.into())
}

/// An id by which an operator finds a failure again.
fn tracking_id(now: Timestamp) -> String {
    format!("{}-G:0-TimeStamp:{}", uuid::Uuid::new_v4().simple(), now.strftime("%m/%d/%Y %H:%M:%S"))
}

fn coded(code: HubErrorCode, value: &Value) -> Answer {
    let status = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_body(status, value);
    response.headers_mut().insert("iothub-errorcode", HeaderValue::from_static(code.name()));
    if matches!(
        code,
        HubErrorCode::ServiceUnavailable | HubErrorCode::ServerBusy | HubErrorCode::ThrottlingException
    ) {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// "Never", as the service API writes it.
pub(super) const NEVER: &str = "0001-01-01T00:00:00Z";

fn identified(mut response: Answer) -> Answer {
    if let Ok(id) = HeaderValue::from_str(&uuid::Uuid::new_v4().to_string()) {
        response.headers_mut().insert("x-ms-request-id", id);
    }
    response
}
