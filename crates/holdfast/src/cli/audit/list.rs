//! `holdfast audit list`.

use std::net::IpAddr;
use std::process::ExitCode;

use anyhow::anyhow;
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::super::Common;
use super::super::output::{Format, list};
use super::super::target::{Request, encoded};
use crate::cli::terminal;

/// Records that one request asks for.
const PAGE: usize = 1_000;

/// `holdfast audit list`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast audit list --device pump-1
  holdfast audit list --kind refusal --from 10.1.2.3 --since 24h
  holdfast audit list --kind change --since 2026-11-01T00:00:00Z -o jsonl --limit 100000")]
pub(crate) struct ListArgs {
    /// Only records about this device or its modules.
    #[arg(long, value_name = "ID")]
    device: Option<String>,
    /// Only records of requests from this address.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Only records of this kind.
    #[arg(long, value_enum)]
    kind: Option<KindArg>,
    /// Only records of this time or later: a time, or how long ago (24h).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<Timestamp>,
    /// Only records before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<Timestamp>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    /// Whatever was refused.
    Refusal,
    /// A TLS handshake, or what came in its place.
    Handshake,
    /// A device connection.
    Connect,
    /// The end of one.
    Disconnect,
    /// A link of an AMQP connection.
    Link,
    /// A token put on an open connection.
    Token,
    /// An operation of a device or service.
    Operation,
    /// A change of the registry.
    Change,
    /// Records that were lost in a flood.
    Gap,
    /// What retention dropped.
    Retention,
}

fn time(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let ago: SignedDuration = text
        .parse()
        .map_err(|_| anyhow!("it is neither a time like 2026-11-01T08:00:00Z nor a span like 24h"))?;
    Ok(Timestamp::now().checked_sub(ago)?)
}

/// Lists the records, newest first.
pub(super) fn run(args: ListArgs) -> anyhow::Result<ExitCode> {
    let target = args.common.target.open()?;
    let mut query = String::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            query.push_str(&format!("&{name}={}", encoded(&value)));
        }
    };
    add("device", args.device.clone());
    add("address", args.from.map(|address| address.to_string()));
    add("since", args.since.map(|time| time.to_string()));
    add("until", args.until.map(|time| time.to_string()));
    match args.kind {
        Some(KindArg::Refusal) => add("refused", Some("true".to_owned())),
        Some(kind) => add("kind", kind.to_possible_value().map(|value| value.get_name().to_owned())),
        None => {}
    }
    let (mut records, mut listed, mut before) = (Vec::new(), 0, String::new());
    while listed < args.limit {
        let wanted = PAGE.min(args.limit - listed);
        let path = format!("/holdfast/v1/audit/records?limit={wanted}{query}{before}");
        let page = target.management(Request::new("GET", path))?;
        let page = page.as_array().cloned().unwrap_or_default();
        listed += page.len();
        let last = page.last().and_then(|record| record["number"].as_u64());
        let more = page.len() == wanted;
        match args.common.output {
            // As they come, so that a long list needs no memory.
            Format::Jsonl => page.iter().for_each(terminal::document_line),
            Format::Json => records.extend(page),
            Format::Table => records.extend(page.iter().map(row)),
        }
        match last {
            Some(last) if more => before = format!("&before={last}"),
            _ => break,
        }
    }
    let columns = [
        ("NUMBER", "/number"),
        ("TIME", "/time"),
        ("WHO", "/who"),
        ("WHAT", "/what"),
        ("FROM", "/from"),
        ("OUTCOME", "/outcome"),
    ];
    if args.common.output != Format::Jsonl {
        list(args.common.output, &records, &columns);
    }
    Ok(ExitCode::SUCCESS)
}

/// A record as a row for people.
pub(in crate::cli) fn row(record: &Value) -> Value {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let act = &record["act"];
    let named = |name: &str| act[name].as_str().unwrap_or_default();
    let what = match named("kind") {
        "operation" => named("name").to_owned(),
        "change" => format!("{} {}{}", named("what"), named("target"), moved(&record["parent"])),
        "connect" if !text("/facts/gateway").is_empty() => {
            format!("connect through {}", text("/facts/gateway"))
        }
        "link" => format!("link {}", named("address")),
        "disconnect" => format!("disconnect: {}", named("reason")),
        "retention" => format!("retention of records {} to {}", act["first"], act["last"]),
        kind => kind.to_owned(),
    };
    let policy = record.pointer("/facts/token/skn").and_then(Value::as_str);
    let actor = match (text("/actor"), policy) {
        ("", Some(policy)) => format!("policy {policy}"),
        (actor, _) => actor.to_owned(),
    };
    let who = [text("/identity"), &actor].into_iter().filter(|who| !who.is_empty());
    let from = [text("/origin/address"), text("/origin/door")].into_iter().filter(|from| !from.is_empty());
    let cause = &record["refusal"];
    let outcome = match (cause, record["count"].as_u64().unwrap_or(1)) {
        (Value::Null, 1) => "allowed".to_owned(),
        (Value::Null, count) => format!("allowed, {count} times"),
        (cause, 1) => format!("refused: {}", cause_of(cause)),
        (cause, count) => format!("refused: {}, {count} times", cause_of(cause)),
    };
    // The day and the second are enough for people; the whole time is in the JSON.
    let time = text("/time").split('.').next().unwrap_or_default();
    json!({
        "number": record["number"],
        "time": format!("{}Z", time.trim_end_matches('Z')),
        "who": who.collect::<Vec<_>>().join(" by "),
        "what": what,
        "from": from.collect::<Vec<_>>().join(" "),
        "outcome": outcome,
    })
}

/// To which parent a change moved a device, where it did.
fn moved(parent: &Value) -> String {
    let name = |scope: &str| {
        let name = scope.strip_prefix("ms-azure-iot-edge://").and_then(|name| name.rsplit_once('-'));
        name.map_or(scope, |(name, _)| name).to_owned()
    };
    match (parent["from"].as_str(), parent["to"].as_str()) {
        (None, None) => String::new(),
        (_, Some(to)) => format!(", parent {}", name(to)),
        (Some(from), None) => format!(", no longer below {}", name(from)),
    }
}

fn cause_of(refusal: &Value) -> &str {
    refusal["cause"].as_str().unwrap_or("see `holdfast why`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_where_a_device_went_and_who_connected_it() {
        let what = |record: Value| row(&record)["what"].as_str().unwrap_or_default().to_owned();
        let change = |parent: Value| {
            let act = json!({ "kind": "change", "what": "update device", "target": "d1" });
            what(json!({ "act": act, "parent": parent }))
        };
        assert_eq!(change(Value::Null), "update device d1");
        let (one, two) = ("ms-azure-iot-edge://gate-1-638", "ms-azure-iot-edge://gate-2-639");
        assert_eq!(change(json!({ "to": one })), "update device d1, parent gate-1");
        assert_eq!(change(json!({ "from": one, "to": two })), "update device d1, parent gate-2");
        assert_eq!(change(json!({ "from": two })), "update device d1, no longer below gate-2");
        let connect = json!({ "act": { "kind": "connect" }, "facts": { "gateway": "gate-1" } });
        assert_eq!(what(connect), "connect through gate-1");
    }
}
