//! `holdfast method`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use super::Common;
use super::output::one;
use super::target::Request;
use super::twin::{OwnerArgs, document};

/// The commands about direct methods.
#[derive(Subcommand)]
pub(crate) enum MethodCommand {
    /// Call a method of a device or module, and print what it answers.
    #[command(after_help = "Examples:
  holdfast method call pump-1 reboot
  holdfast method call pump-1 setRate --payload '{\"rate\":5}' --response-timeout 60
  holdfast method call pump-1 flush --module filter --connect-timeout 120 -o json

The exit code is 0 when the device answered, whatever its status.")]
    Call {
        #[command(flatten)]
        owner: OwnerArgs,
        /// The method.
        name: String,
        /// What it is called with: JSON, or `@FILE` or `@-` for JSON in a file or on the standard input.
        #[arg(short, long, value_name = "JSON", default_value = "null")]
        payload: String,
        /// How long the device may take to answer, 5 to 300.
        #[arg(long, value_name = "SECONDS", default_value_t = 30)]
        response_timeout: u64,
        /// How long to wait for a device that is not connected, 0 to 300.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        connect_timeout: u64,
        #[command(flatten)]
        common: Common,
    },
}

/// Runs a command about direct methods.
pub(super) fn run(command: MethodCommand) -> anyhow::Result<ExitCode> {
    let MethodCommand::Call { owner, name, payload, response_timeout, connect_timeout, common } = command;
    let body = json!({
        "methodName": name,
        "payload": document("--payload", &payload)?,
        "responseTimeoutInSeconds": response_timeout,
        "connectTimeoutInSeconds": connect_timeout,
    });
    // The hub answers within both.
    let wait = Duration::from_secs(response_timeout.saturating_add(connect_timeout).saturating_add(5));
    let request = Request::new("POST", format!("{}/methods", owner.path())).with(body).waiting(wait);
    let answer = common.target.open()?.service(request)?;
    one(common.output, &answer, &[("Status", "/status"), ("Payload", "/payload")]);
    Ok(ExitCode::SUCCESS)
}
