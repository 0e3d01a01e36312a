//! `holdfast why`.

use std::net::IpAddr;
use std::process::ExitCode;

use serde_json::Value;

use super::Common;
use super::output::Format;
use super::target::{Request, encoded};
use super::terminal::{self, outln};

/// Say why somebody was refused, and what would have admitted them.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast why pump-1              the refusals of a device
  holdfast why --from 10.1.2.3     the refusals of an address
  holdfast why --recent            the newest refusals of anybody")]
pub(crate) struct WhyArgs {
    /// The device id.
    device: Option<String>,
    /// The address that it came from.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "device")]
    from: Option<IpAddr>,
    /// The newest refusals; also what is shown when nobody is named.
    #[arg(long, conflicts_with_all = ["device", "from"])]
    recent: bool,
    /// At most so many.
    #[arg(long, default_value_t = 5)]
    limit: usize,
    #[command(flatten)]
    common: Common,
}

/// Asks for the refusals and prints each with its explanation. Exit code 0 whether there are any or not.
pub(super) fn run(args: WhyArgs) -> anyhow::Result<ExitCode> {
    let mut path = format!("/holdfast/v1/why?limit={}", args.limit);
    if let Some(device) = &args.device {
        path.push_str(&format!("&device={}", encoded(device)));
    }
    if let Some(address) = args.from {
        path.push_str(&format!("&address={}", encoded(&address.to_string())));
    }
    let entries = args.common.target.open()?.management(Request::new("GET", path))?;
    let entries: Vec<Value> = entries.as_array().cloned().unwrap_or_default();
    match args.common.output {
        Format::Json => terminal::document(&Value::Array(entries)),
        Format::Jsonl => entries.iter().for_each(terminal::document_line),
        Format::Table if entries.is_empty() => {
            let who = args.device.map(|device| format!(" of `{device}`")).unwrap_or_default();
            outln!("No refusal{who} is on record.");
        }
        Format::Table => entries.iter().for_each(print),
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a refusal with its explanation, for people.
pub(super) fn print(entry: &Value) {
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    let count = entry["count"].as_u64().unwrap_or(1);
    let times = if count > 1 { format!(", {count} times") } else { String::new() };
    // The day and the second are enough for people; the whole time is in the JSON.
    let time = text("time");
    let time = time.split('.').next().unwrap_or_default();
    outln!(
        "{}Z  {}  {}  from {}{times}",
        time.trim_end_matches('Z'),
        text("cause"),
        text("identity"),
        text("address")
    );
    outln!("  {}", text("explanation"));
    for (heading, name) in
        [("presented", "presented"), ("expected", "expected"), ("change", "change"), ("fix", "fix")]
    {
        outln!("  {heading:<9}  {}", text(name));
    }
    outln!();
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
