//! Steps with a heading and a time; one that fails ends the run, unless its caller goes on.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
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
            let stdout = child.stdout.take().context("what the tests print was piped")?;
            let passed = steps.read(stdout, &mut figures)?;
            conclude(&command, child.wait()?, passed)
        })?;
        Ok(figures)
    }

    /// Starts a command of tests that takes long and does little, beside the steps that follow; [`Steps::join`] ends it.
    pub(crate) fn beside(&self, name: &str, mut command: Command, log: &Path) -> Result<Beside> {
        println!("\n━━ {name}: begins, beside what follows ━━");
        let printed = File::create(log).with_context(|| format!("could not make {}", log.display()))?;
        let child = command
            .stdout(printed.try_clone()?)
            .stderr(printed)
            .spawn()
            .with_context(|| format!("could not start {command:?}"))?;
        Ok(Beside { name: name.to_owned(), started: Instant::now(), command, child, log: log.to_owned() })
    }

    /// Waits for it and shows what it printed, as [`Steps::measured`] does.
    pub(crate) fn join(&mut self, mut beside: Beside) -> Result<Vec<String>> {
        let mut figures = Vec::new();
        self.timed_since(beside.started, &beside.name.clone(), |steps| {
            let status = beside.child.wait()?;
            let log = File::open(&beside.log).context("what the tests printed is gone")?;
            let passed = steps.read(log, &mut figures)?;
            conclude(&beside.command, status, passed)
        })?;
        Ok(figures)
    }

    /// Shows what tests print, adds their closing lines to the totals, and keeps their figures; how many passed.
    fn read(&mut self, printed: impl Read, figures: &mut Vec<String>) -> Result<u64> {
        let mut tally = Tally::default();
        for line in BufReader::new(printed).split(b'\n') {
            let line = line.context("could not read what the tests print")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            tally.read_line(&line);
            figures.extend(line.strip_prefix("figure: ").map(str::to_owned));
        }
        self.tests.add(&tally);
        Ok(tally.passed)
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
        self.timed_since(Instant::now(), name, step)
    }

    fn timed_since(
        &mut self,
        started: Instant,
        name: &str,
        step: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        println!("\n━━ {name} ━━");
        let outcome = step(self);
        self.done.push((name.to_owned(), started.elapsed(), outcome.is_ok()));
        outcome.with_context(|| format!("the step `{name}` failed"))
    }
}

/// How long tests beside the steps may take to end.
const GIVING_UP: Duration = Duration::from_secs(30);

/// Tests that run beside the steps; they end with it.
pub(crate) struct Beside {
    name: String,
    started: Instant,
    command: Command,
    child: Child,
    log: PathBuf,
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Gone already, unless a step before failed. Interrupted, they end what they started, as killed they would not.
        let is_over = |child: &mut Child| !matches!(child.try_wait(), Ok(None));
        if is_over(&mut self.child) {
            return;
        }
        let _ = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        let asked = Instant::now();
        while !is_over(&mut self.child) && asked.elapsed() < GIVING_UP {
            sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn conclude(command: &Command, status: ExitStatus, passed: u64) -> Result<()> {
    succeeded(command, status)?;
    if passed == 0 {
        bail!("{command:?} ran no test");
    }
    Ok(())
}

fn succeeded(command: &Command, status: ExitStatus) -> Result<()> {
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
