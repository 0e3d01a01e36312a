//! `holdfast send`.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::device::token;
use super::target::{Request, TargetArgs, encoded};
use super::terminal::outln;

/// Send a message as a device.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast send pump-1 '{\"temperature\":21.5}'
  holdfast send pump-1 'hello' --property room=7 --message-id m-1
  holdfast send pump-1 - < reading.json")]
pub(crate) struct SendArgs {
    /// The device id.
    device: String,
    /// The body, or - to read it from standard input.
    body: String,
    /// Send as this module of the device.
    #[arg(long)]
    module: Option<String>,
    /// An application property; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    property: Vec<String>,
    /// The message id.
    #[arg(long, value_name = "ID")]
    message_id: Option<String>,
    /// The content type of the body.
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    target: TargetArgs,
}

/// Sends one message over HTTPS, with the identity's own key.
pub(super) fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let target = args.target.open()?;
    let (path, resource) = match &args.module {
        None => (format!("/devices/{}", encoded(&args.device)), format!("/devices/{}", args.device)),
        Some(module) => (
            format!("/devices/{}/modules/{}", encoded(&args.device), encoded(module)),
            format!("/devices/{}/modules/{module}", args.device),
        ),
    };
    let identity = target.service(Request::new("GET", path.clone()))?;
    let token = token(&identity, &format!("{}{resource}", target.host), 300)?;
    let mut headers = Vec::new();
    for property in &args.property {
        let Some((name, value)) = property.split_once('=') else {
            bail!("the property `{property}` is not of the form NAME=VALUE");
        };
        headers.push((format!("iothub-app-{name}"), value.to_owned()));
    }
    headers.extend(args.message_id.map(|id| ("iothub-messageid".to_owned(), id)));
    headers.extend(args.content_type.map(|kind| ("iothub-contenttype".to_owned(), kind)));
    let mut body = args.body.into_bytes();
    if body == b"-" {
        body.clear();
        std::io::stdin().read_to_end(&mut body).context("could not read the standard input")?;
    }
    target.device(&format!("{path}/messages/events"), &token, &headers, &body)?;
    outln!("{} bytes are on stable storage", body.len());
    Ok(ExitCode::SUCCESS)
}
