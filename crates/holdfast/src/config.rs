//! What the operator sets: one typed tree, from defaults, a TOML file, the environment and the command line, each
//! over the one before it. Unknown keys are refused.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use hub::backoff::Backoff;
use hub::hub_events::HubEvents;
use posture::facts::ConfiguredSecret;
use serde::Deserialize;
use zeroize::Zeroizing;

/// The settings of a hub.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The address that every listener binds to. Default: 0.0.0.0 for `serve`, 127.0.0.1 for `dev` and `demo`.
    pub(crate) listen: IpAddr,
    /// The names that clients know the hub by. The first one stands in connection strings. Default: `localhost`, or
    /// the address that it listens on.
    pub(crate) hostname: Vec<String>,
    /// Where everything that lasts lives. Default: /var/lib/holdfast for `serve`, a temporary one for `dev`.
    pub(crate) data: PathBuf,
    /// HTTPS and WebSockets. Default: 443, which the SDKs have built in.
    pub(crate) https_port: u16,
    /// The port by which clients reach HTTPS, where that is mapped to `https-port`; it stands in the links of uploads. Default:
    /// `https-port`.
    pub(crate) public_https_port: Option<u16>,
    /// MQTT. Default: 8883, which the SDKs have built in.
    pub(crate) mqtt_port: u16,
    /// AMQP. Default: 5671, which the SDKs have built in.
    pub(crate) amqp_port: u16,
    /// The Event Hubs-compatible name. Default: the first label of the host name.
    pub(crate) event_hub_name: Option<String>,
    /// Partitions of the event stream, fixed when the data directory is made. Default: 4. Range: 1 to 127.
    pub(crate) partitions: u16,
    /// Whether security messages of devices go into the event stream too. Default: false, they are kept for the guard.
    pub(crate) security_messages_in_events: bool,
    /// Which of its own events the hub puts into the event stream: `TwinChangeEvents`, `DeviceLifecycleEvents` and
    /// `DeviceConnectionStateEvents` with commas between them, `all` or `none`. Default: none.
    pub(crate) hub_events: Option<HubEvents>,
    /// How long events are kept, in hours. Default: 24. Range: 1 to 8760.
    pub(crate) retention_hours: u32,
    /// How large the event log may grow, in GiB; beyond it the oldest events go before their time. Default: no bound.
    pub(crate) retention_gigabytes: Option<u32>,
    /// How much of the disk is kept for the registry, in MiB: telemetry is refused below it. Default: a twentieth of the disk, 1024
    /// at most.
    pub(crate) reserve_megabytes: Option<u64>,
    /// Modules that a device may have. Default: 50.
    pub(crate) modules_per_device: usize,
    /// The largest file that a device may upload, in MiB. Default: 1024. Range: 1 to 1,048,576.
    pub(crate) upload_megabytes_max: u64,
    /// Guesses in a minute that are answered at once, of each address and in each name; the answers to those beyond wait. 0
    /// slows nobody down. Default: 10 for `serve`, and nobody on this machine; 0 for `dev`.
    pub(crate) refusals_per_minute: Option<u32>,
    /// How many records of connections and refusals are kept. Default: 1,000,000.
    pub(crate) decisions_kept: u64,
    /// Whether MQTT is served by one thread on each processor, which stays there. Without, it is served by threads that go where there
    /// is room, which is better where other programs keep single processors busy. Default: true.
    pub(crate) mqtt_lanes: bool,
    /// Whether `/metrics` answers whoever asks from this machine without a credential; through a proxy that says so it never does.
    /// Default: true.
    pub(crate) local_metrics: bool,
    /// How long stopping may take, in seconds. Default: 5.
    pub(crate) drain_seconds: u64,
    /// Where the master key is: `env:NAME` or `file:PATH`. Default: the variable HOLDFAST_MASTER_KEY, else the file
    /// `master.key` of the data directory, made on first start. The key itself is refused here by `serve`.
    pub(crate) master_key: Option<SecretReference>,
    /// Whether decisions are dropped and no posture is judged, which only `dev` can be told, and no file.
    #[serde(skip)]
    pub(crate) unwatched: bool,
    /// Whether the hub starts though files of its data directory are missing, which only the command line can say.
    #[serde(skip)]
    pub(crate) accept_loss: bool,
    /// The file that this was read from.
    #[serde(skip)]
    pub(crate) file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            hostname: Vec::new(),
            data: PathBuf::from("/var/lib/holdfast"),
            https_port: 443,
            public_https_port: None,
            mqtt_port: 8883,
            amqp_port: 5671,
            event_hub_name: None,
            partitions: 4,
            security_messages_in_events: false,
            hub_events: None,
            retention_hours: 24,
            retention_gigabytes: None,
            reserve_megabytes: None,
            modules_per_device: 50,
            upload_megabytes_max: 1_024,
            refusals_per_minute: None,
            decisions_kept: 1_000_000,
            mqtt_lanes: true,
            local_metrics: true,
            drain_seconds: 5,
            master_key: None,
            unwatched: false,
            accept_loss: false,
            file: None,
        }
    }
}

/// Where a secret of the configuration is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "String")]
pub(crate) enum SecretReference {
    /// In a variable of the environment.
    Environment(String),
    /// In a file.
    File(PathBuf),
    /// Here: for development only.
    Literal(Zeroizing<String>),
}

impl From<String> for SecretReference {
    fn from(text: String) -> Self {
        match text.split_once(':') {
            Some(("env", name)) => Self::Environment(name.to_owned()),
            Some(("file", path)) => Self::File(PathBuf::from(path)),
            _ => Self::Literal(Zeroizing::new(text)),
        }
    }
}

impl std::fmt::Debug for SecretReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Literal(_) => f.write_str("(a secret)"),
        }
    }
}

/// The dotted name that every certificate carries: the C SDK refuses a host without a dot.
pub(crate) const DOTTED_NAME: &str = "holdfast.localhost";

impl Config {
    /// Reads a file and checks it.
    pub(crate) fn from_file(path: &Path) -> anyhow::Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
        let config: Self = toml::from_str(&text)
            .with_context(|| format!("{} is not a configuration of Holdfast", path.display()))?;
        Ok(Self { file: Some(path.to_owned()), ..config })
    }

    /// Says what is out of range.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if !(1..=127).contains(&self.partitions) {
            bail!("partitions is {}, it must be 1 to 127", self.partitions);
        }
        if !(1..=8_760).contains(&self.retention_hours) {
            bail!("retention-hours is {}, it must be 1 to 8760", self.retention_hours);
        }
        if self.retention_gigabytes == Some(0) {
            bail!("retention-gigabytes is 0, it must be 1 or more");
        }
        if self.public_https_port == Some(0) {
            bail!("public-https-port is 0, it must be 1 to 65535");
        }
        if !(1..=1_048_576).contains(&self.upload_megabytes_max) {
            bail!("upload-megabytes-max is {}, it must be 1 to 1048576", self.upload_megabytes_max);
        }
        for name in &self.hostname {
            let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
            let is_address = name.parse::<IpAddr>().is_ok();
            if !is_address && (name.is_empty() || name.len() > 253 || !name.chars().all(legal)) {
                bail!("`{name}` is no host name: it may have letters, digits, `-` and `.`, and no port");
            }
        }
        Ok(())
    }

    /// How those are slowed down who guess. What the operator set is for everybody.
    pub(crate) fn backoff(&self) -> Backoff {
        match self.refusals_per_minute {
            Some(at_once) => Backoff::new(at_once),
            None => Backoff::new(hub::backoff::AT_ONCE).sparing_loopback(),
        }
    }

    /// Says which secret stands in the configuration itself, which is for development only.
    pub(crate) fn check_secrets(&self) -> anyhow::Result<()> {
        for secret in self.secrets() {
            if secret.literal {
                bail!(
                    "`{}` in {} is the secret itself: write env:NAME or file:PATH",
                    secret.field,
                    secret.file
                );
            }
        }
        Ok(())
    }

    /// The secrets of the configuration, and whether each is a reference.
    pub(crate) fn secrets(&self) -> Vec<ConfiguredSecret> {
        let file = self.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        let secret = |reference: &SecretReference| ConfiguredSecret {
            field: "master-key".to_owned(),
            file: file.clone(),
            literal: matches!(reference, SecretReference::Literal(_)),
        };
        self.master_key.iter().map(secret).collect()
    }

    /// The names that clients may know the hub by; the first one stands in connection strings.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let mut hosts = self.hostname.clone();
        let mut add = |name: String| {
            if !hosts.iter().any(|have| have.eq_ignore_ascii_case(&name)) {
                hosts.push(name);
            }
        };
        let own_address = !self.listen.is_unspecified() && self.listen != IpAddr::V4(Ipv4Addr::LOCALHOST);
        if own_address {
            add(self.listen.to_string());
        }
        add("localhost".to_owned());
        add(DOTTED_NAME.to_owned());
        add(Ipv4Addr::LOCALHOST.to_string());
        hosts
    }

    /// The Event Hubs-compatible name.
    pub(crate) fn event_hub_name(&self) -> String {
        let named =
            self.hostname.first().filter(|name| name.parse::<IpAddr>().is_err() && *name != "localhost");
        let label = named.and_then(|name| name.split('.').next());
        self.event_hub_name.clone().unwrap_or_else(|| label.unwrap_or("holdfast").to_ascii_lowercase())
    }

    /// How large the event log may grow, in bytes.
    pub(crate) fn retention_bytes(&self) -> Option<u64> {
        self.retention_gigabytes.map(|gigabytes| u64::from(gigabytes) * 1024 * 1024 * 1024)
    }

    /// How much of the disk is kept for the registry, in bytes.
    pub(crate) fn reserve_bytes(&self) -> Option<u64> {
        self.reserve_megabytes.map(|megabytes| megabytes.saturating_mul(1024 * 1024))
    }

    /// How long events are kept.
    pub(crate) fn retention(&self) -> Duration {
        Duration::from_secs(u64::from(self.retention_hours) * 3_600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error =
            toml::from_str::<Config>("listen = \"127.0.0.1\"\nparitions = 4").expect_err("a typing error");
        assert!(error.to_string().contains("paritions"), "{error}");
    }

    #[test]
    fn no_file_switches_the_guard_off() {
        let error = toml::from_str::<Config>("unwatched = true").expect_err("no key of a file");
        assert!(error.to_string().contains("unwatched"), "{error}");
    }

    #[test]
    fn the_first_name_is_the_one_that_was_given_or_the_address() {
        let mut config = Config { listen: "127.0.3.9".parse().expect("an address"), ..Config::default() };
        assert_eq!(config.hosts()[0], "127.0.3.9");
        config.hostname = vec!["hub.plant.example".to_owned()];
        assert_eq!(config.hosts()[..2], ["hub.plant.example", "127.0.3.9"]);
        assert_eq!(config.event_hub_name(), "hub");
        assert_eq!(Config::default().hosts()[0], "localhost");
    }
}
