//! Fuzzes every decoder from its seed corpus.
//!
//! `cargo xtask fuzz [--seconds N] [TARGET]…` builds the targets in `fuzz/` as `cargo fuzz` does, but on the stable
//! compiler and without that tool: coverage comes from LLVM's own pass, which needs no sanitizer. What a target learns
//! stays in `target/fuzz/corpus`; a crash leaves its input in `fuzz/artifacts`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::steps::Steps;
use crate::workspace::Workspace;

/// What `cargo fuzz` passes to the compiler, but for the sanitizer.
const FLAGS: &[&str] = &[
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// No decoder needs more, whatever it is given.
const MEMORY_MEGABYTES_MAX: u32 = 1_024;
/// No input may take longer.
const INPUT_SECONDS_MAX: u32 = 10;

/// What one target did.
pub(crate) struct Outcome {
    pub(crate) target: String,
    pub(crate) seeds: usize,
    pub(crate) runs: u64,
    pub(crate) covered: u64,
}

/// Targets that share a core. Half an hour for each of nine would take a machine of two cores longer than anybody waits
/// before a release, were there no sharing.
const TARGETS_PER_CORE: usize = 2;

/// Builds the targets and runs those that are named, or all, for so many seconds each, some on each core at a time.
pub(crate) fn run(
    workspace: &Workspace,
    steps: &mut Steps,
    seconds: u64,
    wanted: &[String],
) -> Result<Vec<Outcome>> {
    let targets = targets(workspace)?;
    if let Some(unknown) = wanted.iter().find(|name| !targets.contains(name)) {
        bail!("there is no fuzz target `{unknown}`, only {}", targets.join(", "));
    }
    let chosen: Vec<String> =
        targets.into_iter().filter(|name| wanted.is_empty() || wanted.contains(name)).collect();
    steps.command("fuzz targets", build(workspace)?)?;
    let mut outcomes = Vec::new();
    steps.run(&format!("fuzz, {seconds} s each"), || {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        for group in chosen.chunks(cores * TARGETS_PER_CORE) {
            outcomes.extend(together(workspace, group, seconds)?);
        }
        Ok(())
    })?;
    Ok(outcomes)
}

/// The targets, by the names of their files.
fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let directory = workspace.root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in
        fs::read_dir(&directory).with_context(|| format!("could not read {}", directory.display()))?
    {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "rs") {
            names.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn build(workspace: &Workspace) -> Result<Command> {
    // With a target named, build scripts and macros are compiled without these flags.
    let host = host(workspace)?;
    let mut command = workspace.cargo(&["build", "--release", "--locked", "--target", &host]);
    command.arg("--manifest-path").arg(workspace.root().join("fuzz/Cargo.toml"));
    command.arg("--target-dir").arg(workspace.target().join("fuzz"));
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    Ok(command)
}

fn host(workspace: &Workspace) -> Result<String> {
    let output = workspace.command("rustc", &["-vV"]).output().context("could not run rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc does not say what its host is")
}

fn together(workspace: &Workspace, group: &[String], seconds: u64) -> Result<Vec<Outcome>> {
    let runs: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            group.iter().map(|target| scope.spawn(|| fuzz(workspace, target, seconds))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a run does not panic")).collect()
    });
    runs.into_iter().collect()
}

fn fuzz(workspace: &Workspace, target: &str, seconds: u64) -> Result<Outcome> {
    let directory = workspace.target().join("fuzz");
    let binary = directory.join(host(workspace)?).join("release").join(target);
    let seeds = workspace.root().join("fuzz/corpus").join(target);
    let learned = directory.join("corpus").join(target);
    let artifacts = workspace.root().join("fuzz/artifacts").join(target);
    for directory in [&learned, &artifacts] {
        fs::create_dir_all(directory).with_context(|| format!("could not make {}", directory.display()))?;
    }
    let seed_count = count(&seeds)?;
    if seed_count == 0 {
        bail!("{} holds no seed", seeds.display());
    }
    let output = Command::new(&binary)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-rss_limit_mb={MEMORY_MEGABYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-print_final_stats=1", "-max_len=65536"])
        .args([&learned, &seeds])
        .stdout(Stdio::null())
        .output()
        .with_context(|| format!("could not run {}", binary.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(40)..].join("\n");
        bail!("the fuzz target `{target}` ended with {}:\n{tail}", output.status);
    }
    let outcome = Outcome {
        target: target.to_owned(),
        seeds: seed_count,
        runs: number_after(&text, "stat::number_of_executed_units:"),
        covered: text
            .lines()
            .rev()
            .find_map(|line| Some(number_after(line.split_once(" cov:")?.1, "")))
            .unwrap_or(0),
    };
    let Outcome { runs, covered, .. } = &outcome;
    println!("{target}: {seed_count} seeds, {runs} runs, {covered} edges covered, no crash");
    Ok(outcome)
}

fn count(directory: &Path) -> Result<usize> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("could not read {}", directory.display()))?;
    Ok(entries.count())
}

/// The number behind a name, 0 where there is none.
fn number_after(text: &str, name: &str) -> u64 {
    let rest = if name.is_empty() { text } else { text.rsplit_once(name).map_or("", |(_, rest)| rest) };
    rest.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0)
}
