//! `holdfast explain`.

mod against;
mod reading;

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::Context as _;
use serde_json::{Value, json};

use self::reading::{Reading, read};
use super::Common;
use super::output::Format;
use crate::cli::terminal::{self, outln};

/// Say what a connection string or token is, and what is wrong with it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast explain 'HostName=hub.example.net;DeviceId=pump-1;SharedAccessKey=…'
  holdfast explain - < connection-string.txt        so that it does not stay in the shell's history
  holdfast explain 'SharedAccessSignature sr=…&sig=…&se=…' --ready-file ready.json

It is read here; where a hub is named, its parts are also held against what is registered there. Keys and signatures
are never printed. Exit code 0 when nothing is wrong, 1 when something is.")]
pub(crate) struct ExplainArgs {
    /// The connection string, token or key, or - to read it from standard input.
    text: String,
    #[command(flatten)]
    common: Common,
}

/// Something that is wrong, and what would be right.
pub(super) struct Problem {
    /// What is wrong.
    problem: String,
    /// What would be right.
    expected: String,
}

/// What a text is longer than that it be looked at.
const TEXT_BYTES_MAX: u64 = 64 * 1024;

/// Explains the text; exit code 1 when something is wrong with it.
pub(super) fn run(args: ExplainArgs) -> anyhow::Result<ExitCode> {
    let text = match args.text.as_str() {
        "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(TEXT_BYTES_MAX)
                .read_to_string(&mut text)
                .context("could not read the text")?;
            // The line feed that ends a file is not part of what is in it.
            text.strip_suffix('\n').map(str::to_owned).unwrap_or(text)
        }
        text => text.to_owned(),
    };
    let mut reading = read(&text, jiff::Timestamp::now());
    let checked = match args.common.target.open_if_named()? {
        None => "here only: no hub is named".to_owned(),
        Some(target) => match against::check(&mut reading, &target) {
            Ok(()) => format!("against the hub {}", target.host),
            Err(error) => format!("here only: {error:#}"),
        },
    };
    let entry = json!({
        "kind": reading.kind.as_str(),
        "parts": reading.parts.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect::<Value>(),
        "for": reading.kind.sdk_calls(),
        "checked": checked,
        "problems": reading.problems.iter()
            .map(|problem| json!({ "problem": problem.problem, "expected": problem.expected }))
            .collect::<Value>(),
    });
    match args.common.output {
        Format::Json => terminal::document(&entry),
        Format::Jsonl => terminal::document_line(&entry),
        Format::Table => print(&reading, &checked),
    }
    Ok(if reading.problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(reading: &Reading, checked: &str) {
    outln!("This is {}.", reading.kind.as_str());
    for (name, value) in &reading.parts {
        outln!("  {name:<20}  {value}");
    }
    outln!("  {:<20}  {checked}", "checked");
    let calls = reading.kind.sdk_calls();
    if !calls.is_empty() {
        outln!();
        outln!("It is for");
        calls.iter().for_each(|call| outln!("  {call}"));
    }
    outln!();
    if reading.problems.is_empty() {
        outln!("Nothing is wrong with it.");
    }
    for problem in &reading.problems {
        outln!("Wrong     {}", problem.problem);
        outln!("expected  {}", problem.expected);
        outln!();
    }
}
