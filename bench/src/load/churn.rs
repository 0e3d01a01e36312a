//! Connecting and disconnecting: a full TLS 1.3 handshake, CONNECT, CONNACK, DISCONNECT, close.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sim::Device;
use tokio::task::JoinSet;

use crate::process::cpu;
use crate::subject::Subject;

/// Identities that each of the clients takes in turn, so that none meets its own last connection.
const IDENTITIES_EACH: usize = 32;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ChurnOptions {
    /// Clients at a time.
    #[arg(long, default_value_t = 32)]
    pub(crate) concurrency: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
}

impl ChurnOptions {
    /// Devices that must be registered.
    pub(crate) fn devices(&self) -> usize {
        self.concurrency * IDENTITIES_EACH
    }
}

/// What connecting costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Churn {
    pub(crate) connects: u64,
    pub(crate) failed: u64,
    pub(crate) connects_per_second: f64,
    pub(crate) server_cpu_ms_per_connect: f64,
}

/// Connects and disconnects for a while.
pub(crate) async fn churn(subject: &Subject, options: ChurnOptions) -> Result<Churn> {
    let (connects, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for client in 0..options.concurrency {
        let identities: Vec<_> = (0..IDENTITIES_EACH)
            .map(|identity| subject.device(client * IDENTITIES_EACH + identity))
            .collect::<Result<_>>()?;
        let (connects, failed, stop) = (connects.clone(), failed.clone(), stop.clone());
        clients.spawn(async move {
            for identity in identities.iter().cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                match Device::connect(identity).await {
                    Ok(device) => {
                        device.disconnect().await;
                        connects.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (begun, cpu_before, before) = (Instant::now(), cpu(subject.pid)?, connects.load(Ordering::Relaxed));
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let (elapsed, cpu_after) = (begun.elapsed(), cpu(subject.pid)?);
    let count = connects.load(Ordering::Relaxed) - before;
    stop.store(true, Ordering::Relaxed);
    while clients.join_next().await.is_some() {}
    Ok(Churn {
        connects: count,
        failed: failed.load(Ordering::Relaxed),
        connects_per_second: count as f64 / elapsed.as_secs_f64(),
        server_cpu_ms_per_connect: (cpu_after - cpu_before).as_secs_f64() * 1e3 / count.max(1) as f64,
    })
}
