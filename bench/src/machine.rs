//! What the numbers were taken on, and what else it did.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Appends that are synced to learn how fast the disk is.
const SYNCS: usize = 2_000;
/// How long the machine is watched before anything runs.
const WATCH: Duration = Duration::from_secs(5);
/// Other work up to this share of the processors does not bend the figures.
const QUIET: f64 = 0.05;

/// The machine, before the first measurement.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    /// Of the begin, UTC.
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) processors: usize,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// How long the disk takes to keep 4 KiB more of a file, in milliseconds. A server that syncs each message by itself
    /// gets no further than one message in that time.
    pub(crate) fdatasync_p50_ms: f64,
    pub(crate) fdatasync_p99_ms: f64,
    /// The share of the processors that other work took.
    pub(crate) other_work: f64,
}

impl Machine {
    /// Looks at the machine; takes some seconds.
    pub(crate) fn look(below: &Path) -> Result<Self> {
        fs::create_dir_all(below)?;
        let (busy_before, all_before) = ticks()?;
        sleep(WATCH);
        let (busy, all) = ticks()?;
        let other_work = (busy - busy_before) as f64 / (all - all_before).max(1) as f64;
        let (fdatasync_p50_ms, fdatasync_p99_ms) = sync_milliseconds(below)?;
        let date = Command::new("date").args(["-u", "+%F %R"]).output().context("could not run `date`")?;
        Ok(Self {
            date: String::from_utf8_lossy(&date.stdout).trim().to_owned(),
            processor: field("/proc/cpuinfo", "model name"),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            memory: field("/proc/meminfo", "MemTotal"),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            fdatasync_p50_ms,
            fdatasync_p99_ms,
            other_work,
        })
    }

    /// Whether the machine was left to the benchmark.
    pub(crate) fn is_quiet(&self) -> bool {
        self.other_work <= QUIET
    }

    /// In a line.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} × {}, {}, Linux {}; fdatasync of 4 KiB: p50 {:.3} ms, p99 {:.3} ms; other work before the run: {:.0} % of \
             the processors",
            self.processors,
            self.processor,
            self.memory,
            self.kernel,
            self.fdatasync_p50_ms,
            self.fdatasync_p99_ms,
            self.other_work * 100.0
        )
    }
}

/// The ticks that all processors were busy, and all ticks.
fn ticks() -> Result<(u64, u64)> {
    let stat = fs::read_to_string("/proc/stat").context("could not read /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).take(8).collect();
    let idle: u64 = ticks.iter().skip(3).take(2).sum();
    let all: u64 = ticks.iter().sum();
    Ok((all - idle, all))
}

fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
}

fn sync_milliseconds(below: &Path) -> io::Result<(f64, f64)> {
    let mut file = tempfile::tempfile_in(below)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[1; 4_096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[SYNCS / 2], times[SYNCS * 99 / 100]))
}
