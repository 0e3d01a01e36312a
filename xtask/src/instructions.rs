//! How many instructions the message path takes, counted by callgrind: a figure that other work on the machine does not
//! bend, compared with the one that is checked in.
//!
//! Counts are the difference between two runs of the same program with the same input, so that starting cancels out.
//! Valgrind shows every program the same processor (AVX2, no AVX-512, no SHA extensions), so that glibc and AWS-LC take
//! the same code on every x86-64 machine that has AVX2.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::steps::Steps;
use crate::tools;
use crate::workspace::{Workspace, output};

/// Checked in: the counts, and with what they were taken.
const FILE: &str = "bench/instructions.json";
/// By so many percent a count may rise.
const RISE_MAX: u64 = 5;
/// How often an operation runs in the two runs.
const TIMES: [u64; 2] = [1_000, 3_000];

type Counts = BTreeMap<String, u64>;

/// Counts, and compares with what is checked in; with `--write` that is replaced.
pub(crate) fn run(workspace: &Workspace, steps: &mut Steps, arguments: &[String]) -> Result<()> {
    let write = match arguments {
        [] => false,
        [option] if option == "--write" => true,
        _ => bail!("usage: cargo xtask instructions [--write]"),
    };
    let build = ["build", "--release", "--package", "holdfast", "--example", "instructions"];
    steps.command("build of the message path", workspace.cargo(&build))?;
    steps.run("instructions of the message path", || {
        tools::valgrind()?;
        let counts = count(&workspace.target().join("release/examples/instructions"))?;
        let (file, rustc) = (workspace.root().join(FILE), rustc()?);
        if write {
            let text = json!({ "architecture": std::env::consts::ARCH, "rustc": rustc, "instructions": counts });
            fs::write(&file, format!("{text:#}\n")).with_context(|| format!("could not write {FILE}"))?;
            counts.iter().for_each(|(name, count)| println!("{name:<28} {count:>8}"));
            println!("written to {FILE}");
            return Ok(());
        }
        let text = fs::read_to_string(&file).with_context(|| format!("could not read {FILE}"))?;
        let kept: Value = serde_json::from_str(&text).with_context(|| format!("{FILE} is not JSON"))?;
        if kept["architecture"] != std::env::consts::ARCH {
            println!("{FILE} was counted on {}, this is {}: nothing to compare", kept["architecture"], std::env::consts::ARCH);
            return Ok(());
        }
        let before: Counts = serde_json::from_value(kept["instructions"].clone())
            .with_context(|| format!("{FILE} has no `instructions`"))?;
        let rises = compare(&before, &counts);
        if rises.is_empty() {
            return Ok(());
        }
        let compiler = match kept["rustc"].as_str() {
            Some(known) if known != rustc => format!("\n  (it was counted with {known}, this is {rustc})"),
            _ => String::new(),
        };
        bail!(
            "{}{compiler}\n  If that is the price of something wanted: `cargo xtask instructions --write`, and say why in \
             the commit",
            rises.join("\n  ")
        )
    })
}

/// The instructions of each operation of the program, for one time.
fn count(program: &Path) -> Result<Counts> {
    let names = output(&mut Command::new(program))?;
    let each = |name: &str| {
        let [few, many] = TIMES.map(|times| collected(program, name, times));
        Ok((name.to_owned(), (many? - few?) / (TIMES[1] - TIMES[0])))
    };
    names.lines().map(each).collect()
}

/// What callgrind collected of one run.
fn collected(program: &Path, name: &str, times: u64) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.arg(program).args([name, &times.to_string()]);
    let done = command.output().with_context(|| format!("could not run {command:?}"))?;
    let said = String::from_utf8_lossy(&done.stderr);
    if !done.status.success() {
        bail!("{command:?} ended with {}:\n{said}", done.status);
    }
    let count = said.lines().find_map(|line| line.split_once("Collected :")?.1.trim().parse().ok());
    count.with_context(|| format!("valgrind collected nothing:\n{said}"))
}

fn rustc() -> Result<String> {
    Ok(output(Command::new("rustc").arg("--version"))?.trim().to_owned())
}

/// Prints each count beside the one before it, and gives a sentence for each that rose too far.
fn compare(before: &Counts, now: &Counts) -> Vec<String> {
    let mut rises = Vec::new();
    for (name, count) in now {
        let Some(known) = before.get(name) else {
            rises.push(format!("`{name}` takes {count} instructions and is not in {FILE}"));
            continue;
        };
        let change = (*count as f64 / (*known).max(1) as f64 - 1.0) * 100.0;
        let note = if count * 100 < known * (100 - RISE_MAX) { "  less: keep it with `--write`" } else { "" };
        println!("{name:<28} {known:>8} -> {count:>8}  {change:+.1} %{note}");
        if count * 100 > known * (100 + RISE_MAX) {
            rises.push(format!(
                "`{name}` takes {count} instructions, {change:.1} % more than the {known} of {FILE}"
            ));
        }
    }
    let gone = before.keys().filter(|name| !now.contains_key(*name));
    rises.extend(gone.map(|name| format!("`{name}` of {FILE} was not counted")));
    rises
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(entries: &[(&str, u64)]) -> Counts {
        entries.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn a_rise_above_five_percent_is_named_and_a_smaller_one_or_a_fall_is_not() {
        let before = counts(&[("a", 1_000), ("b", 1_000), ("c", 1_000)]);
        let rises = compare(&before, &counts(&[("a", 1_050), ("b", 1_051), ("c", 500)]));
        assert_eq!(rises.len(), 1, "{rises:?}");
        assert!(rises[0].starts_with("`b` takes 1051 instructions, 5.1 % more"), "{rises:?}");
    }

    #[test]
    fn an_operation_that_came_or_went_without_the_file_is_named() {
        let rises = compare(&counts(&[("old", 1)]), &counts(&[("new", 1)]));
        assert_eq!(rises.len(), 2, "{rises:?}");
    }
}
