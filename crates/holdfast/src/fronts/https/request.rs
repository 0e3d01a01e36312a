//! What a request asks for: decoded path segments, query parameters, headers and a bounded body.

use std::sync::OnceLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, header};
use http_body_util::BodyExt as _;
use hub::backoff::Pace;
use hub::error::{HubError, HubErrorCode};
use hub::json::Shape;
use hyper::body::Incoming;
use percent_encoding::percent_decode_str;

use crate::unadmitted::Admission;

/// A request without its body.
pub(super) struct Asked {
    /// The method, after `X-HTTP-Method-Override`.
    pub(super) method: Method,
    /// The path segments, each decoded once; empty ones are left out, so that a trailing slash means nothing.
    pub(super) segments: Vec<String>,
    /// The query parameters, decoded; the value of one without `=` is empty.
    pub(super) query: Vec<(String, String)>,
    /// The headers.
    pub(super) headers: HeaderMap,
    /// How the refusal is to be answered, where it was decided that the request is refused for who sent it.
    pub(super) pace: OnceLock<Pace>,
}

impl Asked {
    /// Reads the head of a request.
    pub(super) fn new(parts: &http::request::Parts) -> Self {
        let override_to = parts.headers.get("x-http-method-override").and_then(|value| value.to_str().ok());
        let method = match (&parts.method, override_to) {
            (&Method::POST, Some(method)) if method.eq_ignore_ascii_case("PATCH") => Method::PATCH,
            (method, _) => method.clone(),
        };
        let segments = parts.uri.path().split('/').filter(|s| !s.is_empty()).map(decoded).collect();
        let query = parts.uri.query().unwrap_or_default();
        let query = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (decoded(name), decoded(value)))
            .collect();
        Self { method, segments, query, headers: parts.headers.clone(), pace: OnceLock::new() }
    }

    /// The value of a query parameter, whose name is compared without case.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The text of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The path as tokens name it: `/` and the decoded segments.
    pub(super) fn path(&self) -> String {
        format!("/{}", self.segments.join("/"))
    }
}

/// Whether the body comes in a transfer coding beside `chunked`, which nobody decodes (RFC 9112 §6.1).
pub(super) fn is_coded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let known = |value: &HeaderValue| {
        value.to_str().is_ok_and(|codings| {
            codings.split(',').map(str::trim).all(|coding| coding.eq_ignore_ascii_case("chunked"))
        })
    };
    !codings.all(known)
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a body of at most so many bytes.
pub(super) async fn body(incoming: &mut Incoming, bytes_max: usize) -> Result<Bytes, HubError> {
    match tokio::time::timeout(BODY_TIMEOUT, collect(incoming, bytes_max)).await {
        Ok(body) => body,
        Err(_) => {
            let text = format!("The body did not come within {} s", BODY_TIMEOUT.as_secs());
            Err(HubError::new(HubErrorCode::GenericBadRequest, text))
        }
    }
}

async fn collect(body: &mut Incoming, bytes_max: usize) -> Result<Bytes, HubError> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| HubError::new(HubErrorCode::GenericBadRequest, "The body broke off"))?;
        if let Ok(data) = frame.into_data() {
            if bytes.len() + data.len() > bytes_max {
                let text = format!("The body is over the limit of {bytes_max} bytes");
                return Err(HubError::new(HubErrorCode::MessageTooLarge, text));
            }
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes.freeze())
}

/// How long a client may take over a body that nobody wants.
const UNWANTED_TIMEOUT: Duration = Duration::from_secs(5);

/// Takes what is left of a body that nobody wanted, so that the connection can be used again.
pub(super) async fn drain(incoming: &mut Incoming, bytes_max: usize, admission: &Admission) {
    let drained = async {
        let mut bytes = 0;
        while let Some(Ok(frame)) = incoming.frame().await {
            admission.consumed();
            bytes += frame.data_ref().map_or(0, Bytes::len);
            if bytes > bytes_max {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(UNWANTED_TIMEOUT, drained).await;
}

/// Reads a JSON body of this shape.
pub(super) async fn json(
    incoming: &mut Incoming,
    bytes_max: usize,
    shape: &Shape,
) -> Result<serde_json::Value, HubError> {
    Ok(hub::json::read_body(&body(incoming, bytes_max).await?, shape)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_chunked_is_a_transfer_coding() {
        let coded = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::TRANSFER_ENCODING, HeaderValue::from_static(line));
            }
            is_coded(&headers)
        };
        for known in [&[][..], &["chunked"], &["Chunked "]] {
            assert!(!coded(known), "{known:?}");
        }
        for unknown in
            [&["gzip, chunked"][..], &["gzip", "chunked"], &["identity, chunked"], &["gzip;q=1"], &[""]]
        {
            assert!(coded(unknown), "{unknown:?}");
        }
    }
}
