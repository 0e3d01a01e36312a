//! Reading the event stream from its beginning, as a back end does that catches up.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sim::{EventReader, Start};
use tokio::time::timeout_at;

use super::latency::Latency;
use crate::process::cpu;
use crate::subject::Subject;

/// A stream that gives nothing for so long is read to its end.
const SILENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReadOptions {
    /// The longest time to read.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Events under way per partition (the SDKs' prefetch).
    #[arg(long, default_value_t = 300)]
    pub(crate) credit: u32,
}

/// What reading an event costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Read {
    pub(crate) client: String,
    pub(crate) events: u64,
    pub(crate) events_per_second: f64,
    pub(crate) server_cpu_us_per_event: f64,
}

/// The name of the reader that is the generator's own.
pub(super) const OWN: &str = "the generator's own reader";

/// Reads all partitions from the beginning to the end, or for a while.
pub(crate) async fn read(subject: &Subject, options: ReadOptions) -> Result<Read> {
    let mut reader = EventReader::connect(&subject.reader(Start::Earliest, options.credit)?).await?;
    let (begun, cpu_before) = (Instant::now(), cpu(subject.pid)?);
    let end = begun + Duration::from_secs(options.seconds);
    let (mut events, mut last) = (0, begun);
    while let Ok(batch) = timeout_at(end.min(Instant::now() + SILENCE).into(), reader.next_batch()).await {
        events += batch?.len() as u64;
        last = Instant::now();
    }
    let cpu_after = cpu(subject.pid)?;
    reader.close().await;
    Ok(Read {
        client: OWN.to_owned(),
        events,
        events_per_second: events as f64 / last.duration_since(begun).as_secs_f64().max(1e-3),
        server_cpu_us_per_event: (cpu_after - cpu_before).as_secs_f64() * 1e6 / events.max(1) as f64,
    })
}

/// The same by the unmodified azure-eventhub, in a process of its own.
pub(crate) async fn read_by_python(python: PythonReader, subject: &Subject, seconds: u64) -> Result<Read> {
    let cpu_before = cpu(subject.pid)?;
    let running = python.start("from-start", seconds)?;
    let report = tokio::task::spawn_blocking(|| running.finish()).await??;
    let cpu_after = cpu(subject.pid)?;
    Ok(Read {
        client: report.client,
        events: report.events,
        events_per_second: report.events as f64 / report.seconds.max(1e-3),
        server_cpu_us_per_event: (cpu_after - cpu_before).as_secs_f64() * 1e6 / report.events.max(1) as f64,
    })
}

/// A Python with azure-eventhub, and the hub that it reads.
#[derive(Debug, Clone)]
pub(crate) struct PythonReader {
    pub(crate) python: PathBuf,
    pub(crate) ready_file: PathBuf,
}

/// A script that reads.
pub(super) struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

/// What the script says at its end.
#[derive(Debug, Deserialize)]
pub(super) struct PythonReport {
    pub(super) client: String,
    pub(super) events: u64,
    /// From the first event to the last.
    pub(super) seconds: f64,
    pub(super) latency: Option<Latency>,
}

impl PythonReader {
    /// Starts to read; ends by itself so many seconds after it began to get events.
    pub(super) fn start(&self, from: &str, seconds: u64) -> Result<Running> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("read_events.py");
        let mut command = Command::new(&self.python);
        command.arg(script).arg(&self.ready_file).args([from, &seconds.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().context("Python could not be started")?;
        let lines = BufReader::new(child.stdout.take().context("the output of Python is a pipe")?);
        Ok(Running { child, lines })
    }
}

impl Running {
    /// Returns once events of every partition have come.
    pub(super) fn ready(&mut self) -> Result<()> {
        match self.line()?.as_str() {
            "reading" => Ok(()),
            other => bail!("the Python reader said `{other}` instead of `reading`"),
        }
    }

    /// What it read, once it has ended.
    pub(super) fn finish(mut self) -> Result<PythonReport> {
        let mut line = self.line()?;
        if line == "reading" {
            line = self.line()?;
        }
        serde_json::from_str(&line).with_context(|| format!("the Python reader said `{line}` at its end"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
