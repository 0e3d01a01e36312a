//! Steps with a heading and a time; the first one that fails ends the run.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::tally::Tally;

#[derive(Default)]
pub(crate) struct Steps {
    done: Vec<(String, Duration, bool)>,
    tests: Tally,
}

impl Steps {
    /// Runs one step and notes its time.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Result<()>) -> Result<()> {
        self.timed(name, |_| step())
    }

    /// Runs a command whose status is its whole result.
    pub(crate) fn command(&mut self, name: &str, mut command: Command) -> Result<()> {
        self.timed(name, |_| {
            let status = command.status().with_context(|| format!("could not start {command:?}"))?;
            succeeded(&command, status)
        })
    }

    /// Runs a command of tests, shows what it prints and adds its closing lines to the totals.
    pub(crate) fn tests(&mut self, name: &str, command: Command) -> Result<()> {
        self.measured(name, command).map(drop)
    }

    /// The same, giving the lines that begin with `figure: `.
    pub(crate) fn measured(&mut self, name: &str, mut command: Command) -> Result<Vec<String>> {
        let mut figures = Vec::new();
        self.timed(name, |steps| {
            let mut child = command
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("could not start {command:?}"))?;
            let mut tally = Tally::default();
            if let Some(stdout) = child.stdout.take() {
                for line in BufReader::new(stdout).split(b'\n') {
                    let line = line.context("could not read what the tests print")?;
                    let line = String::from_utf8_lossy(&line);
                    println!("{line}");
                    tally.read_line(&line);
                    figures.extend(line.strip_prefix("figure: ").map(str::to_owned));
                }
            }
            steps.tests.add(&tally);
            succeeded(&command, child.wait()?)?;
            if tally.passed == 0 {
                bail!("{command:?} ran no test");
            }
            Ok(())
        })?;
        Ok(figures)
    }

    /// Prints the times of the steps and, when any ran, the totals of all tests as the last line.
    pub(crate) fn close(&self) {
        if self.done.is_empty() {
            return;
        }
        println!();
        for (name, elapsed, succeeded) in &self.done {
            let mark = if *succeeded { "ok    " } else { "FAILED" };
            println!("{mark} {:>7.1} s  {name}", elapsed.as_secs_f64());
        }
        if self.tests.any() {
            println!("\n{} passed, {} failed", self.tests.passed, self.tests.failed);
        }
    }

    fn timed(&mut self, name: &str, step: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        println!("\n━━ {name} ━━");
        let started = Instant::now();
        let outcome = step(self);
        self.done.push((name.to_owned(), started.elapsed(), outcome.is_ok()));
        outcome.with_context(|| format!("the step `{name}` failed"))
    }
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
