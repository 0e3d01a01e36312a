//! `holdfast trace`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::Common;
use super::output::Format;
use super::target::{Request, Target, encoded};
use crate::cli::terminal::{self, errln, outln};

/// How long a search goes on without a word.
const QUIET: Duration = Duration::from_secs(2);

/// Follow one message by its id: received, durable, handed to readers or receivers, settled, expired, and by whom.
///
/// Telemetry is found as long as the stream keeps it, a device-bound message while it waits and among the last 20 with an id
/// that left its queue. Exit code 1 when there is no such message.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast trace order-17
  holdfast trace order-17 --device pump-1      only what this device sent or is sent, which is faster
  holdfast trace order-17 -o json")]
pub(crate) struct TraceArgs {
    /// The message id that its sender gave it.
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    message_id: String,
    /// Only what this device and its modules sent or are sent.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Searches the stream and the queues, and prints what was found.
pub(super) fn run(args: TraceArgs) -> anyhow::Result<ExitCode> {
    let target = args.common.target.open()?;
    let search = Search { target: &target, id: &args.message_id, device: args.device.as_deref() };
    let (events, messages) = (search.events()?, search.messages()?);
    let none = events.is_empty() && messages.is_empty();
    match args.common.output {
        Format::Json => terminal::document(&json!({ "events": events, "messages": messages })),
        Format::Jsonl => events.iter().chain(&messages).for_each(terminal::document_line),
        Format::Table if none => outln!(
            "No message `{}` is in the stream, waits in a queue, or is among the last that left one.",
            args.message_id
        ),
        Format::Table => {
            events.iter().for_each(print_event);
            messages.iter().for_each(print_message);
        }
    }
    Ok(if none { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Search<'a> {
    target: &'a Target,
    id: &'a str,
    device: Option<&'a str>,
}

impl Search<'_> {
    fn step(&self, what: &str, parameters: &str) -> anyhow::Result<Value> {
        let device = self.device.map(|device| format!("&device={}", encoded(device))).unwrap_or_default();
        let path = format!("/holdfast/v1/trace/{what}/{}?{parameters}{device}", encoded(self.id));
        self.target.management(Request::new("GET", path))
    }

    /// Every event of this id in the stream, partition after partition.
    fn events(&self) -> anyhow::Result<Vec<Value>> {
        let hub = self.target.management(Request::new("GET", "/holdfast/v1/hub"))?;
        let partitions =
            hub["partitions"].as_u64().context("the hub does not say how many partitions it has")?;
        let (mut found, mut progress) = (Vec::new(), Progress::begin());
        for partition in 0..partitions {
            let mut next = Some(0);
            while let Some(from) = next {
                let mut step = self.step("events", &format!("partition={partition}&from={from}"))?;
                next = step["next"].as_u64();
                if let Value::Array(events) = step["found"].take() {
                    found.extend(events);
                }
                let (first, end) = (step["first"].as_u64(), step["end"].as_u64());
                progress.tell(|| {
                    let searched = next.or(end).unwrap_or_default() - first.unwrap_or_default();
                    format!("partition {partition} of {partitions}: {searched} events searched")
                });
            }
        }
        Ok(found)
    }

    /// Every device-bound message of this id.
    fn messages(&self) -> anyhow::Result<Vec<Value>> {
        let (mut found, mut progress) = (Vec::new(), Progress::begin());
        let mut after = Some(String::new());
        while let Some(parameters) = after {
            let mut step = self.step("messages", &parameters)?;
            if let Value::Array(messages) = step["found"].take() {
                found.extend(messages);
            }
            after = step["next"]["device"].as_str().map(|device| {
                let module = step["next"]["module"].as_str();
                let module = module.map(|module| format!("&afterModule={}", encoded(module)));
                format!("afterDevice={}{}", encoded(device), module.unwrap_or_default())
            });
            progress.tell(|| "queues of device-bound messages are searched".to_owned());
        }
        Ok(found)
    }
}

/// Tells a person that a search goes on.
struct Progress {
    told: Instant,
    is_person: bool,
}

impl Progress {
    fn begin() -> Self {
        Self { told: Instant::now(), is_person: terminal::is_error_terminal() }
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.is_person && self.told.elapsed() >= QUIET {
            self.told = Instant::now();
            errln!("{}", what());
        }
    }
}

fn print_event(event: &Value) {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let sender = identity(&event["identity"]);
    outln!("{} of {sender}", if text("source") == "Telemetry" { "Telemetry" } else { "An event" });
    outln!("  received   {}{}", time(&event["received"]), authenticated(text("authMethod")));
    outln!(
        "  durable    partition {}, sequence number {}, offset {}",
        event["partition"],
        event["sequence"],
        event["offset"]
    );
    for (group, read) in event["readers"].as_object().into_iter().flatten() {
        let last =
            read["last"].as_str().map(|last| format!("; its readers were handed something last {last}"));
        let state = match read["state"].as_str().unwrap_or_default() {
            "delivered" => "handed to a reader".to_owned(),
            "beforeItsReaders" => "its readers began behind it".to_owned(),
            _ => format!("waits, {} events before it", read["ahead"]),
        };
        outln!("  {:<9}  {state}{}", group, last.unwrap_or_default());
    }
    outln!();
}

/// The credential of a device, from the JSON that readers are told.
fn authenticated(method: &str) -> String {
    let method: Value = serde_json::from_str(method).unwrap_or_default();
    match (method["type"].as_str(), method["scope"].as_str()) {
        (Some("sas"), Some(scope)) => format!(", with a SAS token of the {}", scope),
        (Some("x509"), Some(scope)) => format!(", with a certificate of the {}", scope),
        (Some(kind), Some(scope)) => format!(", with {} of the {}", kind, scope),
        _ => String::new(),
    }
}

fn print_message(message: &Value) {
    let text = |name: &str| message[name].as_str().unwrap_or_default();
    outln!("Device-bound message {} for {}", message["sequence"], identity(&message["identity"]));
    let sender = text("sender");
    let sender = if sender.is_empty() { String::new() } else { format!(", from {sender}") };
    outln!("  received   {}{sender}, durable then", time(&message["received"]));
    match message["deliveries"].as_u64().unwrap_or_default() {
        0 => outln!("  delivered  not yet"),
        1 => outln!("  delivered  {}", time(&message["delivered"])),
        times => outln!("  delivered  {times} times, last {}", time(&message["delivered"])),
    }
    let by = match message["by"].as_str() {
        _ if text("reason") == "tooLarge" => {
            " by the hub: with its properties it is larger than its client can be sent"
        }
        Some("connection") => " by its connection",
        Some(_) => " by a request over HTTPS",
        None => "",
    };
    match text("state") {
        "waiting" => outln!("  waits      until {}", time(&message["at"])),
        "locked" => outln!("  locked     until {}{by}", time(&message["at"])),
        "deliveryCountExceeded" => {
            outln!("  gone       {}, after too many deliveries", time(&message["at"]))
        }
        state => outln!("  {state:<9}  {}{by}", time(&message["at"])),
    }
    outln!();
}

/// A time to the millisecond, which is enough for people; the whole of it is in the JSON.
fn time(time: &Value) -> String {
    let text = time.as_str().unwrap_or_default();
    match text.trim_end_matches('Z').split_once('.') {
        Some((seconds, fraction)) => format!("{seconds}.{}Z", fraction.get(..3).unwrap_or(fraction)),
        None => text.to_owned(),
    }
}

fn identity(identity: &Value) -> String {
    let device = identity["device"].as_str().unwrap_or_default();
    match identity["module"].as_str() {
        Some(module) => format!("{device}/{module}"),
        None => device.to_owned(),
    }
}
