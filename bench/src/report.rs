//! Medians, ratios, and the table.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use serde_json::{Value, json};

use crate::compare::Round;
use crate::servers::Kind;

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Value,
    versions: Value,
    rows: Vec<Row>,
    targets: Vec<Target>,
    rounds: Vec<Round>,
}

/// One figure, the median for each server.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    unit: &'static str,
    values: Vec<(&'static str, Option<f64>)>,
}

/// A promise as a ratio.
#[derive(Debug, Serialize)]
struct Target {
    what: &'static str,
    target: String,
    measured: Option<f64>,
    met: Option<bool>,
}

type Figure = (&'static str, &'static str, fn(&Round) -> Option<f64>);

const FIGURES: &[Figure] = &[
    ("connects", "1/s", |r| Some(r.churn.connects_per_second)),
    ("server CPU per connect", "ms", |r| Some(r.churn.server_cpu_ms_per_connect)),
    ("RSS per idle device", "KiB", |r| Some(r.idle.kib_per_device)),
    ("QoS 1, window 1", "msg/s", |r| Some(r.window_1.messages_per_second)),
    ("  server CPU per message", "µs", |r| Some(r.window_1.server_cpu_us_per_message)),
    ("  acknowledged after, p50", "ms", |r| Some(r.window_1.acknowledged_p50_ms)),
    ("  acknowledged after, p99", "ms", |r| Some(r.window_1.acknowledged_p99_ms)),
    ("QoS 1, window 10", "msg/s", |r| Some(r.window_10.messages_per_second)),
    ("  server CPU per message", "µs", |r| Some(r.window_10.server_cpu_us_per_message)),
    ("2,000 msg/s: acknowledged after, p50", "ms", |r| Some(r.paced.acknowledged_p50_ms)),
    ("  p99", "ms", |r| Some(r.paced.acknowledged_p99_ms)),
    ("  server CPU per message", "µs", |r| Some(r.paced.server_cpu_us_per_message)),
    ("events read over AMQP", "1/s", |r| Some(r.read.as_ref()?.events_per_second)),
    ("  server CPU per event", "µs", |r| Some(r.read.as_ref()?.server_cpu_us_per_event)),
    ("events read by azure-eventhub (Python)", "1/s", |r| Some(r.read_by_python.as_ref()?.events_per_second)),
    ("  server CPU per event", "µs", |r| Some(r.read_by_python.as_ref()?.server_cpu_us_per_event)),
];

impl Report {
    /// The report of these rounds.
    pub(crate) fn new(kinds: &[Kind], rounds: Vec<Round>, below: &Path) -> Self {
        let names: Vec<&'static str> = kinds.iter().map(Kind::name).collect();
        let rows = FIGURES
            .iter()
            .map(|(what, unit, figure)| {
                let values = names.iter().map(|name| (*name, median(&rounds, name, *figure))).collect();
                Row { what, unit, values }
            })
            .filter(|row: &Row| row.values.iter().any(|(_, value)| value.is_some()))
            .collect();
        let versions = kinds.iter().map(|kind| (kind.name().to_owned(), json!(kind.version()))).collect();
        let targets = targets(&rounds);
        Self { machine: machine(below), versions: Value::Object(versions), rows, targets, rounds }
    }

    /// Prints the report for people.
    pub(crate) fn print(&self) {
        println!("{}", self.machine.as_object().map(lines).unwrap_or_default());
        println!("{}", self.versions.as_object().map(lines).unwrap_or_default());
        let names =
            self.rows.first().map(|row| row.values.iter().map(|(name, _)| *name)).into_iter().flatten();
        println!("{:<40} {:<6}{}", "", "", names.map(|name| format!("{name:>20}")).collect::<String>());
        for row in &self.rows {
            let values: String =
                row.values.iter().map(|(_, value)| format!("{:>20}", number(*value))).collect();
            println!("{:<40} {:<6}{values}", row.what, row.unit);
        }
        println!();
        println!("{:<62} {:>10} {:>10}", "RATIO", "TARGET", "MEASURED");
        for Target { what, target, measured, met } in &self.targets {
            let verdict = met.map_or("not measured", |met| if met { "met" } else { "MISSED" });
            println!("{what:<62} {target:>10} {:>10}  {verdict}", number(*measured));
        }
    }
}

fn targets(rounds: &[Round]) -> Vec<Target> {
    let of = |name: &str, figure: fn(&Round) -> Option<f64>| median(rounds, name, figure);
    let ratio = |peer: &str, figure: fn(&Round) -> Option<f64>| {
        Some(of("holdfast", figure)? / of(peer, figure).filter(|value| *value > 0.0)?)
    };
    let at_most = |what, limit: f64, measured: Option<f64>| Target {
        what,
        target: format!("≤ {limit}"),
        measured,
        met: measured.map(|measured| measured <= limit),
    };
    let at_least = |what, limit: f64, measured: Option<f64>| Target {
        what,
        target: format!("≥ {limit}"),
        measured,
        met: measured.map(|measured| measured >= limit),
    };
    let nats = "nats, sync always";
    vec![
        at_most(
            "server CPU per connect, to mosquitto",
            0.6,
            ratio("mosquitto", |r| Some(r.churn.server_cpu_ms_per_connect)),
        ),
        at_most(
            "RSS per idle device, to mosquitto",
            1.1,
            ratio("mosquitto", |r| Some(r.idle.kib_per_device)),
        ),
        at_least(
            "durable QoS 1, window 1, msg/s, to NATS with sync always",
            8.0,
            ratio(nats, |r| Some(r.window_1.messages_per_second)),
        ),
        at_most(
            "server CPU per message, window 1, to mosquitto (in memory)",
            1.7,
            ratio("mosquitto", |r| Some(r.window_1.server_cpu_us_per_message)),
        ),
        at_least(
            "QoS 1, window 10, msg/s, to mosquitto (in memory)",
            2.0,
            ratio("mosquitto", |r| Some(r.window_10.messages_per_second)),
        ),
        at_most(
            "server CPU-µs per event read over AMQP",
            5.0,
            of("holdfast", |r| Some(r.read.as_ref()?.server_cpu_us_per_event)),
        ),
        at_most("ack p50 in ms at 2,000 msg/s", 2.0, of("holdfast", |r| Some(r.paced.acknowledged_p50_ms))),
        at_most("ack p99 in ms at 2,000 msg/s", 8.0, of("holdfast", |r| Some(r.paced.acknowledged_p99_ms))),
    ]
}

fn median(rounds: &[Round], name: &str, figure: fn(&Round) -> Option<f64>) -> Option<f64> {
    let mut values: Vec<f64> =
        rounds.iter().filter(|round| round.server == name).filter_map(figure).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[count / 2]),
        count => Some((values[count / 2 - 1] + values[count / 2]) / 2.0),
    }
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 1_000.0 => format!("{value:.0}"),
        Some(value) if value >= 100.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

fn lines(object: &serde_json::Map<String, Value>) -> String {
    let line = |(name, value): (&String, &Value)| {
        format!("{name:<18} {}\n", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    object.iter().map(line).collect()
}

/// How long the disk takes to keep 4 KiB more of a file: the median and the 99th percentile in milliseconds. A server that
/// syncs each message by itself gets no further than one message in that time.
fn sync_milliseconds(below: &Path) -> io::Result<(f64, f64)> {
    let mut file = tempfile::tempfile_in(below)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[1; 4_096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[SYNCS / 2], times[SYNCS * 99 / 100]))
}

const SYNCS: usize = 2_000;

/// What the numbers were taken on.
fn machine(below: &Path) -> Value {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let sync = sync_milliseconds(below).map(|(p50, p99)| format!("p50 {p50:.3} ms, p99 {p99:.3} ms"));
    json!({
        "fdatasync": sync.unwrap_or_else(|error| error.to_string()),
        "processor": after(&read("/proc/cpuinfo"), "model name"),
        "processors": std::thread::available_parallelism().map_or(0, usize::from),
        "memory": after(&read("/proc/meminfo"), "MemTotal"),
        "kernel": read("/proc/sys/kernel/osrelease").trim(),
        "load": read("/proc/loadavg").trim(),
    })
}
