//! A storm of connects: all devices come back at once, each once, and stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use sim::{Device, DeviceOptions};
use tokio::sync::{Mutex, Semaphore};
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
    /// Have a Holdfast look at the fleet before, stay 21 s longer, and take what it needs to look again.
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
    storm_by_turns(subject, options, options.devices, &Mutex::new(())).await
}

/// The same in slices of so many devices, in turns with the other storms that share this lock: each slice has the machine for
/// itself, and all servers see the same machine.
pub(crate) async fn storm_by_turns(
    subject: &Subject,
    options: StormOptions,
    slice: usize,
    lock: &Mutex<()>,
) -> Result<Storm> {
    let identities: Vec<_> =
        (0..options.devices).map(|place| subject.device(place)).collect::<Result<_>>()?;
    let cpu_before = cpu(subject.pid)?;
    let (mut devices, mut seconds) = (Vec::with_capacity(options.devices), 0.0);
    for slice in identities.chunks(slice.max(1)) {
        // Who waits longest is next.
        let _turn = lock.lock().await;
        let begun = Instant::now();
        connect_all(slice, options.concurrency, &mut devices).await?;
        seconds += begun.elapsed().as_secs_f64();
    }
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

async fn connect_all(
    identities: &[DeviceOptions],
    concurrency: usize,
    devices: &mut Vec<Device>,
) -> Result<()> {
    let places = Arc::new(Semaphore::new(concurrency));
    let mut connecting = JoinSet::new();
    for identity in identities.iter().cloned() {
        let places = places.clone();
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            let device = Device::connect(&identity).await;
            device.with_context(|| format!("{} did not connect", identity.device))
        });
    }
    while let Some(connected) = connecting.join_next().await {
        devices.push(connected??);
    }
    Ok(())
}
