//! `holdfast device simulate`.

mod credential;
mod life;
mod setup;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::ValueEnum;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use self::life::{End, Life};
use super::lines::Lines;
use super::target::{Request, encoded};
use super::{Common, why};
use crate::cli::terminal::{errln, outln};

/// How often the hub is asked why it refused, and the time in between.
const WHY_ASKED_MAX: usize = 10;
const WHY_PAUSE: Duration = Duration::from_millis(200);
/// By how much the hub's clock may be behind.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(30);

/// Be a device until Ctrl-C: connect, send telemetry, receive and answer.
///
/// What happens is printed, a line each. Exit code 1 when the hub refuses the device, with the reason where the management
/// credential is at hand.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast device simulate pump-1                                 telemetry every second
  holdfast device simulate pump-1 --transport amqp-ws --count 1   does it get through there?
  holdfast device simulate pump-1 --every 250ms --body '{\"n\":{number},\"at\":\"{time}\"}'
  holdfast device simulate pump-1 --certificate pump-1.pem --private-key pump-1.key
  holdfast device simulate --as 'HostName=…;DeviceId=pump-1;SharedAccessKey=…' --ca-file ca.pem
  holdfast device simulate pump-1 --silent --transport amqp --settle reject --answer 500
  holdfast device simulate pump-1 --mirror -o jsonl               desired properties come back")]
pub(crate) struct SimulateArgs {
    /// The device id; the connection string of --as names it too.
    #[arg(required_unless_present = "connect_as")]
    id: Option<String>,
    /// Be this module of the device.
    #[arg(short, long, value_name = "MODULE")]
    module: Option<String>,
    /// The way to the hub.
    #[arg(short, long, value_enum, default_value_t = TransportArg::Mqtt)]
    transport: TransportArg,
    #[command(flatten)]
    credential: credential::CredentialArgs,
    #[command(flatten)]
    behaviour: BehaviourArgs,
    #[command(flatten)]
    common: Common,
}

/// What the device does.
#[derive(clap::Args)]
pub(super) struct BehaviourArgs {
    /// Time between two messages: 250ms, 5s, 2m; seconds when there is no unit.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = span)]
    every: Duration,
    /// The body of a message. {number} becomes its number, {time} the time.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "{\"number\":{number},\"time\":\"{time}\"}",
        conflicts_with = "silent"
    )]
    body: String,
    /// The content type of the body; application/json when none is given and the body is JSON.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The id of a message, in which {number} and {time} are replaced too.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// An application property of each message; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = property)]
    property: Vec<(String, String)>,
    /// End after so many messages are acknowledged.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "silent")]
    count: Option<u64>,
    /// Send no telemetry, only receive.
    #[arg(long)]
    silent: bool,
    /// What becomes of a device-bound message that comes. Over MQTT it can only be completed.
    #[arg(long, value_enum, default_value_t = SettleArg::Complete)]
    settle: SettleArg,
    /// How calls of methods are answered.
    #[arg(long, value_name = "STATUS[:JSON]", default_value = "200:{}", value_parser = answer)]
    answer: Answer,
    /// Report the desired properties back.
    #[arg(long)]
    mirror: bool,
    /// End when the connection is lost, instead of connecting again.
    #[arg(long)]
    once: bool,
}

/// The ways to a hub.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TransportArg {
    /// MQTT, port 8883.
    Mqtt,
    /// MQTT over WebSocket, port 443.
    MqttWs,
    /// AMQP, port 5671.
    Amqp,
    /// AMQP over WebSocket, port 443.
    AmqpWs,
    /// HTTPS, port 443: no methods and no twin, and messages are asked for every second.
    Https,
}

/// What becomes of a device-bound message.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SettleArg {
    /// It is done.
    Complete,
    /// It goes back into its queue, from where it comes again, ten times at most.
    Abandon,
    /// It is not wanted.
    Reject,
}

/// How a call of a method is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    status: i32,
    body: String,
}

/// Runs the device until it has sent what it should, is refused, or Ctrl-C.
pub(super) fn run(args: SimulateArgs) -> anyhow::Result<ExitCode> {
    check(&args)?;
    let plan = setup::plan(&args)?;
    let lines = Lines::new(args.common.output);
    let began = Timestamp::now();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = runtime.block_on(Life::new(&plan, &args.behaviour, &lines).run())?;
    match end {
        End::Done => return Ok(ExitCode::SUCCESS),
        End::Lost => {}
        End::Refused => explain(&plan, began, &lines),
    }
    Ok(ExitCode::FAILURE)
}

/// Prints why the hub refused the device, where the management credential is at hand, or how to find out.
fn explain(plan: &setup::Plan, began: Timestamp, lines: &Lines) {
    let device = &plan.options.device;
    match newest_refusal(plan, began) {
        Some(refusal) if lines.are_for_people() => {
            outln!();
            why::print(&refusal);
        }
        Some(refusal) => lines.tell("why", &[("why", refusal)]),
        None => errln!("`holdfast why {}` says why, where the management credential of the hub is", device),
    }
}

/// The refusal of the device that is on record since it began. Its signature is looked into before it is.
fn newest_refusal(plan: &setup::Plan, began: Timestamp) -> Option<Value> {
    let path = format!("/holdfast/v1/why?limit=1&device={}", encoded(&plan.options.device));
    let since = began.checked_sub(CLOCKS_DIFFER).unwrap_or(began);
    for _ in 0..WHY_ASKED_MAX {
        let newest = plan.target.management(Request::new("GET", path.clone())).ok()?.get(0).cloned();
        let is_new = |entry: &Value| {
            let time = entry["time"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
            time.is_some_and(|time| time >= since)
        };
        if let Some(newest) = newest.filter(is_new) {
            return Some(newest);
        }
        std::thread::sleep(WHY_PAUSE);
    }
    None
}

/// What cannot be, said before anything is sent.
fn check(args: &SimulateArgs) -> anyhow::Result<()> {
    let over_mqtt = matches!(args.transport, TransportArg::Mqtt | TransportArg::MqttWs);
    if over_mqtt && args.behaviour.settle != SettleArg::Complete {
        bail!(
            "over MQTT a message can only be completed; --settle abandon and reject need --transport amqp, amqp-ws or \
             https"
        );
    }
    if args.transport == TransportArg::Https && args.behaviour.mirror {
        bail!("HTTPS has no twins; --mirror needs --transport mqtt, mqtt-ws, amqp or amqp-ws");
    }
    Ok(())
}

fn span(text: &str) -> anyhow::Result<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let seconds = match unit {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => bail!("it is no time like 250ms, 5s, 2m or 1h"),
    };
    let number: f64 = number.parse().map_err(|_| anyhow!("it is no time like 250ms, 5s, 2m or 1h"))?;
    let span = Duration::try_from_secs_f64(number * seconds)?;
    if span < Duration::from_millis(1) {
        bail!("the shortest time is 1ms");
    }
    Ok(span)
}

fn property(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("it is not of the form NAME=VALUE"),
    }
}

fn answer(text: &str) -> anyhow::Result<Answer> {
    let (status, body) = text.split_once(':').unwrap_or((text, "{}"));
    let status =
        status.parse().map_err(|_| anyhow!("`{status}` is no status: give 200, or 200:{{\"ok\":true}}"))?;
    serde_json::from_str::<serde_json::Value>(body)
        .map_err(|error| anyhow!("what stands behind the colon is no JSON: {error}"))?;
    Ok(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::Args;

    #[test]
    fn spans_have_units() {
        for (text, milliseconds) in [("250ms", 250), ("2", 2_000), ("1.5s", 1_500), ("2m", 120_000)] {
            assert_eq!(span(text).expect("a span"), Duration::from_millis(milliseconds), "{text}");
        }
        for text in ["", "s", "-1s", "0", "1d", "99999999999999999999h"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_answer_is_a_status_and_perhaps_json() {
        assert_eq!(answer("404").expect("an answer"), Answer { status: 404, body: "{}".to_owned() });
        let full = answer("200:{\"a\":1}").expect("an answer");
        assert_eq!(full, Answer { status: 200, body: "{\"a\":1}".to_owned() });
        assert!(answer("ok").is_err() && answer("200:{a").is_err());
    }

    #[test]
    fn a_device_is_named_once_and_has_one_credential() {
        let parse = |more: &[&str]| {
            Args::try_parse_from(["holdfast", "device", "simulate"].iter().chain(more)).map(drop)
        };
        assert!(parse(&["d"]).is_ok() && parse(&["--as", "HostName=h"]).is_ok());
        for wrong in [
            &[][..],
            &["d", "--token", "t", "--policy", "p"],
            &["d", "--certificate", "c.pem"],
            &["d", "--private-key", "k.pem"],
            &["d", "--silent", "--count", "3"],
            &["d", "--count", "0"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
