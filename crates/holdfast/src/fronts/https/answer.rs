//! Answers: JSON bodies, etags, and the error form that each SDK parses (`spec/service-rest.md` §12).

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use hub::error::{HubError, HubErrorCode};
use jiff::Timestamp;
use serde_json::{Value, json};

/// A response of the HTTPS front.
pub(super) type Answer = Response<Full<Bytes>>;

const JSON: &str = "application/json; charset=utf-8";

/// A JSON body.
pub(super) fn json_body(status: StatusCode, value: &Value) -> Answer {
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
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
    let mut response = Response::new(Full::new(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    identified(response)
}

/// A refusal or failure.
pub(super) fn error(error: &HubError, now: Timestamp) -> Answer {
    let tracking = uuid::Uuid::new_v4().simple();
    let time = now.strftime("%m/%d/%Y %H:%M:%S");
    // The text ends at the first `;` for those who parse it.
    let text = error.message.replace(';', ",");
    let value = json!({
        "Message": format!("ErrorCode:{};{text}", error.code.name()),
        "ExceptionMessage": format!("Tracking ID:{tracking}-G:0-TimeStamp:{time}"),
    });
    let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = json_body(status, &value);
    response.headers_mut().insert("iothub-errorcode", HeaderValue::from_static(error.code.name()));
    if matches!(
        error.code,
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
