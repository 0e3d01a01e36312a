//! The running hub that a command talks to.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::sas::host_without_port;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

use super::connection_string::ConnectionString;
use super::ready_file;
use crate::pem;

/// The api-version that the commands speak.
const API_VERSION: &str = "2021-04-12";
/// Where MQTT and AMQP are served, unless a ready file says otherwise.
const MQTT_PORT: u16 = 8883;
const AMQP_PORT: u16 = 5671;
/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a command's token lives, in seconds.
const TOKEN_SECONDS: u64 = 300;

/// How to find the hub.
#[derive(clap::Args, Clone)]
pub(super) struct TargetArgs {
    /// The ready file that the hub wrote.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_READY_FILE", global = true)]
    ready_file: Option<PathBuf>,
    /// The connection string of a service.
    #[arg(
        long,
        value_name = "TEXT",
        env = "HOLDFAST_CONNECTION_STRING",
        hide_env_values = true,
        global = true
    )]
    connection_string: Option<String>,
    /// The CA to trust; the ready file names it too.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CA_FILE", global = true)]
    ca_file: Option<PathBuf>,
    /// The management credential, for the commands of Holdfast's own API.
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CREDENTIAL_FILE", global = true)]
    credential_file: Option<PathBuf>,
}

/// A hub that can be asked.
pub(super) struct Target {
    agent: ureq::Agent,
    /// The host of its connection strings.
    pub(super) host: String,
    /// The port of HTTPS.
    pub(super) port: u16,
    /// The port of MQTT.
    pub(super) mqtt_port: u16,
    /// The port of AMQP.
    pub(super) amqp_port: u16,
    /// The file of the CA to trust.
    pub(super) ca_file: PathBuf,
    service: Option<ConnectionString>,
    credential_file: Option<PathBuf>,
}

impl TargetArgs {
    /// Finds the hub, for a command that can do without.
    pub(super) fn open_if_named(&self) -> anyhow::Result<Option<Target>> {
        match self.ready_file.is_some() || self.connection_string.is_some() {
            true => self.open().map(Some),
            false => Ok(None),
        }
    }

    /// Finds the hub.
    pub(super) fn open(&self) -> anyhow::Result<Target> {
        self.find(None)
    }

    /// Finds the hub at the host of a device's connection string; what else is needed comes from where it always does.
    pub(super) fn open_at(&self, host: &str) -> anyhow::Result<Target> {
        self.find(Some(host))
    }

    fn find(&self, host: Option<&str>) -> anyhow::Result<Target> {
        let ready = self.ready_file.as_deref().map(ready_file::read).transpose()?;
        let ready_text =
            |name: &str| ready.as_ref().and_then(|ready| ready[name].as_str()).map(str::to_owned);
        let given = self.connection_string.clone().or_else(|| ready_text("service_connection_string"));
        let service = given.as_deref().map(ConnectionString::parse).transpose()?;
        let host = host.map(str::to_owned).or_else(|| service.as_ref().map(|service| service.host.clone()));
        let Some(host) = host.or_else(|| ready_text("hostname")) else {
            bail!(
                "no hub is named. Name it by --ready-file FILE or --connection-string TEXT, or by the variables \
                 HOLDFAST_READY_FILE or HOLDFAST_CONNECTION_STRING; `holdfast dev` prints them"
            );
        };
        let name = host_without_port(&host);
        let (host, port) = match host.rsplit_once(':').map(|(_, port)| port) {
            Some(port) if host.len() > name.len() && port.parse::<u16>().is_ok() => {
                (name.to_owned(), port.parse()?)
            }
            _ => {
                let port = ready.as_ref().and_then(|ready| ready["ports"]["https"].as_u64()).unwrap_or(443);
                (name.to_owned(), u16::try_from(port)?)
            }
        };
        let ca_file = self.ca_file.clone().or_else(|| ready_text("ca_file").map(PathBuf::from));
        let credential_file = self
            .credential_file
            .clone()
            .or_else(|| ready_text("management_credential_file").map(PathBuf::from));
        let ca_file = ca_file.context(
            "no CA to trust is named. Name it by --ca-file FILE or HOLDFAST_CA_FILE, or give the ready file, which \
             names it; a hub keeps it in its data directory as ca.pem",
        )?;
        let port_of = |door: &str, usual: u16| match &ready {
            Some(ready) => served_at(ready, door, usual),
            None => Ok(usual),
        };
        let (mqtt_port, amqp_port) = (port_of("mqtt", MQTT_PORT)?, port_of("amqp", AMQP_PORT)?);
        Ok(Target {
            agent: agent(&ca_file)?,
            host,
            port,
            mqtt_port,
            amqp_port,
            ca_file,
            service,
            credential_file,
        })
    }
}

/// A host as a URL has it: an IPv6 address in brackets (RFC 3986 section 3.2.2).
pub(super) fn in_url(host: &str) -> Cow<'_, str> {
    match host.contains(':') {
        true => format!("[{host}]").into(),
        false => host.into(),
    }
}

/// The port of a door by a ready file.
fn served_at(ready: &Value, door: &str, usual: u16) -> anyhow::Result<u16> {
    Ok(u16::try_from(ready["ports"][door].as_u64().unwrap_or(usual.into()))?)
}

fn agent(path: &Path) -> anyhow::Result<ureq::Agent> {
    let certificates =
        pem::certificates(path).context("the CA file cannot be used; it is the ca.pem of the hub")?;
    let certificates: Vec<_> =
        certificates.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .root_certs(RootCerts::new_with_certs(&certificates));
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .https_only(true)
        .http_status_as_error(false)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("holdfast-cli/", env!("CARGO_PKG_VERSION")))
        .build();
    Ok(config.into())
}

/// A request that a command makes.
pub(super) struct Request<'a> {
    /// The method.
    pub(super) method: &'a str,
    /// The path with its query, each id percent-encoded.
    pub(super) path: String,
    /// The body.
    pub(super) body: Option<Value>,
    /// `If-Match`.
    pub(super) if_match: Option<&'a str>,
    /// How long it may take.
    pub(super) timeout: Duration,
}

impl<'a> Request<'a> {
    /// A request without a body.
    pub(super) fn new(method: &'a str, path: impl Into<String>) -> Self {
        Self { method, path: path.into(), body: None, if_match: None, timeout: TIMEOUT }
    }

    /// The same with a body.
    pub(super) fn with(self, body: Value) -> Self {
        Self { body: Some(body), ..self }
    }

    /// The same with another time that it may take.
    pub(super) fn waiting(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// The same for an existing record, whatever its etag is.
    pub(super) fn replacing(self) -> Self {
        Self { if_match: Some("*"), ..self }
    }
}

impl Target {
    /// The hub of a ready file's content, dialled by this name.
    pub(super) fn of_ready(ready: &Value, dialled: &str) -> anyhow::Result<Self> {
        let text = |name: &str| ready[name].as_str();
        let port = ready["ports"]["https"].as_u64().context("the hub serves no HTTPS")?;
        let ca_file = text("ca_file").map(PathBuf::from).context("the ready file names no CA file")?;
        Ok(Self {
            agent: agent(&ca_file)?,
            host: dialled.to_owned(),
            port: u16::try_from(port)?,
            mqtt_port: served_at(ready, "mqtt", MQTT_PORT)?,
            amqp_port: served_at(ready, "amqp", AMQP_PORT)?,
            ca_file,
            service: text("service_connection_string").map(ConnectionString::parse).transpose()?,
            credential_file: text("management_credential_file").map(PathBuf::from),
        })
    }

    /// The policy of the connection string, and its key.
    pub(super) fn policy(&self) -> anyhow::Result<(&str, &str)> {
        let service = self.service.as_ref().context(
            "this command needs a service connection string: --connection-string, or the ready file of a hub",
        )?;
        Ok((&service.policy, &service.key))
    }

    /// Asks the service API, as the policy of the connection string.
    pub(super) fn service(&self, request: Request<'_>) -> anyhow::Result<Value> {
        let service = self.service.as_ref().context(
            "this command needs a service connection string: --connection-string, or the ready file of a hub",
        )?;
        let token = sas_token(&service.host, &service.key, Some(&service.policy))?;
        let separator = if request.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{separator}api-version={API_VERSION}", request.path);
        self.ask(Request { path, ..request }, &token)
    }

    /// Asks Holdfast's own API, with the management credential.
    pub(super) fn management(&self, request: Request<'_>) -> anyhow::Result<Value> {
        self.ask(request, &self.credential()?)
    }

    /// Fetches what Holdfast's own API has at a path, piece by piece, for as long as it takes.
    pub(super) fn download(&self, path: &str) -> anyhow::Result<impl std::io::Read + use<>> {
        let url = format!("https://{}:{}{path}", in_url(&self.host), self.port);
        let request = self.agent.get(&url).header("authorization", self.credential()?);
        let request = request.config().timeout_global(None).timeout_recv_response(Some(TIMEOUT)).build();
        let mut response = request.call().with_context(|| self.unreachable())?;
        let status = response.status();
        if !status.is_success() {
            let text = response.body_mut().read_to_string().unwrap_or_default();
            bail!("{}", refused(status.as_u16(), &text));
        }
        Ok(response.into_body().into_reader())
    }

    /// The header that opens Holdfast's own API.
    fn credential(&self) -> anyhow::Result<String> {
        let file = self.credential_file.as_ref().context(
            "this command needs the management credential: --ready-file, --credential-file or \
             HOLDFAST_CREDENTIAL_FILE; the ready file names it, and only its owner may read it",
        )?;
        let credential = std::fs::read_to_string(file)
            .with_context(|| format!("could not read the management credential {}", file.display()))?;
        Ok(format!("Bearer {}", credential.trim()))
    }

    /// Sends a message as a device, with the device's own key.
    pub(super) fn device(
        &self,
        path: &str,
        token: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> anyhow::Result<()> {
        let url = format!("https://{}:{}{path}?api-version={API_VERSION}", in_url(&self.host), self.port);
        let mut request = self.agent.post(&url).header("authorization", token);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body).with_context(|| self.unreachable())?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let text = response.body_mut().read_to_string().unwrap_or_default();
        bail!("{}", refused(status.as_u16(), &text))
    }

    fn ask(&self, request: Request<'_>, authorization: &str) -> anyhow::Result<Value> {
        let url = format!("https://{}:{}{}", in_url(&self.host), self.port, request.path);
        let body = request.body.map(|body| body.to_string()).unwrap_or_default();
        let mut builder = ureq::http::Request::builder()
            .method(request.method)
            .uri(url)
            .header("authorization", authorization)
            .header("content-type", "application/json; charset=utf-8");
        if let Some(tag) = request.if_match {
            builder = builder.header("if-match", format!("\"{tag}\""));
        }
        let asked = self.agent.configure_request(builder.body(body)?);
        let asked = asked.timeout_global(Some(request.timeout)).build();
        let mut response = self.agent.run(asked).with_context(|| self.unreachable())?;
        let status = response.status();
        let text = response.body_mut().read_to_string().context("the answer broke off")?;
        if !status.is_success() {
            bail!("{}", refused(status.as_u16(), &text));
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).context("the answer is not JSON: is this a hub?")
    }

    fn unreachable(&self) -> String {
        format!("could not reach the hub at {}:{}", self.host, self.port)
    }
}

/// The text of a refusal, out of the form that the hub answers in.
fn refused(status: u16, text: &str) -> String {
    let message =
        serde_json::from_str::<Value>(text).ok().and_then(|body| body["Message"].as_str().map(str::to_owned));
    let message = message.unwrap_or_default();
    // What went wrong with a method is JSON within the text.
    if let Ok(failure) = serde_json::from_str::<Value>(&message)
        && let (Some(words), Some(code)) = (failure["message"].as_str(), failure["errorCode"].as_u64())
    {
        return match code {
            404_103 => format!(
                "the device is not connected, or takes no calls of methods ({code}); --connect-timeout waits for it"
            ),
            _ => format!("the hub answered: {words} ({code})"),
        };
    }
    let (code, words) = message.split_once(';').unwrap_or(("", &message));
    let code = code.trim_start_matches("ErrorCode:");
    match (status, words) {
        (401, _) => format!("the hub refused: {words} ({code}). `holdfast why --recent` says why"),
        (_, "") => format!("the hub answered {status}"),
        _ => format!("the hub refused: {words} ({code})"),
    }
}

/// A SAS token for a resource, signed with a key in base64.
pub(super) fn sas_token(resource: &str, key: &str, policy: Option<&str>) -> anyhow::Result<String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
    sas_token_until(resource, key, policy, now + TOKEN_SECONDS)
}

/// The same with an end in seconds since 1970.
pub(super) fn sas_token_until(
    resource: &str,
    key: &str,
    policy: Option<&str>,
    end: u64,
) -> anyhow::Result<String> {
    let key = STANDARD.decode(key).context("the key is not base64")?;
    let resource = encoded(resource);
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), format!("{resource}\n{end}").as_bytes());
    let signature = encoded(&STANDARD.encode(tag));
    let policy = policy.map(|policy| format!("&skn={}", encoded(policy))).unwrap_or_default();
    Ok(format!("SharedAccessSignature sr={resource}&sig={signature}&se={end}{policy}"))
}

/// A text as one segment of a path or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
