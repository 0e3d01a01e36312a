//! `holdfast export`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

use super::Common;
use super::target::Request;
use super::terminal;

/// Print the whole state of the hub as JSON, keys as fingerprints: to compare before and after, or to keep beside a
/// backup. It is JSON whatever the output format.
#[derive(clap::Args)]
#[command(after_help = "Example:
  holdfast export --out before.json")]
pub(crate) struct ExportArgs {
    /// Write it here instead of to the terminal.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Exports.
pub(super) fn run(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let export = args.common.target.open()?.management(Request::new("GET", "/holdfast/v1/export"))?;
    let text = terminal::json(&format!("{export:#}")).into_owned();
    match args.out {
        Some(file) => std::fs::write(&file, format!("{text}\n"))
            .with_context(|| format!("could not write {}", file.display()))?,
        None => terminal::lines(&text),
    }
    Ok(ExitCode::SUCCESS)
}
