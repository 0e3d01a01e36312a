//! What takes longer than CI may: `cargo xtask prove [--quick]`.
//!
//! Two hundred losses of power, 20,000 connections, whatever hostile clients send, keys in files, and SDKs that hear
//! nothing for minutes, all against the release build; the advisories that are known of the crates, where their database can be had; half an hour of fuzzing for each decoder; beside all that, two
//! hours of devices that talk while the hub is restarted; then, with the machine for itself, the comparison with other
//! servers. A step that fails lets the others go on, which take hours. It ends with a table of figures. `--quick` is a
//! rehearsal of a few minutes: smaller numbers, no waiting.

use anyhow::{Error, Result, bail};

use crate::steps::Steps;
use crate::workspace::Workspace;
use crate::{advisories, bench, conformance, fuzz};

/// How much of each.
struct Extent {
    power_rounds: u32,
    cycles: u32,
    flood_seconds: u32,
    fuzz_seconds: u64,
    soak_seconds: u32,
    /// Whether tests run that wait for minutes.
    waits: bool,
    bench: &'static [&'static str],
}

const FULL: Extent = Extent {
    power_rounds: 200,
    cycles: 20_000,
    flood_seconds: 30,
    fuzz_seconds: 1_800,
    soak_seconds: 7_200,
    waits: true,
    bench: &[],
};
const QUICK: Extent = Extent {
    power_rounds: 10,
    cycles: 4_000,
    flood_seconds: 5,
    fuzz_seconds: 10,
    soak_seconds: 180,
    waits: false,
    bench: &["--runs", "1"],
};

pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, arguments: &[String]) -> Result<()> {
    let extent = match arguments {
        [] => FULL,
        [quick] if quick == "--quick" => QUICK,
        _ => bail!("usage: cargo xtask prove [--quick]"),
    };
    if std::env::var_os("HOLDFAST_BIN").is_none() {
        steps.command("release build", workspace.cargo(&["build", "--release", "--package", "holdfast"]))?;
    }
    conformance::provision(workspace, steps)?;
    let soak = conformance::soak(workspace, steps, extent.soak_seconds)?;
    let (mut figures, mut failures) = (Vec::new(), Vec::new());
    let looked = advisories::look(workspace, steps).map(|outcome| Some(outcome.figure()));
    figures.extend(kept(&mut failures, looked));
    let parts = [
        (
            format!("{} losses of power, and a failing, full and lying disk", extent.power_rounds),
            "power_loss::",
        ),
        (format!("{} connections", extent.cycles), "hostile::cycles::"),
        ("hostile clients".to_owned(), "hostile::"),
        ("keys in data, logs and core files".to_owned(), "secrets::"),
    ];
    for (name, filter) in parts {
        let arguments =
            ["test", "--package", "holdfast", "--test", "integration", "--", "--nocapture", filter];
        let mut tests = workspace.cargo(&arguments);
        if filter == "hostile::" {
            tests.args(["--skip", "hostile::cycles::"]);
            if extent.waits {
                tests.arg("--include-ignored");
            }
        }
        tests
            .env("HOLDFAST_BIN", workspace.binary())
            .env("HOLDFAST_POWER_ROUNDS", extent.power_rounds.to_string())
            .env("HOLDFAST_CYCLES", extent.cycles.to_string())
            .env("HOLDFAST_FLOOD_SECONDS", extent.flood_seconds.to_string())
            .env("HOLDFAST_FLOOD_RATE", "1000");
        figures.extend(kept(&mut failures, steps.measured(&name, tests)));
    }
    if extent.waits {
        kept(&mut failures, conformance::slow(workspace, steps));
    }
    for outcome in kept(&mut failures, fuzz::run(workspace, steps, extent.fuzz_seconds, &[])) {
        let fuzz::Outcome { target, seeds, runs, covered } = outcome;
        figures.push(format!(
            "fuzz {target}: {runs} runs from {seeds} seeds, {covered} edges covered, no crash"
        ));
    }
    figures.extend(kept(&mut failures, steps.join(soak)));
    let arguments: Vec<String> = extent.bench.iter().map(|&argument| argument.to_owned()).collect();
    kept(&mut failures, bench::run(workspace, steps, &arguments));
    println!("\n━━ figures ━━");
    figures.iter().for_each(|figure| println!("{figure}"));
    failures.iter().for_each(|failure| eprintln!("\n{failure:#}"));
    if failures.is_empty() { Ok(()) } else { bail!("{} of the steps failed", failures.len()) }
}

/// What a step gave, or nothing: then its failure is kept for the end.
fn kept<T: Default>(failures: &mut Vec<Error>, step: Result<T>) -> T {
    step.unwrap_or_else(|failure| {
        failures.push(failure);
        T::default()
    })
}
