//! `holdfast trust-clock`.

use std::process::ExitCode;

use super::Common;
use super::output::one;
use super::target::Request;

/// Have the hub delete old events by the time of day, after its clock jumped ahead and is right.
///
/// A hub whose clock jumps deletes nothing by the new time until the clock was steady for an hour.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast trust-clock --show      how far is the clock ahead, and when is it believed
  holdfast trust-clock             the time is right: delete by it from now on")]
pub(crate) struct TrustClockArgs {
    /// Only show what the hub makes of its clock.
    #[arg(long)]
    show: bool,
    #[command(flatten)]
    common: Common,
}

const LINES: &[(&str, &str)] = &[
    ("trusted", "/trusted"),
    ("heldTime", "/heldTime"),
    ("aheadSeconds", "/aheadSeconds"),
    ("trustedInSeconds", "/trustedInSeconds"),
];

/// Runs the command.
pub(super) fn run(args: TrustClockArgs) -> anyhow::Result<ExitCode> {
    let request = match args.show {
        true => Request::new("GET", "/holdfast/v1/clock"),
        false => Request::new("POST", "/holdfast/v1/clock/trust"),
    };
    one(args.common.output, &args.common.target.open()?.management(request)?, LINES);
    Ok(ExitCode::SUCCESS)
}
