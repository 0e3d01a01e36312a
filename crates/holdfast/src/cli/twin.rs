//! `holdfast twin`.

use std::io::Read as _;
use std::process::ExitCode;

use ::hub::json::{self, WrongJson};
use anyhow::{Context as _, anyhow, bail};
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::Common;
use super::output::{Format, one};
use super::target::{Request, encoded};

/// The commands about twins.
#[derive(Subcommand)]
pub(crate) enum TwinCommand {
    /// Show the twin of a device or module.
    #[command(after_help = "Examples:
  holdfast twin get pump-1
  holdfast twin get pump-1 --module filter -o json")]
    Get {
        #[command(flatten)]
        owner: OwnerArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Merge tags and desired properties into a twin; `null` removes.
    #[command(after_help = "Examples:
  holdfast twin update pump-1 --desired '{\"rate\":5}'
  holdfast twin update pump-1 --tags '{\"site\":\"north\",\"old\":null}'
  holdfast twin update pump-1 --desired @desired.json --etag AAAAAAAAAAI=
  holdfast twin update pump-1 --desired null            # removes all desired properties")]
    Update {
        #[command(flatten)]
        owner: OwnerArgs,
        #[command(flatten)]
        parts: PartArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Put tags or desired properties in the place of those that a twin has.
    #[command(after_help = "Examples:
  holdfast twin replace pump-1 --desired '{\"rate\":5}'
  holdfast twin replace pump-1 --tags @tags.json")]
    Replace {
        #[command(flatten)]
        owner: OwnerArgs,
        #[command(flatten)]
        parts: PartArgs,
        #[command(flatten)]
        common: Common,
    },
}

/// Whose twin, or whose method.
#[derive(clap::Args)]
pub(super) struct OwnerArgs {
    /// The device id.
    device: String,
    /// One of its modules.
    #[arg(short, long, value_name = "MODULE")]
    module: Option<String>,
}

impl OwnerArgs {
    /// The path of its twin.
    pub(super) fn path(&self) -> String {
        let module = self.module.as_deref().map(|module| format!("/modules/{}", encoded(module)));
        format!("/twins/{}{}", encoded(&self.device), module.unwrap_or_default())
    }
}

/// What is to change.
#[derive(clap::Args)]
pub(crate) struct PartArgs {
    /// The tags: a JSON object, `@FILE` or `@-` for one in a file or on the standard input, or `null`.
    #[arg(long, value_name = "JSON", required_unless_present = "desired")]
    tags: Option<String>,
    /// The desired properties, in the same forms.
    #[arg(long, value_name = "JSON")]
    desired: Option<String>,
    /// Only if the twin still has this etag.
    #[arg(long, value_name = "ETAG")]
    etag: Option<String>,
}

impl PartArgs {
    fn body(&self) -> anyhow::Result<Value> {
        let mut body = Map::new();
        if let Some(tags) = &self.tags {
            body.insert("tags".to_owned(), part("--tags", tags)?);
        }
        if let Some(desired) = &self.desired {
            body.insert("properties".to_owned(), json!({ "desired": part("--desired", desired)? }));
        }
        Ok(Value::Object(body))
    }
}

const LINES: &[(&str, &str)] = &[
    ("Device", "/deviceId"),
    ("Module", "/moduleId"),
    ("Model", "/modelId"),
    ("Status", "/status"),
    ("Connection", "/connectionState"),
    ("Last activity", "/lastActivityTime"),
    ("ETag", "/etag"),
    ("Version", "/version"),
    ("Tags", "/tags"),
    ("Desired", "/desired"),
    ("Desired version", "/properties/desired/$version"),
    ("Reported", "/reported"),
    ("Reported version", "/properties/reported/$version"),
];

/// Runs a command about twins.
pub(super) fn run(command: TwinCommand) -> anyhow::Result<ExitCode> {
    let (common, request) = match &command {
        TwinCommand::Get { owner, common } => (common, Request::new("GET", owner.path())),
        TwinCommand::Update { owner, parts, common } => (common, change("PATCH", owner, parts)?),
        TwinCommand::Replace { owner, parts, common } => (common, change("PUT", owner, parts)?),
    };
    let twin = common.target.open()?.service(request)?;
    match common.output {
        Format::Table => one(common.output, &for_people(twin), LINES),
        Format::Json | Format::Jsonl => one(common.output, &twin, LINES),
    }
    Ok(ExitCode::SUCCESS)
}

/// The twin with its properties beside their metadata, which is for programs.
fn for_people(mut twin: Value) -> Value {
    for section in ["desired", "reported"] {
        let mut shown = twin["properties"][section].clone();
        if let Some(members) = shown.as_object_mut() {
            members.retain(|key, _| !key.starts_with('$'));
        }
        twin[section] = shown;
    }
    twin
}

fn change<'a>(method: &'a str, owner: &OwnerArgs, parts: &'a PartArgs) -> anyhow::Result<Request<'a>> {
    let if_match = Some(parts.etag.as_deref().unwrap_or("*"));
    Ok(Request { if_match, ..Request::new(method, owner.path()).with(parts.body()?) })
}

/// A JSON document given as an argument, in a file or on the standard input.
pub(super) fn document(option: &str, text: &str) -> anyhow::Result<Value> {
    let read = match text.strip_prefix('@') {
        None => text.to_owned(),
        Some("-") => {
            let mut read = String::new();
            std::io::stdin().read_to_string(&mut read).context("could not read the standard input")?;
            read
        }
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("could not read {file}"))?,
    };
    match json::read(read.as_bytes()).map_err(|wrong| wrong.below(option)) {
        Ok(value) => Ok(value),
        Err(WrongJson::Syntax(problem)) => Err(anyhow!(problem)).with_context(|| {
            format!("{option} is not JSON; a text is written with its quotes: {option} '\"text\"', and {option} @FILE reads a file")
        }),
        // The hub would be sent another number than was meant.
        Err(other) => Err(other.into()),
    }
}

fn part(option: &str, text: &str) -> anyhow::Result<Value> {
    match document(option, text)? {
        value @ (Value::Object(_) | Value::Null) => Ok(value),
        other => bail!("{option} is {other}; it takes a JSON object, such as '{{\"rate\":5}}', or null"),
    }
}
