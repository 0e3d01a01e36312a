//! The commands that run a hub.

use std::fs::Permissions;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ::hub::access::PolicyName;
use ::hub::hub_events::HubEvents;
use anyhow::Context as _;
use serde_json::{Map, Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::ready_file::ReadyFile;
use super::target::in_url;
use super::terminal::{LogWriter, errln, outln};
use crate::app::App;
use crate::config::Config;
use crate::files::keep_to_owner;
use crate::lanes::LaneThreads;
use crate::master_key::GivenKey;

/// `holdfast dev`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast dev
  holdfast dev --listen 127.0.0.2 --ready-file hub.json
  holdfast dev --data ./hub --hostname hub.example")]
pub(crate) struct DevArgs {
    /// A configuration file (TOML) to try out.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Record nothing and judge nothing, to measure what the guard costs.
    #[arg(long)]
    unwatched: bool,
    #[command(flatten)]
    options: HubOptions,
}

/// `holdfast serve`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast serve --config /etc/holdfast.toml
  holdfast serve --data /srv/hub --hostname hub.plant.example")]
pub(crate) struct ServeArgs {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: HubOptions,
}

/// `holdfast check-config`.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    /// The configuration file (TOML).
    file: PathBuf,
}

/// What may be set on the command line; each goes over the configuration file.
#[derive(clap::Args)]
pub(super) struct HubOptions {
    /// The address that all listeners bind to.
    #[arg(long, value_name = "ADDRESS", env = "HOLDFAST_LISTEN")]
    listen: Option<IpAddr>,
    /// A name that clients know the hub by; may be given several times, the first stands in connection strings.
    #[arg(long, value_name = "NAME", env = "HOLDFAST_HOSTNAME", value_delimiter = ',')]
    hostname: Vec<String>,
    /// Keep everything in this directory over restarts.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_DATA")]
    data: Option<PathBuf>,
    /// Write a JSON file with everything a client needs once every listener answers.
    #[arg(long, value_name = "FILE")]
    pub(super) ready_file: Option<PathBuf>,
    /// The port of HTTPS and WebSockets (the SDKs have 443 built in).
    #[arg(long, value_name = "PORT", env = "HOLDFAST_HTTPS_PORT")]
    pub(super) https_port: Option<u16>,
    /// The port of MQTT (the SDKs have 8883 built in).
    #[arg(long, value_name = "PORT", env = "HOLDFAST_MQTT_PORT")]
    mqtt_port: Option<u16>,
    /// The port of AMQP (the SDKs have 5671 built in).
    #[arg(long, value_name = "PORT", env = "HOLDFAST_AMQP_PORT")]
    amqp_port: Option<u16>,
    /// Partitions of the event stream, fixed when the data directory is made.
    #[arg(long, value_name = "N", env = "HOLDFAST_PARTITIONS")]
    partitions: Option<u16>,
    /// Events that the hub itself puts into the event stream: TwinChangeEvents, DeviceLifecycleEvents,
    /// DeviceConnectionStateEvents, all or none. Default: none.
    #[arg(long, value_name = "SOURCES", env = "HOLDFAST_HUB_EVENTS")]
    hub_events: Option<HubEvents>,
    /// Guesses at a key or name in a minute that are answered at once, of each address and in each name; 0 slows nobody
    /// down. Default: 10 for serve, and nobody on this machine; 0 for dev.
    #[arg(long, value_name = "N", env = "HOLDFAST_REFUSALS_PER_MINUTE")]
    refusals_per_minute: Option<u32>,
    /// Start though files of the data directory are missing or belong to another hub; what is missing is put on record.
    #[arg(long)]
    accept_loss: bool,
}

impl HubOptions {
    fn over(&self, mut config: Config) -> Config {
        config.listen = self.listen.unwrap_or(config.listen);
        if !self.hostname.is_empty() {
            config.hostname.clone_from(&self.hostname);
        }
        if let Some(data) = &self.data {
            config.data.clone_from(data);
        }
        config.https_port = self.https_port.unwrap_or(config.https_port);
        config.mqtt_port = self.mqtt_port.unwrap_or(config.mqtt_port);
        config.amqp_port = self.amqp_port.unwrap_or(config.amqp_port);
        config.partitions = self.partitions.unwrap_or(config.partitions);
        config.hub_events = self.hub_events.or(config.hub_events);
        config.accept_loss = self.accept_loss;
        config.refusals_per_minute = self.refusals_per_minute.or(config.refusals_per_minute);
        config
    }

    /// The configuration of a hub that is not for production, with a temporary data directory unless one was given.
    pub(super) fn for_development(
        &self,
        file: Option<&Path>,
    ) -> anyhow::Result<(Config, Option<tempfile::TempDir>)> {
        let base = file.map(Config::from_file).transpose()?.unwrap_or_default();
        // Nobody else's machine is a place for development, whatever the file says.
        let mut config = self.over(Config { listen: IpAddr::V4(Ipv4Addr::LOCALHOST), ..base });
        if self.data.is_some() {
            return Ok((config, None));
        }
        let directory = tempfile::Builder::new()
            .prefix("holdfast-")
            .permissions(Permissions::from_mode(0o700))
            .tempdir()?;
        config.data = directory.path().to_path_buf();
        Ok((config, Some(directory)))
    }
}

/// Runs a hub for development.
pub(super) fn dev(args: DevArgs) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let (mut config, temporary) = args.options.for_development(args.config.as_deref())?;
    config.unwatched = args.unwatched;
    // A developer's mistakes are no attack.
    config.refusals_per_minute.get_or_insert(0);
    run_hub(&config, temporary, args.options.ready_file.as_deref(), "info", async |ready, stop| {
        print_ready(ready, begun);
        if args.unwatched {
            errln!("holdfast: UNWATCHED: no connection and no refusal is recorded, and nothing is judged.");
        }
        stop.asked().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs a hub in production.
pub(super) fn serve(args: ServeArgs) -> anyhow::Result<ExitCode> {
    let config = match &args.config {
        Some(path) => Config::from_file(path)?,
        None => Config::default(),
    };
    config.check_secrets()?;
    let config = args.options.over(config);
    run_hub(&config, None, args.options.ready_file.as_deref(), "info", async |ready, stop| {
        tracing::info!(hostname = %ready["hostname"], ports = %ready["ports"], "serving");
        stop.asked().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Checks a configuration file.
pub(super) fn check_config(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let config = Config::from_file(&args.file)?;
    config.check()?;
    config.check_secrets()?;
    outln!("{} is good", args.file.display());
    Ok(ExitCode::SUCCESS)
}

/// The signals that ask the process to stop.
pub(super) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Returns once one of them came.
    pub(super) async fn asked(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Runs a hub for as long as `while_up` takes, which is given what a client needs, then stops it in order.
/// `logs` is what is logged unless the environment says otherwise.
pub(super) fn run_hub(
    config: &Config,
    temporary: Option<tempfile::TempDir>,
    ready_file: Option<&Path>,
    logs: &str,
    while_up: impl AsyncFnOnce(&Value, Stop) -> anyhow::Result<ExitCode>,
) -> anyhow::Result<ExitCode> {
    start_logs(logs);
    no_core_dumps();
    keep_to_owner();
    let master_key = GivenKey::take(config.master_key.as_ref())?;
    as_many_files_as_allowed();
    let ready_file = ready_file.map(ReadyFile::claim).transpose()?;
    let lanes = if config.mqtt_lanes { LaneThreads::start()? } else { LaneThreads::none() };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop =
            Stop { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? };
        let app = App::start(config, master_key.as_ref(), temporary, lanes.lanes()).await?;
        for (door, address, error) in &app.not_served {
            warn_not_served(door.as_str(), *address, error);
        }
        let ready = describe(&app).await?;
        if let Some(file) = &ready_file {
            file.write(&ready)?;
        }
        notify_service_manager();
        let outcome = while_up(&ready, stop).await;
        app.stop().await;
        drop(ready_file);
        outcome
    })
}

/// What a client needs, as the ready file has it.
async fn describe(app: &App) -> anyhow::Result<Value> {
    let host = app.hub.settings.hosts.first().context("a hub has a name")?;
    let mut policies = Map::new();
    for view in app.hub.policies().await.context("the policies could not be read")? {
        let (name, key) = (view.policy.name.as_str(), view.keys[0].as_str());
        let text = format!("HostName={host};SharedAccessKeyName={name};SharedAccessKey={key}");
        policies.insert(name.to_owned(), Value::String(text));
    }
    let owner = PolicyName::parse("iothubowner")?;
    let owner_key = app.hub.policy_with_keys(&owner).await.ok().map(|view| view.keys[0].clone());
    let entity = &app.hub.settings.event_hub_name;
    let event_hubs = owner_key.map(|key| {
        let key = key.as_str();
        format!(
            "Endpoint=sb://{}/;SharedAccessKeyName=iothubowner;SharedAccessKey={key};EntityPath={entity}",
            in_url(host)
        )
    });
    Ok(json!({
        "pid": std::process::id(),
        "hostname": host,
        "hostnames": app.hub.settings.hosts,
        "ca_file": std::path::absolute(&app.authority_file)?,
        "ports": { "https": app.ports.https, "mqtt": app.ports.mqtt, "amqp": app.ports.amqp },
        "service_connection_string": policies.get("iothubowner"),
        "policies": policies,
        "eventhub_connection_string": event_hubs,
        "management_credential_file": std::path::absolute(&app.credential_file)?,
    }))
}

fn print_ready(ready: &Value, begun: Instant) {
    let text = |name: &str| ready[name].as_str().unwrap_or("(the policy iothubowner was deleted)").to_owned();
    let ca = text("ca_file");
    outln!(
        "Holdfast is ready after {} ms. FOR DEVELOPMENT ONLY: throw-away CA, keys on the screen.",
        begun.elapsed().as_millis()
    );
    outln!();
    outln!("Service    {}", text("service_connection_string"));
    outln!("Events     {}", text("eventhub_connection_string"));
    outln!("CA file    {ca}");
    outln!("Ports      {}", ready["ports"]);
    outln!();
    outln!("So that the SDKs trust this hub:");
    outln!("  export SSL_CERT_FILE={ca}          # Python device SDK, azure-iot-hub over AMQP, OpenSSL");
    outln!("  export REQUESTS_CA_BUNDLE={ca}     # azure-iot-hub over HTTPS");
    outln!("  export NODE_EXTRA_CA_CERTS={ca}    # Node");
    outln!("  connection_verify=\"{ca}\"           # Python azure-eventhub, an argument of its client");
    outln!();
    outln!("Next, in another terminal:");
    outln!("  export HOLDFAST_CONNECTION_STRING='{}'", text("service_connection_string"));
    outln!("  export HOLDFAST_CA_FILE={ca}");
    outln!("  export HOLDFAST_CREDENTIAL_FILE={}", text("management_credential_file"));
    outln!("  holdfast device create pump-1");
    outln!("  holdfast send pump-1 '{{\"temperature\":21.5}}'");
    outln!();
}

fn warn_not_served(door: &str, address: std::net::SocketAddr, error: &std::io::Error) {
    errln!("holdfast: {door} is not served: could not listen on {address}: {error}");
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            errln!("  Ports below 1024 need a right. One of these gives it:");
            errln!("    sudo setcap cap_net_bind_service=+ep \"$(command -v holdfast)\"");
            errln!("    sudo sysctl net.ipv4.ip_unprivileged_port_start=443");
            errln!("  or serve it elsewhere, for clients that can reach another port: --https-port 8443");
        }
        std::io::ErrorKind::AddrInUse => {
            errln!("  Another program listens there. Stop it, or give this hub an address of its own:");
            errln!("    --listen 127.0.0.2");
        }
        _ => {}
    }
}

/// Keys are in this process's memory: a crash must not write them to a disk.
fn no_core_dumps() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Core, none) {
        tracing::warn!(%error, "core dumps could not be turned off");
    }
    if let Err(error) = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
    {
        tracing::warn!(%error, "the process could not be made undumpable");
    }
}

/// Every connection is a file descriptor, and the soft limit is 1,024 on most machines.
fn as_many_files_as_allowed() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = rustix::process::setrlimit(rustix::process::Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit on open files could not be raised");
    }
}

/// Tells systemd that the service is ready, where it asked to be told.
fn notify_service_manager() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told =
        std::os::unix::net::UnixDatagram::unbound().and_then(|socket| socket.send_to(b"READY=1", path));
    if let Err(error) = told {
        tracing::warn!(%error, "the service manager could not be told that the hub is ready");
    }
}

/// What is logged, without a line that says nothing: clients that know the hub by its address put that into SNI, with each
/// connection, and rustls warns of it each time. Who asks for lines of rustls gets them.
fn quiet(wanted: &str) -> String {
    match wanted.contains("rustls") {
        true => wanted.to_owned(),
        false => format!("{wanted},rustls::msgs::handshake=error"),
    }
}

fn start_logs(default: &str) {
    let wanted = std::env::var("HOLDFAST_LOG").ok();
    let filter = wanted.and_then(|wanted| EnvFilter::try_new(quiet(&wanted)).ok());
    let filter = filter.unwrap_or_else(|| EnvFilter::new(quiet(default)));
    let is_json = std::env::var("HOLDFAST_LOG_FORMAT").is_ok_and(|format| format == "json");
    // No colours: the writer escapes every control character, whoever put it there.
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(move || LogWriter::new(is_json));
    let _ = match is_json {
        true => lines.json().flatten_event(true).try_init(),
        false => lines.try_init(),
    };
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Args;

    #[test]
    fn lines_about_addresses_in_sni_are_logged_to_those_who_ask_for_them() {
        assert_eq!(super::quiet("debug"), "debug,rustls::msgs::handshake=error");
        assert_eq!(super::quiet("info,rustls=warn"), "info,rustls=warn");
    }

    #[test]
    fn only_a_hub_for_development_can_be_unwatched() {
        assert!(Args::try_parse_from(["holdfast", "dev", "--unwatched"]).is_ok());
        for command in ["serve", "demo"] {
            assert!(Args::try_parse_from(["holdfast", command, "--unwatched"]).is_err(), "{command}");
        }
    }
}
