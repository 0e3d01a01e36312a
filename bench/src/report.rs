//! Medians, ratios, and the table.

use serde::Serialize;

use crate::compare::{CONVERSING, CompareOptions, Round};
use crate::machine::Machine;
use crate::servers::{HOLDFAST, MOSQUITTO, NATS, UNWATCHED};

/// Everything that was measured, and what follows from it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// The servers that took part and what their programs say of their versions.
    pub(crate) servers: Vec<(&'static str, String)>,
    /// The clients that read events.
    pub(crate) readers: Vec<String>,
    pub(crate) seconds: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) targets: Vec<Target>,
    pub(crate) rounds: Vec<Round>,
}

/// One figure of each server.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) values: Vec<Values>,
}

/// A figure in each round.
#[derive(Debug, Serialize)]
pub(crate) struct Values {
    pub(crate) server: &'static str,
    pub(crate) median: Option<f64>,
    pub(crate) rounds: Vec<f64>,
}

/// A promise. Ratios are taken within each round, in which the servers ran one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct Target {
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) limit: f64,
    pub(crate) at_most: bool,
    pub(crate) measured: Option<f64>,
    pub(crate) rounds: Vec<f64>,
    pub(crate) met: Option<bool>,
}

type Figure = fn(&Round) -> Option<f64>;

const FIGURES: &[(&str, &str, Figure)] = &[
    ("connects per second, storm", "1/s", storm_rate),
    ("storm: a line of memory to the other processor and back", "ns", |r| r.storm.as_ref().and(r.apart_ns)),
    ("server CPU per connect, storm", "ms", storm_cpu),
    ("storm by turns with the other: server CPU per connect, and a look at the fleet", "ms", guarded_connect),
    ("connects and disconnects per second, 32 at a time", "1/s", |r| {
        Some(r.churn.as_ref()?.connects_per_second)
    }),
    ("server CPU per connect and disconnect", "ms", |r| Some(r.churn.as_ref()?.server_cpu_ms_per_connect)),
    ("RSS per idle device, 5,000 devices", "KiB", |r| idle_kib(r, 5_000)),
    ("RSS per idle device, 15,000 devices", "KiB", |r| idle_kib(r, 15_000)),
    ("RSS per idle AMQP reader", "KiB", amqp_kib),
    ("RSS per conversing device, 5,000 devices", "KiB", conversation_kib),
    ("the same, after the calls and changes below", "KiB", |r| {
        Some(r.conversation.as_ref()?.kib_per_device_in_the_end)
    }),
    ("200 calls of methods a second: answered, p50", "ms", |r| Some(r.conversation.as_ref()?.called.p50_ms)),
    ("200 calls of methods a second: answered, p99", "ms", |r| Some(r.conversation.as_ref()?.called.p99_ms)),
    ("500 desired updates a second: durable, p50", "ms", |r| Some(r.conversation.as_ref()?.changed.p50_ms)),
    ("500 desired updates a second: durable, p99", "ms", |r| Some(r.conversation.as_ref()?.changed.p99_ms)),
    ("500 desired updates a second: at the device, p50", "ms", |r| {
        Some(r.conversation.as_ref()?.delivered.p50_ms)
    }),
    ("500 desired updates a second: at the device, p99", "ms", |r| {
        Some(r.conversation.as_ref()?.delivered.p99_ms)
    }),
    ("calls and desired updates: server CPU each", "µs", operation_cpu),
    ("durable updates of reported properties", "1/s", reports_rate),
    ("durable updates of reported properties: answered, p50", "ms", |r| {
        Some(r.reports.as_ref()?.answered.p50_ms)
    }),
    ("durable updates of reported properties: answered, p99", "ms", |r| {
        Some(r.reports.as_ref()?.answered.p99_ms)
    }),
    ("durable updates of reported properties: server CPU", "µs", |r| {
        Some(r.reports.as_ref()?.server_cpu_us_per_update)
    }),
    ("QoS 1, window 1", "msg/s", |r| Some(r.window_1.as_ref()?.messages_per_second)),
    ("QoS 1, window 1: a line of memory to the other processor and back", "ns", |r| {
        r.window_1.as_ref().and(r.apart_ns)
    }),
    ("QoS 1, window 1: server CPU per message", "µs", window_1_cpu),
    ("QoS 1, window 1 on both at once: server CPU per message", "µs", guarded_message),
    ("QoS 1, window 1: acknowledged, p50", "ms", |r| Some(r.window_1.as_ref()?.acknowledged.p50_ms)),
    ("QoS 1, window 1: acknowledged, p99", "ms", |r| Some(r.window_1.as_ref()?.acknowledged.p99_ms)),
    ("QoS 1, window 1, packets at any processor", "msg/s", |r| {
        Some(r.window_1_free.as_ref()?.messages_per_second)
    }),
    ("QoS 1, window 1, packets at any processor: server CPU per message", "µs", free_cpu),
    ("QoS 1, window 1, packets at any processor: acknowledged, p99", "ms", |r| {
        Some(r.window_1_free.as_ref()?.acknowledged.p99_ms)
    }),
    ("QoS 1, window 10", "msg/s", |r| Some(r.window_10.as_ref()?.messages_per_second)),
    ("QoS 1, window 10: server CPU per message", "µs", |r| {
        Some(r.window_10.as_ref()?.server_cpu_us_per_message)
    }),
    ("2,000 msg/s: acknowledged, p50", "ms", |r| Some(r.paced.as_ref()?.acknowledged.p50_ms)),
    ("2,000 msg/s: acknowledged, p99", "ms", paced_p99),
    ("2,000 msg/s: server CPU per message", "µs", paced_cpu),
    ("2,000 msg/s before a flood: acknowledged, p50", "ms", |r| {
        Some(r.flood.as_ref()?.before.acknowledged.p50_ms)
    }),
    ("2,000 msg/s before a flood: acknowledged, p99", "ms", |r| {
        Some(r.flood.as_ref()?.before.acknowledged.p99_ms)
    }),
    ("2,000 msg/s beside a flood: acknowledged, p50", "ms", |r| {
        Some(r.flood.as_ref()?.during.acknowledged.p50_ms)
    }),
    ("2,000 msg/s beside a flood: acknowledged, p99", "ms", |r| {
        Some(r.flood.as_ref()?.during.acknowledged.p99_ms)
    }),
    ("bad tokens in a flood", "1/s", |r| Some(r.flood.as_ref()?.attempts_per_second)),
    ("server CPU per bad token", "ms", bad_token_cpu),
    ("2,000 msg/s, own reader: events read", "1/s", |r| Some(r.through.as_ref()?.events_per_second)),
    ("2,000 msg/s, own reader: device to reader, p50", "ms", |r| Some(r.through.as_ref()?.latency.p50_ms)),
    ("2,000 msg/s, own reader: device to reader, p99", "ms", |r| Some(r.through.as_ref()?.latency.p99_ms)),
    ("2,000 msg/s, own reader: server CPU, in and out", "µs", |r| {
        Some(r.through.as_ref()?.server_cpu_us_per_message)
    }),
    ("2,000 msg/s, azure-eventhub: events read", "1/s", |r| {
        Some(r.through_by_python.as_ref()?.events_per_second)
    }),
    ("2,000 msg/s, azure-eventhub: device to reader, p50", "ms", |r| {
        Some(r.through_by_python.as_ref()?.latency.p50_ms)
    }),
    ("2,000 msg/s, azure-eventhub: device to reader, p99", "ms", |r| {
        Some(r.through_by_python.as_ref()?.latency.p99_ms)
    }),
    ("2,000 msg/s, azure-eventhub: server CPU, in and out", "µs", |r| {
        Some(r.through_by_python.as_ref()?.server_cpu_us_per_message)
    }),
    ("full rate, own reader: events read", "1/s", |r| Some(r.read.as_ref()?.events_per_second)),
    ("full rate, own reader: server CPU per event", "µs", read_cpu),
    ("full rate, azure-eventhub: events read", "1/s", |r| Some(r.read_by_python.as_ref()?.events_per_second)),
    ("full rate, azure-eventhub: server CPU per event", "µs", |r| {
        Some(r.read_by_python.as_ref()?.server_cpu_us_per_event)
    }),
];

fn storm_rate(round: &Round) -> Option<f64> {
    Some(round.storm.as_ref()?.connects_per_second)
}

fn storm_cpu(round: &Round) -> Option<f64> {
    Some(round.storm.as_ref()?.server_cpu_ms_per_connect)
}

fn guarded_connect(round: &Round) -> Option<f64> {
    round.storm_on_both.as_ref()?.server_cpu_ms_per_connect_with_look
}

fn guarded_message(round: &Round) -> Option<f64> {
    Some(round.window_1_on_both.as_ref()?.server_cpu_us_per_message)
}

fn window_1_cpu(round: &Round) -> Option<f64> {
    Some(round.window_1.as_ref()?.server_cpu_us_per_message)
}

fn free_cpu(round: &Round) -> Option<f64> {
    Some(round.window_1_free.as_ref()?.server_cpu_us_per_message)
}

fn paced_cpu(round: &Round) -> Option<f64> {
    Some(round.paced.as_ref()?.server_cpu_us_per_message)
}

fn operation_cpu(round: &Round) -> Option<f64> {
    Some(round.conversation.as_ref()?.server_cpu_us_per_operation)
}

fn bad_token_cpu(round: &Round) -> Option<f64> {
    Some(round.flood.as_ref()?.server_cpu_ms_per_attempt)
}

fn paced_p99(round: &Round) -> Option<f64> {
    Some(round.paced.as_ref()?.acknowledged.p99_ms)
}

fn flood_p99(round: &Round) -> Option<f64> {
    Some(round.flood.as_ref()?.p99_ratio)
}

fn read_cpu(round: &Round) -> Option<f64> {
    Some(round.read.as_ref()?.server_cpu_us_per_event)
}

fn idle_kib(round: &Round, devices: usize) -> Option<f64> {
    round.idle.iter().find(|idle| idle.devices == devices).map(|idle| idle.kib_per_device)
}

fn amqp_kib(round: &Round) -> Option<f64> {
    Some(round.amqp_idle.as_ref()?.kib_per_connection)
}

fn conversation_kib(round: &Round) -> Option<f64> {
    Some(round.conversation.as_ref()?.kib_per_device)
}

/// What a device takes that has the whole conversation; of a peer, which has none, what a silent one takes.
fn connected_kib(round: &Round) -> Option<f64> {
    conversation_kib(round).or_else(|| idle_kib(round, CONVERSING))
}

fn reports_rate(round: &Round) -> Option<f64> {
    Some(round.reports.as_ref()?.updates_per_second)
}

impl Report {
    /// The report of these rounds.
    pub(crate) fn new(options: &CompareOptions, machine: Machine, rounds: Vec<Round>) -> Self {
        let servers: Vec<_> = options.kinds().iter().map(|kind| (kind.name(), kind.version())).collect();
        let row = |(what, unit, figure): &(&'static str, &'static str, Figure)| {
            let values = servers.iter().map(|(server, _)| {
                let rounds = each(&rounds, server, *figure);
                Values { server, median: median(&rounds), rounds }
            });
            Row { what, unit, values: values.collect() }
        };
        let measured = |row: &Row| row.values.iter().any(|values| values.median.is_some());
        let rows = FIGURES.iter().map(row).filter(measured).collect();
        let mut readers: Vec<String> = rounds.iter().flat_map(readers).collect();
        readers.sort();
        readers.dedup();
        let targets = targets(&rounds);
        Self { machine, servers, readers, seconds: options.seconds, rows, targets, rounds }
    }

    /// Prints the report for people.
    pub(crate) fn print(&self) {
        println!("{}\n", self.machine.describe());
        for (server, version) in &self.servers {
            println!("{server:<22} {version}");
        }
        self.readers.iter().for_each(|reader| println!("{:<22} {reader}", "reader"));
        let names = self.servers.iter().map(|(server, _)| format!("{server:>20}")).collect::<String>();
        println!("\n{:<54} {:<6}{names}", "", "");
        for row in &self.rows {
            let values: String = row.values.iter().map(|v| format!("{:>20}", number(v.median))).collect();
            println!("{:<54} {:<6}{values}", row.what, row.unit);
        }
        println!("\n{:<66} {:>10} {:>10}", "TARGET", "", "MEASURED");
        for target in &self.targets {
            let (limit, measured) = (target.limit(), number(target.measured));
            println!("{:<66} {limit:>10} {measured:>10}  {}", target.what, target.verdict());
        }
        if !self.machine.is_quiet() {
            println!(
                "\nThe machine did other work: rates and latencies say little, ratios and CPU per operation more."
            );
        }
    }
}

impl Target {
    /// What was promised.
    pub(crate) fn limit(&self) -> String {
        format!("{} {} {}", if self.at_most { "≤" } else { "≥" }, self.limit, self.unit).trim_end().to_owned()
    }

    /// Whether it was kept.
    pub(crate) fn verdict(&self) -> &'static str {
        self.met.map_or("not measured", |met| if met { "met" } else { "MISSED" })
    }

    /// How much better than promised; below 1 it is worse.
    pub(crate) fn margin(&self) -> Option<f64> {
        let measured = self.measured?;
        // A share within the noise may come out at or below nothing.
        let better =
            if self.at_most { self.limit / measured.max(self.limit / 100.0) } else { measured / self.limit };
        Some(better)
    }
}

fn readers(round: &Round) -> Vec<String> {
    let reads = [&round.read, &round.read_by_python].into_iter().flatten().map(|read| &read.client);
    let through = [&round.through, &round.through_by_python].into_iter().flatten().map(|read| &read.client);
    reads.chain(through).cloned().collect()
}

fn targets(rounds: &[Round]) -> Vec<Target> {
    let to = |peer: &str, figure: Figure| paired(rounds, peer, figure, |ours, theirs| ours / theirs);
    let share = |figure: Figure| {
        paired(rounds, UNWATCHED, figure, |watched, unwatched| (1.0 - unwatched / watched) * 100.0)
    };
    let ours = |figure: Figure| each(rounds, HOLDFAST, figure);
    let target = |at_most, what, limit: f64, unit, rounds: Vec<f64>| {
        let measured = median(&rounds);
        let met = measured.map(|measured| if at_most { measured <= limit } else { measured >= limit });
        Target { what, unit, limit, at_most, measured, rounds, met }
    };
    let at_most = |what, limit, unit, rounds| target(true, what, limit, unit, rounds);
    let at_least = |what, limit, unit, rounds| target(false, what, limit, unit, rounds);
    let window_10: Figure = |r| Some(r.window_10.as_ref()?.messages_per_second);
    let window_1: Figure = |r| Some(r.window_1.as_ref()?.messages_per_second);
    let idle_5000: Figure = |r| idle_kib(r, 5_000);
    let idle_15000: Figure = |r| idle_kib(r, 15_000);
    vec![
        at_least("connects per second in a storm, to mosquitto", 4.0, "×", to(MOSQUITTO, storm_rate)),
        at_most("server CPU per connect in a storm, to mosquitto", 0.5, "×", to(MOSQUITTO, storm_cpu)),
        at_most("RSS per idle device of 5,000, to mosquitto", 1.0, "×", to(MOSQUITTO, idle_5000)),
        at_most("RSS per idle device of 15,000, to mosquitto", 1.0, "×", to(MOSQUITTO, idle_15000)),
        at_most(
            "RSS per conversing device, to a silent one of mosquitto",
            1.15,
            "×",
            to(MOSQUITTO, connected_kib),
        ),
        at_least("durable QoS 1, window 1, to NATS that syncs", 10.0, "×", to(NATS, window_1)),
        at_most(
            "CPU per durable message, window 1, to mosquitto in memory",
            1.0,
            "×",
            to(MOSQUITTO, window_1_cpu),
        ),
        at_most("the same, packets at any processor", 1.0, "×", to(MOSQUITTO, free_cpu)),
        at_least("durable QoS 1, window 10, to mosquitto in memory", 3.0, "×", to(MOSQUITTO, window_10)),
        at_least("durable updates of reported properties", 5_000.0, "/s", ours(reports_rate)),
        at_most("acknowledged at 2,000 msg/s, p99", 6.0, "ms", ours(paced_p99)),
        at_most("server CPU per message at 2,000 msg/s", 40.0, "µs", ours(paced_cpu)),
        at_most("p99 beside 1,000 bad tokens/s, to that before", 2.0, "×", ours(flood_p99)),
        at_most("server CPU per bad token", 0.17, "ms", ours(bad_token_cpu)),
        at_most("server CPU per method call or desired update", 120.0, "µs", ours(operation_cpu)),
        at_most("server CPU per event read over AMQP", 4.0, "µs", ours(read_cpu)),
        at_most("RSS per idle AMQP reader", 14.0, "KiB", ours(amqp_kib)),
        at_most("the guard's share of CPU per connect, a look included", 10.0, "%", share(guarded_connect)),
        at_most("the guard's share of CPU per message", 10.0, "%", share(guarded_message)),
    ]
}

/// The figure of a server in each round that has it.
fn each(rounds: &[Round], server: &str, figure: Figure) -> Vec<f64> {
    rounds.iter().filter(|round| round.server == server).filter_map(figure).collect()
}

/// Our figure and another server's of each round that has both, made into one.
fn paired(rounds: &[Round], other: &str, figure: Figure, made: fn(f64, f64) -> f64) -> Vec<f64> {
    let ours = rounds.iter().filter(|round| round.server == HOLDFAST);
    let pair = |ours: &Round| {
        let theirs = rounds
            .iter()
            .filter(|round| round.server == other && (round.number, round.turn) == (ours.number, ours.turn))
            .find_map(figure)?;
        Some(made(figure(ours)?, theirs)).filter(|made| made.is_finite())
    };
    ours.filter_map(pair).collect()
}

fn median(values: &[f64]) -> Option<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[count / 2]),
        count => Some((values[count / 2 - 1] + values[count / 2]) / 2.0),
    }
}

/// A number with as many digits as it is worth.
pub(crate) fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 1_000.0 => thousands(value),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) if value.abs() >= 0.1 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Storm;

    fn round(number: usize, server: &'static str, rate: f64, cpu: f64) -> Round {
        let storm = Storm {
            devices: 1,
            seconds: 1.0,
            connects_per_second: rate,
            server_cpu_ms_per_connect: cpu,
            server_cpu_ms_per_connect_with_look: Some(cpu),
        };
        Round { number, server, storm: Some(storm.clone()), storm_on_both: Some(storm), ..Round::default() }
    }

    #[test]
    fn a_ratio_is_taken_within_each_round_and_a_round_without_the_peer_has_none() {
        let rounds = [
            round(1, HOLDFAST, 4_000.0, 0.2),
            round(1, MOSQUITTO, 1_000.0, 0.4),
            round(1, UNWATCHED, 4_000.0, 0.19),
            round(2, HOLDFAST, 9_000.0, 0.1),
            round(2, MOSQUITTO, 1_500.0, 0.3),
            round(3, HOLDFAST, 1.0, 9.0),
        ];
        let targets = targets(&rounds);
        assert_eq!(targets[0].rounds, [4.0, 6.0]);
        assert_eq!((targets[0].measured, targets[0].met), (Some(5.0), Some(true)));
        let target = |what: &str| targets.iter().find(|target| target.what.contains(what)).expect("a target");
        let share = target("guard's share of CPU per connect");
        assert!(share.measured.is_some_and(|share| (share - 5.0).abs() < 1e-9), "{share:?}");
        assert_eq!(target("NATS").verdict(), "not measured");
    }

    #[test]
    fn numbers_have_the_digits_that_they_are_worth() {
        let texts = [1_234_567.8, 999.6, 12.34, 1.234, 0.0123].map(|value| number(Some(value)));
        assert_eq!(texts, ["1,234,568", "1000", "12.3", "1.23", "0.012"]);
    }
}
