//! A client on HTTPS: telemetry, and device-bound messages that it asks for (`docs/protocol/device-https.md`).

use std::future::pending;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::time::{Instant, sleep_until, timeout};

use super::{API_VERSION, ClientOptions, DeviceBound, MessageHandle, PRODUCT, Received, Settlement};
use crate::pipe::{dial, tls_version};
use crate::{Message, SimError};

/// Time between two questions for messages.
const POLL: Duration = Duration::from_secs(1);
/// How long the answer to a request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the largest answer that is read.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// A batch, even of one message, keeps the case of the names of properties, which headers do not.
const BATCH_TYPE: &str = "application/vnd.microsoft.iothub.json";

pub(super) struct HttpsClient {
    options: ClientOptions,
    requests: SendRequest<Full<Bytes>>,
    tls_version: &'static str,
    token: Option<String>,
    next_poll: Instant,
    /// What came with the first question.
    waiting: Option<Received>,
}

impl HttpsClient {
    pub(super) async fn connect(options: &ClientOptions) -> Result<Self, SimError> {
        let (requests, tls_version) = open(options).await?;
        let mut client = Self {
            options: options.clone(),
            requests,
            tls_version,
            token: None,
            next_poll: Instant::now(),
            waiting: None,
        };
        client.renew();
        // HTTPS has no connection of a device: the first question shows whether it is let in.
        if !client.is_module() {
            client.waiting = client.poll().await?;
        }
        Ok(client)
    }

    pub(super) fn tls_version(&self) -> &'static str {
        self.tls_version
    }

    pub(super) fn renew(&mut self) {
        self.token = self.options.token().map(|(token, _)| token);
    }

    pub(super) async fn send(&mut self, message: &Message<'_>) -> Result<(), SimError> {
        let mut properties = Map::new();
        for (name, value) in message.properties {
            let name = match *name {
                "$.mid" => "iothub-messageid".to_owned(),
                "$.ct" => "iothub-contenttype".to_owned(),
                "$.ce" => "iothub-contentencoding".to_owned(),
                name => format!("iothub-app-{name}"),
            };
            properties.insert(name, json!(value));
        }
        let batch = json!([{ "body": STANDARD.encode(&message.body), "properties": properties }]);
        let body = Bytes::from(batch.to_string());
        self.ask(Method::POST, "/messages/events", "", body).await.map(drop)
    }

    pub(super) async fn ready(&mut self) -> Result<(), SimError> {
        match &self.waiting {
            None if self.is_module() => pending().await,
            None => sleep_until(self.next_poll).await,
            Some(_) => {}
        }
        Ok(())
    }

    pub(super) async fn take(&mut self) -> Result<Option<Received>, SimError> {
        match self.waiting.take() {
            Some(received) => Ok(Some(received)),
            None if self.next_poll <= Instant::now() && !self.is_module() => self.poll().await,
            None => Ok(None),
        }
    }

    pub(super) async fn settle(&mut self, lock: &str, how: Settlement) -> Result<(), SimError> {
        let path = format!("/messages/devicebound/{lock}");
        match how {
            Settlement::Complete => self.ask(Method::DELETE, &path, "", Bytes::new()).await,
            Settlement::Reject => self.ask(Method::DELETE, &path, "&reject", Bytes::new()).await,
            Settlement::Abandon => self.ask(Method::POST, &format!("{path}/abandon"), "", Bytes::new()).await,
        }
        .map(drop)
    }

    /// Modules have nothing to ask for over HTTPS (`docs/protocol/device-https.md` §2).
    fn is_module(&self) -> bool {
        self.options.module.is_some()
    }

    /// Asks for a message. While there is one, the next question follows at once.
    async fn poll(&mut self) -> Result<Option<Received>, SimError> {
        let answer = self.ask(Method::GET, "/messages/devicebound", "", Bytes::new()).await?;
        if answer.status() != StatusCode::OK {
            self.next_poll = Instant::now() + POLL;
            return Ok(None);
        }
        let text = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let lock = text("etag").unwrap_or_default().trim_matches('"').to_owned();
        let properties = answer.headers().iter().filter_map(|(name, value)| {
            let name = name.as_str().strip_prefix("iothub-app-").filter(|name| *name != "iothub-ack")?;
            Some((name.to_owned(), value.to_str().ok()?.to_owned()))
        });
        Ok(Some(Received::Message(DeviceBound {
            message_id: text("iothub-messageid").map(str::to_owned),
            properties: properties.collect(),
            handle: MessageHandle::Https(lock),
            body: answer.body().clone(),
        })))
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        parameters: &str,
        body: Bytes,
    ) -> Result<Response<Bytes>, SimError> {
        let uri = format!("{}{path}?api-version={API_VERSION}{parameters}", self.options.path());
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, &self.options.host)
            .header(header::USER_AGENT, PRODUCT);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, token);
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, BATCH_TYPE);
        }
        let request = request.body(Full::new(body)).map_err(failed)?;
        let answered = async {
            // A server closes a connection that is idle for long.
            if self.requests.ready().await.is_err() {
                self.requests = open(&self.options).await?.0;
            }
            let (head, body) = self.requests.send_request(request).await.map_err(failed)?.into_parts();
            let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
            let body = body.map_err(|error| SimError::Http(error.to_string()))?.to_bytes();
            Ok::<_, SimError>(Response::from_parts(head, body))
        };
        let answer = timeout(ANSWER_TIMEOUT, answered).await;
        let answer = answer.map_err(|_| SimError::TimedOut("answer over HTTPS"))??;
        match answer.status() {
            status if status.is_success() => Ok(answer),
            status => {
                let said = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
                // `ErrorCode:{name};{text}`
                let message = said["Message"].as_str().unwrap_or("no reason was given");
                let message = message.split_once(';').map_or(message, |(_, text)| text).to_owned();
                Err(SimError::Status { status: status.as_u16(), message })
            }
        }
    }
}

async fn open(options: &ClientOptions) -> Result<(SendRequest<Full<Bytes>>, &'static str), SimError> {
    let stream = dial(options.address, &options.host, &options.trust).await?;
    let tls_version = tls_version(&stream);
    let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends when the connection does, or when the last of `requests` is dropped; its error comes with a request, too.
    tokio::spawn(connection);
    Ok((requests, tls_version))
}

fn failed(error: impl std::error::Error) -> SimError {
    SimError::Http(error.to_string())
}
