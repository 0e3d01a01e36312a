//! `holdfast events`.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use sim::{Event, EventReader, ReaderOptions, SasKey, Start, TlsVersions, Trust};

use super::Common;
use super::output::{Format, list};
use super::target::{Request, Target, encoded, in_url};
use super::terminal::{errln, outln};

/// Events that may be under way per partition.
const CREDIT: u32 = 300;

/// The commands about the event stream.
#[derive(Subcommand)]
pub(crate) enum EventsCommand {
    /// Print events as they come.
    #[command(after_help = "Examples:
  holdfast events watch
  holdfast events watch --device pump-1 --earliest
  holdfast events watch -o jsonl --count 100")]
    Watch {
        /// Only events of this device and its modules.
        #[arg(long, value_name = "ID")]
        device: Option<String>,
        /// Begin with the first event that is kept, instead of the next one.
        #[arg(long)]
        earliest: bool,
        /// End after so many events.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// The consumer group to read in.
        #[arg(long, value_name = "NAME", default_value = "$Default")]
        consumer_group: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print the connection string that Event Hubs SDKs read with.
    ConnectionString {
        #[command(flatten)]
        common: Common,
    },
    /// Create, list and delete consumer groups.
    #[command(subcommand)]
    ConsumerGroup(ConsumerGroupCommand),
}

/// The commands about consumer groups.
#[derive(Subcommand)]
pub(crate) enum ConsumerGroupCommand {
    /// Create a consumer group.
    Create {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List the consumer groups, with what became of all events for each: STORED is the sum of the others.
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Delete a consumer group.
    Delete {
        /// Its name.
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

const GROUP_COLUMNS: &[(&str, &str)] = &[
    ("CONSUMER GROUP", "/name"),
    ("STORED", "/stored"),
    ("DELIVERED", "/delivered"),
    ("WAITING", "/waiting"),
    ("EXPIRED", "/expired"),
    ("PASSED OVER", "/passedOver"),
];

/// Runs a command about the event stream.
pub(super) fn run(command: EventsCommand) -> anyhow::Result<ExitCode> {
    match command {
        EventsCommand::Watch { device, earliest, count, consumer_group, common } => {
            let target = common.target.open()?;
            let start = if earliest { Start::Earliest } else { Start::Latest };
            let options = options(&target, consumer_group, start)?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(watch(&options, device.as_deref(), count, common.output))?;
        }
        EventsCommand::ConnectionString { common } => {
            let target = common.target.open()?;
            let (policy, key) = target.policy()?;
            let (host, entity) = (in_url(&target.host), event_hub(&target)?);
            outln!(
                "Endpoint=sb://{host}/;SharedAccessKeyName={policy};SharedAccessKey={key};EntityPath={entity}"
            );
        }
        EventsCommand::ConsumerGroup(command) => consumer_group(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn consumer_group(command: ConsumerGroupCommand) -> anyhow::Result<()> {
    let path = |name: &str| format!("/holdfast/v1/consumer-groups/{}", encoded(name));
    match command {
        ConsumerGroupCommand::Create { name, common } => {
            common.target.open()?.management(Request::new("PUT", path(&name)))?;
        }
        ConsumerGroupCommand::List { common } => {
            let groups = common.target.open()?.management(Request::new("GET", "/holdfast/v1/stream"))?;
            list(common.output, groups.as_array().map_or(&[][..], Vec::as_slice), GROUP_COLUMNS);
        }
        ConsumerGroupCommand::Delete { name, common } => {
            common.target.open()?.management(Request::new("DELETE", path(&name)))?;
        }
    }
    Ok(())
}

/// How to read the hub's events with the policy of the target.
pub(super) fn options(
    target: &Target,
    consumer_group: String,
    start: Start,
) -> anyhow::Result<ReaderOptions> {
    let (policy, key) = target.policy()?;
    let port = target.amqp_port;
    let address: SocketAddr = (target.host.as_str(), port)
        .to_socket_addrs()
        .with_context(|| format!("the host {} has no address", target.host))?
        .next()
        .with_context(|| format!("the host {} has no address", target.host))?;
    let ca = std::fs::read_to_string(&target.ca_file)
        .with_context(|| format!("could not read the CA file {}", target.ca_file.display()))?;
    Ok(ReaderOptions {
        address,
        server_name: target.host.clone(),
        host: target.host.clone(),
        event_hub: event_hub(target)?,
        key: SasKey::of_event_hubs(policy, key),
        trust: Trust::in_pem(&ca, TlsVersions::Both)?,
        consumer_group,
        start,
        credit: CREDIT,
    })
}

/// The Event Hubs-compatible name: the hub's own API says it.
fn event_hub(target: &Target) -> anyhow::Result<String> {
    let hub = target.management(Request::new("GET", "/holdfast/v1/hub"))?;
    match hub["eventHubName"].as_str() {
        Some(name) => Ok(name.to_owned()),
        None => bail!("the hub does not say the name of its event hub"),
    }
}

async fn watch(
    options: &ReaderOptions,
    device: Option<&str>,
    count: Option<u64>,
    format: Format,
) -> anyhow::Result<()> {
    let mut reader = EventReader::connect(options).await.context("the events could not be read")?;
    if format == Format::Table {
        errln!("Reading {} partitions. Ctrl-C ends.", reader.partitions().count());
    }
    let mut left = count.unwrap_or(u64::MAX);
    while left > 0 {
        let event = tokio::select! {
            event = reader.next() => event.context("the events could not be read")?,
            _ = tokio::signal::ctrl_c() => break,
        };
        if device.is_none_or(|wanted| event.device == wanted) {
            print(&event, format);
            left -= 1;
        }
    }
    reader.close().await;
    Ok(())
}

fn print(event: &Event, format: Format) {
    let body = String::from_utf8_lossy(&event.body);
    let properties: serde_json::Map<String, Value> =
        event.properties.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
    match format {
        Format::Table => {
            let properties = match properties.is_empty() {
                true => String::new(),
                false => format!("  {}", Value::Object(properties)),
            };
            outln!("{}/{}  {}  {body}{properties}", event.partition, event.sequence, event.device);
        }
        Format::Json | Format::Jsonl => outln!(
            "{}",
            json!({
                "partition": &*event.partition,
                "sequence": event.sequence,
                "device": event.device,
                "properties": properties,
                "body": body,
            })
        ),
    }
}
