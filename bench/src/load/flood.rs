//! A flood of bad tokens beside good traffic: what those who behave feel of it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use super::attack::{AttackOptions, Attacked};
use super::publish::{PublishOptions, Published, publish, publish_once};
use crate::subject::Subject;

/// How long a flood runs before it is measured.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct FloodOptions {
    #[command(flatten)]
    pub(crate) attack: AttackOptions,
    /// Messages a second that those devices send together.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u32,
    /// How long to measure before the flood, and again in it.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
}

/// What the same good devices felt before a flood and in it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Flood {
    pub(crate) attempts_per_second: f64,
    pub(crate) before: Published,
    pub(crate) during: Published,
    /// The 99th percentile in the flood, to that before.
    pub(crate) p99_ratio: f64,
    /// What the server spent more than before.
    pub(crate) server_cpu_ms_per_attempt: f64,
}

/// Sends at an even rate, first alone and then beside clients with bad tokens, which are a process of their own, of low priority:
/// they stand for clients elsewhere, which take no time of this machine.
pub(crate) async fn flood(subject: &Subject, ready_file: &Path, options: FloodOptions) -> Result<Flood> {
    let paced = PublishOptions {
        devices: options.attack.devices,
        qos: 1,
        window: 1,
        seconds: options.seconds,
        warmup: WARM_UP.as_secs(),
        rate: Some(options.rate),
        free: false,
    };
    let before = publish(subject, paced).await?;
    let attackers = Attackers::start(subject, ready_file, options.attack)?;
    let ready = async {
        tokio::time::sleep(WARM_UP).await;
        Ok(())
    };
    let during = publish_once(subject, paced, ready).await?;
    let attacked = tokio::task::spawn_blocking(|| attackers.stop()).await??;
    let cpu = |published: &Published| {
        published.server_cpu_us_per_message * published.messages as f64 / options.seconds.max(1) as f64
    };
    Ok(Flood {
        attempts_per_second: attacked.attempts_per_second,
        p99_ratio: during.acknowledged.p99_ms / before.acknowledged.p99_ms,
        server_cpu_ms_per_attempt: (cpu(&during) - cpu(&before)) / 1e3 / attacked.attempts_per_second,
        before,
        during,
    })
}

/// The process with the bad clients.
struct Attackers(Child);

impl Attackers {
    fn start(subject: &Subject, ready_file: &Path, options: AttackOptions) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["attack", "-o", "json", "--ready-file"]).arg(ready_file);
        command.args(["--listen", &subject.mqtt.ip().to_string()]);
        command.args(["--attempts", &options.attempts.to_string()]);
        command.args(["--addresses", &options.addresses.to_string()]);
        command.args(["--devices", &options.devices.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        Ok(Self(command.spawn().context("the attackers could not be started")?))
    }

    /// Ends them; gives what they did.
    fn stop(mut self) -> Result<Attacked> {
        drop(self.0.stdin.take());
        let text = std::io::read_to_string(self.0.stdout.take().context("the output is a pipe")?)?;
        let status = self.0.wait()?;
        ensure!(status.success(), "the attackers ended with {status}");
        serde_json::from_str(&text).with_context(|| format!("the attackers said `{text}`"))
    }
}

impl Drop for Attackers {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
