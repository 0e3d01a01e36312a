//! `holdfast scrub`.

use std::process::ExitCode;

use serde_json::{Value, json};

use super::Common;
use super::output::list;
use super::target::Request;

/// Have the hub read all that it stored, and list what is damaged. Exit code 1 when anything is.
///
/// The hub does so by itself once a day, slowly.
#[derive(clap::Args)]
pub(crate) struct ScrubArgs {
    #[command(flatten)]
    common: Common,
}

/// Runs the command.
pub(super) fn run(args: ScrubArgs) -> anyhow::Result<ExitCode> {
    let answer = args.common.target.open()?.management(Request::new("POST", "/holdfast/v1/scrub"))?;
    let row = |text: &Value| json!({ "damage": text });
    let rows: Vec<Value> = answer.as_array().into_iter().flatten().map(row).collect();
    list(args.common.output, &rows, &[("DAMAGE", "/damage")]);
    Ok(if rows.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
