//! A storm of connects: all devices come back at once, each once, and stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use sim::Device;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::process::cpu;
use crate::subject::Subject;

/// How long what a server still owes after the last connect, such as its records, counts as theirs.
const AFTERMATH: Duration = Duration::from_secs(1);
/// How long after that Holdfast has written down the use of each device and looked at the whole fleet at least once: it does
/// both every 20 s while devices come and go.
const LOOK: Duration = Duration::from_secs(21);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct StormOptions {
    /// Devices that connect. Both sides need a file descriptor for each.
    #[arg(long, default_value_t = 15_000)]
    pub(crate) devices: usize,
    /// Handshakes under way at a time.
    #[arg(long, default_value_t = 32)]
    pub(crate) concurrency: usize,
    /// Stay 21 s longer, and take what a Holdfast needs to look at the fleet.
    #[arg(long)]
    pub(crate) look: bool,
}

/// What a storm took.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Storm {
    pub(crate) devices: usize,
    pub(crate) seconds: f64,
    pub(crate) connects_per_second: f64,
    /// With what the server did in the second after the last connect.
    pub(crate) server_cpu_ms_per_connect: f64,
    /// With what it did in the 22 s after it, a look at the whole fleet among it, where that was asked for.
    pub(crate) server_cpu_ms_per_connect_with_look: Option<f64>,
}

/// Connects every device once, as fast as the server takes them.
pub(crate) async fn storm(subject: &Subject, options: StormOptions) -> Result<Storm> {
    let identities: Vec<_> =
        (0..options.devices).map(|place| subject.device(place)).collect::<Result<_>>()?;
    let places = Arc::new(Semaphore::new(options.concurrency));
    let (begun, cpu_before) = (Instant::now(), cpu(subject.pid)?);
    let mut connecting = JoinSet::new();
    for identity in identities {
        let places = places.clone();
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            let device = Device::connect(&identity).await;
            device.with_context(|| format!("{} did not connect", identity.device))
        });
    }
    let mut devices = Vec::with_capacity(options.devices);
    while let Some(connected) = connecting.join_next().await {
        devices.push(connected??);
    }
    let seconds = begun.elapsed().as_secs_f64();
    tokio::time::sleep(AFTERMATH).await;
    let count = options.devices.max(1) as f64;
    let per_connect = || anyhow::Ok((cpu(subject.pid)? - cpu_before).as_secs_f64() * 1e3 / count);
    let server_cpu_ms_per_connect = per_connect()?;
    let mut server_cpu_ms_per_connect_with_look = None;
    if options.look {
        tokio::time::sleep(LOOK).await;
        server_cpu_ms_per_connect_with_look = Some(per_connect()?);
    }
    Ok(Storm {
        devices: options.devices,
        seconds,
        connects_per_second: count / seconds,
        server_cpu_ms_per_connect,
        server_cpu_ms_per_connect_with_look,
    })
}
