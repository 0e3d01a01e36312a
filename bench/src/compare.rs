//! All loads on all servers, several times over.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::load::{
    self, Churn, ChurnOptions, Idle, IdleOptions, PublishOptions, Published, Read, ReadOptions,
};
use crate::process::cpu;
use crate::servers::{Kind, Server};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CompareOptions {
    /// The release build of Holdfast.
    #[arg(long, value_name = "FILE")]
    pub(crate) holdfast: PathBuf,
    /// The program mosquitto; left out when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) mosquitto: Option<PathBuf>,
    /// The program nats-server; left out when absent.
    #[arg(long, value_name = "FILE")]
    pub(crate) nats: Option<PathBuf>,
    /// A Python with azure-eventhub, which then reads too.
    #[arg(long, value_name = "FILE")]
    pub(crate) python: Option<PathBuf>,
    /// Rounds; the median counts.
    #[arg(long, default_value_t = 3)]
    pub(crate) runs: usize,
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Devices of the idle load.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) devices: usize,
}

impl CompareOptions {
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![Kind::Holdfast(self.holdfast.clone())];
        kinds.extend(self.mosquitto.clone().map(Kind::Mosquitto));
        kinds.extend(self.nats.clone().map(Kind::NatsSynced));
        kinds
    }
}

/// Everything that was measured on one server in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Round {
    pub(crate) server: &'static str,
    pub(crate) churn: Churn,
    pub(crate) idle: Idle,
    pub(crate) window_1: Published,
    pub(crate) window_10: Published,
    /// 2,000 messages a second from 100 devices.
    pub(crate) paced: Published,
    /// Only Holdfast has an event stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read: Option<Read>,
    /// The same by the unmodified azure-eventhub for Python.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) read_by_python: Option<Read>,
}

/// Runs all rounds; servers take turns, so that other work on the machine meets them alike.
pub(crate) async fn compare(options: &CompareOptions, below: &Path) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for number in 1..=options.runs {
        for kind in options.kinds() {
            eprintln!("round {number} of {}: {}", options.runs, kind.name());
            rounds.push(round(&kind, options, below).await.with_context(|| kind.name())?);
        }
    }
    Ok(rounds)
}

async fn round(kind: &Kind, options: &CompareOptions, below: &Path) -> Result<Round> {
    let seconds = options.seconds;
    let churn = {
        let server = Server::start(kind, below)?;
        let churn = ChurnOptions { concurrency: 32, seconds };
        server.subject().register(churn.devices())?;
        load::churn(server.subject(), churn).await?
    };
    let idle = {
        let mut server = Server::start(kind, below)?;
        server.subject().register(options.devices)?;
        // What registering took must not hide what the connections take.
        server.restart()?;
        let idle = IdleOptions { devices: options.devices, hold: seconds, unsubscribed: false };
        load::idle(server.subject(), idle).await?
    };
    let publish = PublishOptions { devices: 100, qos: 1, window: 1, seconds, warmup: 2, rate: None };
    let server = Server::start(kind, below)?;
    server.subject().register(publish.devices)?;
    if let Kind::NatsSynced(_) = kind {
        server.subject().keep_messages().await?;
    }
    let paced = load::publish(server.subject(), PublishOptions { rate: Some(2_000), ..publish }).await?;
    let window_1 = load::publish(server.subject(), publish).await?;
    let mut read = None;
    let mut read_by_python = None;
    if let Kind::Holdfast(_) = kind {
        read = Some(load::read(server.subject(), ReadOptions { seconds, credit: 300 }).await?);
        if let Some(python) = &options.python {
            read_by_python = Some(by_python(python, &server, seconds)?);
        }
    }
    let window_10 = load::publish(server.subject(), PublishOptions { window: 10, ..publish }).await?;
    Ok(Round { server: kind.name(), churn, idle, window_1, window_10, paced, read, read_by_python })
}

/// Reads with the unmodified SDK, in a process of its own.
fn by_python(python: &Path, server: &Server, seconds: u64) -> Result<Read> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("read_events.py");
    let cpu_before = cpu(server.subject().pid)?;
    let output = Command::new(python)
        .arg(&script)
        .arg(server.ready_file())
        .arg(seconds.to_string())
        .stderr(Stdio::inherit())
        .output()
        .context("Python could not be started")?;
    let cpu_after = cpu(server.subject().pid)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.split_whitespace().map(str::parse::<f64>);
    let mut number = || numbers.next().and_then(Result::ok).context("the Python reader gave no count");
    let (events, taken) = (number()?, number()?);
    Ok(Read {
        events: events as u64,
        events_per_second: events / taken.max(1e-3),
        server_cpu_us_per_event: (cpu_after - cpu_before).as_secs_f64() * 1e6 / events.max(1.0),
    })
}
