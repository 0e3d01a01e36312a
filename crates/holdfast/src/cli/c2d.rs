//! `holdfast c2d`.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Subcommand, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::Common;
use super::output::{Format, list, one};
use super::target::{Request, encoded};

/// The commands about device-bound messages.
#[derive(Subcommand)]
pub(crate) enum C2dCommand {
    /// Send a message to a device or module. It waits in the queue, over restarts too, until it is taken or expires.
    #[command(after_help = "Examples:
  holdfast c2d send pump-1 'open the valve'
  holdfast c2d send pump-1 '{\"rate\":5}' --content-type application/json --ack full --message-id m-1
  holdfast c2d send pump-1 - --module filter --expires-in 600 < order.bin")]
    Send {
        #[command(flatten)]
        to: To,
        /// The body, or - to read it from standard input.
        body: String,
        /// An application property; may be given several times.
        #[arg(long, value_name = "NAME=VALUE")]
        property: Vec<String>,
        /// The message id.
        #[arg(long, value_name = "ID")]
        message_id: Option<String>,
        /// The correlation id.
        #[arg(long, value_name = "ID")]
        correlation_id: Option<String>,
        /// The content type of the body.
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// When it expires, in seconds from now: an hour when not given, two days at most.
        #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
        expires_in: Option<u32>,
        /// Which outcome services hear of at /messages/serviceBound/feedback.
        #[arg(long, value_name = "WHEN", default_value = "none")]
        ack: Ack,
        #[command(flatten)]
        common: Common,
    },
    /// List what waits for a device or module, and count what became of the rest. Nothing is taken.
    #[command(after_help = "Examples:
  holdfast c2d list pump-1
  holdfast c2d list pump-1 --module filter -o json")]
    List {
        #[command(flatten)]
        to: To,
        #[command(flatten)]
        common: Common,
    },
    /// Remove everything that waits for a device.
    #[command(after_help = "Example:
  holdfast c2d purge pump-1")]
    Purge {
        /// The device id.
        device: String,
        #[command(flatten)]
        common: Common,
    },
}

/// Who a message is for.
#[derive(clap::Args)]
pub(crate) struct To {
    /// The device id.
    device: String,
    /// One of its modules.
    #[arg(short, long, value_name = "MODULE")]
    module: Option<String>,
}

impl To {
    fn path(&self) -> String {
        let module = self.module.as_deref().map(|module| format!("/{}", encoded(module)));
        format!("/holdfast/v1/inbox/{}{}", encoded(&self.device), module.unwrap_or_default())
    }
}

/// Which outcome is told.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum Ack {
    /// None.
    None,
    /// That it was completed.
    Positive,
    /// That it was rejected, or lost.
    Negative,
    /// Any.
    Full,
}

const COLUMNS: &[(&str, &str)] = &[
    ("NUMBER", "/sequence"),
    ("MESSAGE ID", "/messageId"),
    ("SENT", "/enqueued"),
    ("EXPIRES", "/expires"),
    ("DELIVERIES", "/deliveries"),
    ("LOCKED UNTIL", "/lockedUntil"),
];

/// Of those that do not fit their receiver.
const UNFIT: &[(&str, &str)] =
    &[("NUMBER", "/sequence"), ("MESSAGE ID", "/messageId"), ("REJECTED", "/ended"), ("REASON", "/reason")];

const COUNTS: &[(&str, &str)] = &[
    ("Sent", "/sent"),
    ("Completed", "/completed"),
    ("Rejected", "/rejected"),
    ("Expired", "/expired"),
    ("Delivered too often", "/deliveryCountExceeded"),
    ("Purged", "/purged"),
];

/// Runs a command about device-bound messages.
pub(super) fn run(command: C2dCommand) -> anyhow::Result<ExitCode> {
    match command {
        C2dCommand::Send {
            to,
            body,
            property,
            message_id,
            correlation_id,
            content_type,
            expires_in,
            ack,
            common,
        } => {
            let message = json!({
                "body": STANDARD.encode(payload(body)?),
                "messageId": message_id,
                "correlationId": correlation_id,
                "contentType": content_type,
                "expires": expires_in.map(from_now).transpose()?,
                "ack": ack.to_possible_value().map(|value| value.get_name().to_owned()),
                "properties": properties(&property)?,
            });
            let request = Request::new("POST", to.path()).with(message);
            let answer = common.target.open()?.management(request)?;
            one(common.output, &answer, &[("Number in the queue", "/sequence")]);
        }
        C2dCommand::List { to, common } => {
            let answer = common.target.open()?.management(Request::new("GET", to.path()))?;
            match common.output {
                Format::Table => {
                    list(Format::Table, answer["waiting"].as_array().map_or(&[][..], Vec::as_slice), COLUMNS);
                    one(Format::Table, &answer, COUNTS);
                    let passed = answer["passed"].as_array().into_iter().flatten();
                    let unfit: Vec<Value> =
                        passed.filter(|passed| passed["reason"].is_string()).cloned().collect();
                    if !unfit.is_empty() {
                        list(Format::Table, &unfit, UNFIT);
                    }
                }
                format => one(format, &answer, COUNTS),
            }
        }
        C2dCommand::Purge { device, common } => {
            let path = format!("/devices/{}/commands", encoded(&device));
            let answer = common.target.open()?.service(Request::new("DELETE", path))?;
            one(common.output, &answer, &[("Purged", "/totalMessagesPurged")]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn payload(given: String) -> anyhow::Result<Vec<u8>> {
    if given != "-" {
        return Ok(given.into_bytes());
    }
    let mut body = Vec::new();
    std::io::stdin().read_to_end(&mut body).context("could not read the standard input")?;
    Ok(body)
}

fn from_now(seconds: u32) -> anyhow::Result<String> {
    let expires = Timestamp::now().checked_add(SignedDuration::from_secs(seconds.into()));
    Ok(expires.context("that is too far away")?.to_string())
}

fn properties(given: &[String]) -> anyhow::Result<Map<String, Value>> {
    let mut properties = Map::new();
    for property in given {
        let Some((name, value)) = property.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            bail!("the property `{property}` is not of the form NAME=VALUE");
        };
        properties.insert(name.to_owned(), value.into());
    }
    Ok(properties)
}
