//! The service API and the device API over HTTPS, signed as an outsider signs.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::Hub;

/// A client of one hub. Calls block.
pub(crate) struct Rest {
    agent: ureq::Agent,
    base: String,
    host: String,
    owner_key: String,
    credential: String,
}

/// What the hub answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

impl Rest {
    pub(crate) fn new(hub: &Hub) -> Self {
        let roots: Vec<_> = CertificateDer::pem_slice_iter(hub.authority.as_bytes())
            .map(|certificate| Certificate::from_der(&certificate.unwrap()).to_owned())
            .collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots));
        let config = ureq::Agent::config_builder()
            .tls_config(tls.build())
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(30)));
        let credential = hub.ready["management_credential_file"].as_str().unwrap();
        Self {
            agent: config.build().into(),
            base: format!("https://{}:{}", hub.host(), hub.address("https").port()),
            host: hub.host().to_owned(),
            owner_key: hub.owner_key().to_owned(),
            credential: std::fs::read_to_string(credential).unwrap().trim().to_owned(),
        }
    }

    /// A request of a back end with all rights, replacing whatever is there.
    pub(crate) fn service(
        &self,
        method: &str,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, ureq::Error> {
        let token = sas_token(&self.host, &self.owner_key, Some("iothubowner"));
        let query = if path.contains('?') { '&' } else { '?' };
        self.send(method, &format!("{path}{query}api-version=2021-04-12"), &token, &bytes(body), true)
    }

    /// The same, creating only.
    pub(crate) fn create(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        let token = sas_token(&self.host, &self.owner_key, Some("iothubowner"));
        self.send("PUT", &format!("{path}?api-version=2021-04-12"), &token, &bytes(Some(body)), false)
    }

    /// A message of a device.
    pub(crate) fn telemetry(&self, device: &str, key: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        let token = sas_token(&format!("{}/devices/{device}", self.host), key, None);
        let path = format!("/devices/{device}/messages/events?api-version=2021-04-12");
        self.send("POST", &path, &token, body, false)
    }

    /// A request of a device, with a JSON body where it has one.
    pub(crate) fn as_device(
        &self,
        method: &str,
        path: &str,
        (device, key): (&str, &str),
        body: Option<&Value>,
    ) -> Result<Answer, ureq::Error> {
        let token = sas_token(&format!("{}/devices/{device}", self.host), key, None);
        let query = if path.contains('?') { '&' } else { '?' };
        self.send(method, &format!("{path}{query}api-version=2021-04-12"), &token, &bytes(body), false)
    }

    /// Writes to what a link opens: nothing but the link says who this is.
    pub(crate) fn by_link(&self, link: &str, body: &[u8]) -> Result<Answer, ureq::Error> {
        self.send("PUT", link, "", body, false)
    }

    /// A request of Holdfast's own API.
    pub(crate) fn own(&self, path: &str) -> Result<Answer, ureq::Error> {
        self.send("GET", path, &format!("Bearer {}", self.credential), b"", false)
    }

    /// The same, with something to do.
    pub(crate) fn own_post(&self, path: &str, body: &Value) -> Result<Answer, ureq::Error> {
        self.send("POST", path, &format!("Bearer {}", self.credential), &bytes(Some(body)), false)
    }

    /// Registers a device with a key.
    pub(crate) fn register(&self, device: &str, key: &str) {
        let answer = self.create(&format!("/devices/{device}"), &device_body(device, "new", key)).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        authorization: &str,
        body: &[u8],
        replacing: bool,
    ) -> Result<Answer, ureq::Error> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("Authorization", authorization)
            .header("Content-Type", "application/json");
        if replacing && method != "GET" {
            request = request.header("If-Match", "*");
        }
        let mut answer = self.agent.run(request.body(body.to_vec()).unwrap())?;
        let text = answer.body_mut().read_to_string()?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Ok(Answer { status, headers, body })
    }
}

/// A device as the registry takes it.
pub(crate) fn device_body(device: &str, reason: &str, key: &str) -> Value {
    serde_json::json!({
        "deviceId": device,
        "status": "enabled",
        "statusReason": reason,
        "authentication": { "type": "sas", "symmetricKey": { "primaryKey": key, "secondaryKey": key } },
    })
}

fn bytes(body: Option<&Value>) -> Vec<u8> {
    body.map(|body| body.to_string().into_bytes()).unwrap_or_default()
}

/// A SAS token that lives for an hour.
pub(crate) fn sas_token(resource: &str, key: &str, policy: Option<&str>) -> String {
    let escaped = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let resource = escaped(resource);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
    let signature = STANDARD.encode(hmac::sign(&key, format!("{resource}\n{end}").as_bytes()));
    let policy = policy.map(|policy| format!("&skn={policy}")).unwrap_or_default();
    format!("SharedAccessSignature sr={resource}&sig={}&se={end}{policy}", escaped(&signature))
}
