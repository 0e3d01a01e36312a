//! The server that is measured, and how its devices speak to it.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sim::{Clock, Credential, Device, DeviceOptions, ReaderOptions, SasKey, Start, TlsVersions, Trust};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Devices that one request registers.
const BULK: usize = 100;

/// A running server.
#[derive(Clone)]
pub(crate) struct Subject {
    /// Its process.
    pub(crate) pid: u32,
    /// Where it takes MQTT.
    pub(crate) mqtt: SocketAddr,
    server_name: String,
    /// Only TLS 1.3, every handshake a full one.
    trust: Trust,
    dialect: Dialect,
}

#[derive(Clone)]
enum Dialect {
    /// SAS tokens, a kept session, and the topics of Azure.
    Azure(Box<Azure>),
    /// No authentication, a clean session.
    Plain,
}

#[derive(Clone)]
struct Azure {
    host: String,
    ca_pem: String,
    https: SocketAddr,
    amqp: SocketAddr,
    owner: SasKey,
    /// The keys of devices are derived from it: every load computes the same ones, and the guard finds nothing to say of
    /// them, as it would of digests of names.
    secret: hmac::Key,
    event_hub: String,
    events_key: SasKey,
    /// The file of the management credential.
    credential: PathBuf,
}

/// What a back end needs.
pub(crate) struct Service {
    pub(crate) url: String,
    /// What it says who it is with.
    pub(crate) token: String,
    pub(crate) ca_pem: String,
}

impl Azure {
    /// A key of a device in base64; `slot` tells its keys apart.
    fn device_key(&self, place: usize, slot: &str) -> String {
        STANDARD.encode(hmac::sign(&self.secret, format!("{}{slot}", name(place)).as_bytes()))
    }
}

impl Subject {
    /// A server of plain MQTT.
    pub(crate) fn plain(pid: u32, mqtt: SocketAddr, ca_pem: &str) -> Result<Self> {
        let trust = Trust::in_pem(ca_pem, TlsVersions::OnlyTls13)?;
        Ok(Self { pid, mqtt, server_name: mqtt.ip().to_string(), trust, dialect: Dialect::Plain })
    }

    /// A Holdfast that wrote this ready file and listens on this address.
    pub(crate) fn holdfast(ready_file: &Path, address: IpAddr) -> Result<Self> {
        let text = fs::read_to_string(ready_file)
            .with_context(|| format!("could not read {}", ready_file.display()))?;
        let ready: Value = serde_json::from_str(&text)?;
        let text =
            |name: &str| ready[name].as_str().with_context(|| format!("no `{name}` in the ready file"));
        let port = |name: &str| -> Result<u16> {
            Ok(u16::try_from(ready["ports"][name].as_u64().with_context(|| format!("no port of {name}"))?)?)
        };
        let ca_pem = fs::read_to_string(text("ca_file")?)?;
        let (service, events) = (text("service_connection_string")?, text("eventhub_connection_string")?);
        let azure = Azure {
            host: text("hostname")?.to_owned(),
            https: SocketAddr::new(address, port("https")?),
            amqp: SocketAddr::new(address, port("amqp")?),
            secret: hmac::Key::new(hmac::HMAC_SHA256, part(service, "SharedAccessKey")?.as_bytes()),
            owner: SasKey::of_policy(
                part(service, "SharedAccessKeyName")?,
                part(service, "SharedAccessKey")?,
            )?,
            event_hub: part(events, "EntityPath")?.to_owned(),
            events_key: SasKey::of_event_hubs(
                part(events, "SharedAccessKeyName")?,
                part(events, "SharedAccessKey")?,
            ),
            ca_pem: ca_pem.clone(),
            credential: PathBuf::from(text("management_credential_file")?),
        };
        Ok(Self {
            pid: u32::try_from(ready["pid"].as_u64().context("no pid in the ready file")?)?,
            mqtt: SocketAddr::new(address, port("mqtt")?),
            server_name: address.to_string(),
            trust: Trust::in_pem(&ca_pem, TlsVersions::OnlyTls13)?,
            dialect: Dialect::Azure(Box::new(azure)),
        })
    }

    /// Registers devices 0 to `count`, where devices must be registered.
    pub(crate) fn register(&self, count: usize) -> Result<()> {
        let Dialect::Azure(azure) = &self.dialect else { return Ok(()) };
        let agent = agent(&azure.ca_pem)?;
        let url = format!("https://{}/devices?api-version=2021-04-12", azure.https);
        let token = azure.owner.token(&azure.host, Clock::default().seconds() + 600);
        let places: Vec<usize> = (0..count).collect();
        for chunk in places.chunks(BULK) {
            let entry = |place: &usize| {
                let (primary, secondary) = (azure.device_key(*place, ""), azure.device_key(*place, "/2"));
                let keys = json!({ "primaryKey": primary, "secondaryKey": secondary });
                let authentication = json!({ "type": "sas", "symmetricKey": keys });
                json!({ "id": name(*place), "importMode": "createOrUpdate", "status": "enabled",
                        "authentication": authentication })
            };
            let body: Vec<Value> = chunk.iter().map(entry).collect();
            let mut response = agent.post(&url).header("authorization", &token).send_json(&body)?;
            if !response.status().is_success() {
                bail!("devices could not be registered: {}", response.body_mut().read_to_string()?);
            }
        }
        Ok(())
    }

    /// Has the guard look at the fleet, where there is one.
    pub(crate) fn look(&self) -> Result<()> {
        let Dialect::Azure(azure) = &self.dialect else { return Ok(()) };
        let credential = fs::read_to_string(&azure.credential)?;
        let mut response = agent(&azure.ca_pem)?
            .get(format!("https://{}/holdfast/v1/posture", azure.https))
            .header("authorization", format!("Bearer {}", credential.trim()))
            .call()?;
        if !response.status().is_success() {
            bail!("the guard did not look at the fleet: {}", response.body_mut().read_to_string()?);
        }
        Ok(())
    }

    /// Makes a server keep what is published: leaves a durable session behind that subscribes to all of it. NATS drops
    /// messages that nobody wants, and acknowledges them without having stored them.
    pub(crate) async fn keep_messages(&self) -> Result<()> {
        let options = DeviceOptions { clean_session: false, device: "keeper".to_owned(), ..self.device(0)? };
        let mut keeper = Device::connect(&options).await?;
        keeper.subscribe("devices/#").await?;
        keeper.disconnect().await;
        Ok(())
    }

    /// How a device connects.
    pub(crate) fn device(&self, place: usize) -> Result<DeviceOptions> {
        let lifetime = Duration::from_secs(3_600);
        let (host, credential, clean_session) = match &self.dialect {
            Dialect::Azure(azure) => {
                let key = SasKey::of_device(&azure.device_key(place, ""))?;
                (azure.host.clone(), Credential::Sas { key, lifetime }, false)
            }
            Dialect::Plain => (String::new(), Credential::Plain { user_name: None, password: None }, true),
        };
        Ok(DeviceOptions {
            address: self.mqtt,
            server_name: self.server_name.clone(),
            host,
            device: name(place),
            credential,
            trust: self.trust.clone(),
            clock: Clock::default(),
            keep_alive_seconds: 1_100,
            clean_session,
        })
    }

    /// How somebody connects who says that they are this device and has another key.
    pub(crate) fn impostor(&self, place: usize) -> Result<DeviceOptions> {
        let Dialect::Azure(azure) = &self.dialect else { bail!("only Holdfast asks who somebody is") };
        let key = SasKey::of_device(&azure.device_key(place, "/wrong"))?;
        let lifetime = Duration::from_secs(3_600);
        Ok(DeviceOptions { credential: Credential::Sas { key, lifetime }, ..self.device(place)? })
    }

    /// How a back end speaks to it.
    pub(crate) fn service(&self) -> Result<Service> {
        let Dialect::Azure(azure) = &self.dialect else { bail!("only Holdfast has an API for back ends") };
        Ok(Service {
            url: format!("https://{}", azure.https),
            token: azure.owner.token(&azure.host, Clock::default().seconds() + 3_600),
            ca_pem: azure.ca_pem.clone(),
        })
    }

    /// How its events are read.
    pub(crate) fn reader(&self, start: Start, credit: u32) -> Result<ReaderOptions> {
        let Dialect::Azure(azure) = &self.dialect else { bail!("only Holdfast has an event stream to read") };
        Ok(ReaderOptions {
            address: azure.amqp,
            server_name: self.server_name.clone(),
            host: azure.host.clone(),
            event_hub: azure.event_hub.clone(),
            key: azure.events_key.clone(),
            trust: self.trust.clone(),
            consumer_group: "$Default".to_owned(),
            start,
            credit,
        })
    }
}

/// The id of a device.
pub(crate) fn name(place: usize) -> String {
    format!("device-{place:05}")
}

fn part<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let mut parts = text.split(';').filter_map(|part| part.split_once('='));
    let found = parts.find(|(have, _)| *have == name).map(|(_, value)| value);
    found.with_context(|| format!("the connection string has no {name}"))
}

/// A client of REST that trusts this CA.
pub(crate) fn agent(ca_pem: &str) -> Result<ureq::Agent> {
    let certificate = Certificate::from_pem(ca_pem.as_bytes())?;
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&[certificate]));
    let config = ureq::Agent::config_builder()
        .tls_config(tls.build())
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build();
    Ok(config.into())
}
