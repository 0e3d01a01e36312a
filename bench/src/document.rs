//! The document of a run: docs/benchmarks.md and its plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::compare::Round;
use crate::load::Latency;
use crate::plot::{self, Axis, Bar, Group, Series};
use crate::report::{Report, Row, number};
use crate::servers::{HOLDFAST, MOSQUITTO, NATS, UNWATCHED};

/// Writes the document into this directory, and the plots into one beside it.
pub(crate) fn write(report: &Report, directory: &Path) -> Result<()> {
    let plots = directory.join("benchmarks");
    fs::create_dir_all(&plots).with_context(|| format!("could not make {}", plots.display()))?;
    let files = [
        ("benchmarks.md".to_owned(), document(report)),
        ("benchmarks/targets.svg".to_owned(), targets(report)),
        ("benchmarks/figures.svg".to_owned(), figures(report)),
        ("benchmarks/latency.svg".to_owned(), latency(report)),
        ("benchmarks/flood.svg".to_owned(), flood(report)),
        ("benchmarks/conversation.svg".to_owned(), conversation(report)),
        ("benchmarks/memory.svg".to_owned(), memory(report)),
    ];
    for (name, text) in files {
        let path = directory.join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    }
    Ok(())
}

fn document(report: &Report) -> String {
    let rounds = report.rounds.iter().map(|round| round.number).max().unwrap_or_default();
    let mut text = format!(
        "# Benchmarks\n\n\
         Written by `cargo xtask bench --write`: do not edit. [performance.md](performance.md) says what bounds each figure,\n\
         [bench/README.md](../bench/README.md) how it is taken and what is not fair about it.\n\n\
         {} UTC. {}. {rounds} {} of {} seconds per load; the median counts, ratios are taken within a round.\n",
        report.machine.date,
        report.machine.describe(),
        if rounds == 1 { "round" } else { "rounds" },
        report.seconds,
    );
    if !report.machine.is_quiet() {
        let _ = write!(
            text,
            "\n**This was no quiet machine**: it did other work ({:.0} % of the processors before the run began). Rates and\n\
             latencies say little here; ratios, CPU per operation and memory say more. Take your own before you quote them.\n",
            report.machine.other_work * 100.0
        );
    }
    text.push('\n');
    for (server, version) in &report.servers {
        let _ = writeln!(text, "- **{server}**: {version}{}", role(server));
    }
    for reader in &report.readers {
        let _ = writeln!(text, "- reader: {reader}");
    }
    text.push_str("\n## Targets\n\n![Targets](benchmarks/targets.svg)\n\n");
    text.push_str("| | target | measured | rounds | |\n| --- | --- | --- | --- | --- |\n");
    for target in &report.targets {
        let (measured, rounds) = (number(target.measured), all(&target.rounds));
        let _ = writeln!(
            text,
            "| {} | {} | {measured} | {rounds} | {} |",
            target.what,
            target.limit(),
            target.verdict()
        );
    }
    text.push_str("\n## Figures\n\nThe median, and each round in brackets.\n\n![Figures](benchmarks/figures.svg)\n\n| |");
    report.servers.iter().for_each(|(server, _)| text.push_str(&format!(" {server} |")));
    let _ = writeln!(text, "\n| ---{} |", " | ---".repeat(report.servers.len()));
    for row in &report.rows {
        let _ = write!(text, "| {}, {} |", row.what, row.unit);
        for values in &row.values {
            let _ = match values.rounds.len() {
                0 => write!(text, " |"),
                1 => write!(text, " {} |", number(values.median)),
                _ => write!(text, " {} ({}) |", number(values.median), all(&values.rounds)),
            };
        }
        text.push('\n');
    }
    text.push_str(
        "\n## Latency\n\nAt 2,000 messages a second from 100 devices. *Acknowledged* is from the send to the PUBACK, *read* from the\n\
         send of the device to the reader of the event stream. The last round.\n\n![Latency](benchmarks/latency.svg)\n\n\
         The same, alone and while 50 addresses bring 1,000 bad tokens a second. The last turn.\n\n\
         ![The flood](benchmarks/flood.svg)\n\n\
         While 5,000 devices are connected, each with its twin read and subscribed to all that a hub may tell it, a back end calls 200\n\
         methods and changes 500 desired properties a second over REST. The last round.\n\n\
         ![The conversation](benchmarks/conversation.svg)\n\n\
         ## Memory\n\nResident memory of the server with so many silent devices, each with one subscription. The last round.\n\n\
         ![Memory](benchmarks/memory.svg)\n",
    );
    text
}

fn role(server: &str) -> &'static str {
    match server {
        HOLDFAST => "; `holdfast serve`: SAS, records, audit log, fdatasync before each PUBACK",
        UNWATCHED => "; the same without the guard, to see its share",
        MOSQUITTO => "; nobody authenticated, messages in memory",
        NATS => "; nobody authenticated, each message synced to its file store",
        _ => "",
    }
}

fn all(rounds: &[f64]) -> String {
    rounds.iter().map(|value| number(Some(*value))).collect::<Vec<_>>().join(" · ")
}

/// How far each target is passed or missed.
fn targets(report: &Report) -> String {
    let bar = |target: &crate::report::Target| {
        let margin = target.margin()?;
        Some(Bar {
            label: target.what.replace("server CPU", "CPU").replace(" in memory", "").replace("durable ", ""),
            // What is far beyond its target must not squeeze the others.
            value: margin.min(MARGIN_MAX),
            text: format!("{} {}, target {}", number(target.measured), target.unit, target.limit()),
            colour: if target.met == Some(true) { 0 } else { 2 },
        })
    };
    let bars = report.targets.iter().filter_map(bar).collect();
    let group = Group { heading: String::new(), bars };
    plot::bars("How much better than the target (further right is better)", &[group], Some((1.0, "target")))
}

const MARGIN_MAX: f64 = 3.0;

/// The absolute numbers that two servers or more have.
fn figures(report: &Report) -> String {
    let group = |row: &Row| {
        let bars = row.values.iter().enumerate().filter_map(|(colour, values)| {
            let value = values.median?;
            Some(Bar { label: values.server.to_owned(), value, text: number(values.median), colour })
        });
        Group { heading: format!("{}, {}", row.what, row.unit), bars: bars.collect() }
    };
    let groups: Vec<Group> = report.rows.iter().map(group).filter(|group| group.bars.len() > 1).collect();
    plot::bars("Holdfast and its peers", &groups, None)
}

fn last<'a>(report: &'a Report, server: &str) -> Option<&'a Round> {
    report.rounds.iter().rfind(|round| round.server == server && round.turn == 0)
}

fn latency(report: &Report) -> String {
    let mut lines = Vec::new();
    for (server, _) in &report.servers {
        let paced = last(report, server).and_then(|round| round.paced.as_ref());
        lines.extend(paced.map(|paced| series(format!("acknowledged by {server}"), &paced.acknowledged)));
    }
    let holdfast = last(report, HOLDFAST);
    let through = holdfast.map(|round| [&round.through, &round.through_by_python]);
    for through in through.into_iter().flatten().flatten() {
        lines.push(series(format!("read by {}", through.client), &through.latency));
    }
    distributions("Latency at 2,000 messages a second", "of the messages are done within", &lines)
}

/// What those feel who behave.
fn flood(report: &Report) -> String {
    let flood = report.rounds.iter().rev().find_map(|round| round.flood.as_ref());
    let lines = flood.map(|flood| {
        let beside = format!("beside {} bad tokens a second", number(Some(flood.attempts_per_second)));
        [series("alone", &flood.before.acknowledged), series(beside, &flood.during.acknowledged)]
    });
    let lines: Vec<Series> = lines.into_iter().flatten().collect();
    distributions("Latency at 2,000 messages a second", "of the messages are acknowledged within", &lines)
}

/// How long what a back end and devices say to each other is under way.
fn conversation(report: &Report) -> String {
    let last = last(report, HOLDFAST);
    let conversation = last.and_then(|round| round.conversation.as_ref());
    let reports = last.and_then(|round| round.reports.as_ref());
    let mut lines = Vec::new();
    if let Some(conversation) = conversation {
        lines.push(series("a method is called and answered", &conversation.called));
        lines.push(series("a desired update is durable", &conversation.changed));
        lines.push(series("a desired update is at its device", &conversation.delivered));
    }
    lines.extend(reports.map(|reports| series("a report is durable, at full rate", &reports.answered)));
    distributions("The conversation with 5,000 devices", "of the operations are done within", &lines)
}

fn series(name: impl Into<String>, latency: &Latency) -> Series {
    Series { name: name.into(), points: latency.percentiles_ms.clone() }
}

/// Distributions of times, one line each.
fn distributions(title: &str, what: &'static str, lines: &[Series]) -> String {
    let percents = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9];
    let ticks = percents.map(|percent| (percent, format!("{percent} %"))).to_vec();
    let across = Axis { name: what, ticks, even: true };
    let most = lines.iter().flat_map(|line| &line.points).map(|(_, ms)| *ms).fold(1.0, f64::max);
    let steps = [0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0];
    let shown = steps.iter().position(|step| *step >= most).unwrap_or(steps.len() - 1);
    let ticks = steps[..=shown].iter().map(|step| (*step, format!("{step}"))).collect();
    plot::lines(title, &across, &Axis { name: "ms", ticks, even: true }, lines)
}

fn memory(report: &Report) -> String {
    let mut lines = Vec::new();
    for (server, _) in &report.servers {
        let idle = last(report, server).map(|round| round.idle.as_slice()).unwrap_or_default();
        let Some(first) = idle.first() else { continue };
        let reading = |devices: usize, kib: u64| (devices as f64, kib as f64 / 1_024.0);
        let after = idle.iter().map(|idle| reading(idle.devices, idle.rss_after_kib));
        let points = std::iter::once(reading(0, first.rss_before_kib)).chain(after).collect();
        lines.push(Series { name: (*server).to_owned(), points });
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let axis = |name, most: f64| {
        let step =
            [1.0, 2.0, 2.5, 5.0, 10.0].map(|step| step * 10_f64.powf((most / 6.0).max(1.0).log10().floor()));
        let step = step.into_iter().find(|step| step * 6.0 >= most).unwrap_or(most / 6.0);
        let ticks = (0..=(most / step).ceil() as u32)
            .map(|n| f64::from(n) * step)
            .map(|tick| (tick, number_of(tick)));
        Axis { name, ticks: ticks.collect(), even: false }
    };
    let across = axis("devices", points().map(|(devices, _)| *devices).fold(1.0, f64::max));
    let up = axis("MiB", points().map(|(_, mib)| *mib).fold(1.0, f64::max));
    plot::lines("Resident memory of the server", &across, &up, &lines)
}

fn number_of(tick: f64) -> String {
    if tick < 1_000.0 { format!("{tick}") } else { number(Some(tick)) }
}
