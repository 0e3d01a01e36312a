//! Memory of devices that are connected, subscribed, and silent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use sim::Device;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::process::rss_kib;
use crate::subject::{Subject, name};

/// Devices that connect at the same time.
const CONCURRENCY: usize = 64;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct IdleOptions {
    /// Devices that stay connected.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) devices: usize,
    /// Seconds between the last connect and the measurement.
    #[arg(long, default_value_t = 8)]
    pub(crate) hold: u64,
    /// Leave the subscription out.
    #[arg(long)]
    pub(crate) unsubscribed: bool,
}

/// What a silent device costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Idle {
    pub(crate) devices: usize,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    pub(crate) kib_per_device: f64,
}

/// Connects all devices, each with one subscription for messages to it, and holds them.
pub(crate) async fn idle(subject: &Subject, options: IdleOptions) -> Result<Idle> {
    let rss_before_kib = rss_kib(subject.pid)?;
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut connecting = JoinSet::new();
    for place in 0..options.devices {
        let (identity, places) = (subject.device(place)?, places.clone());
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            let mut device = Device::connect(&identity)
                .await
                .with_context(|| format!("{} did not connect", identity.device))?;
            if !options.unsubscribed {
                device.subscribe(&format!("devices/{}/messages/devicebound/#", name(place))).await?;
            }
            anyhow::Ok(device)
        });
    }
    let mut devices = Vec::with_capacity(options.devices);
    while let Some(connected) = connecting.join_next().await {
        devices.push(connected??);
    }
    tokio::time::sleep(Duration::from_secs(options.hold)).await;
    let rss_after_kib = rss_kib(subject.pid)?;
    let grown = rss_after_kib.saturating_sub(rss_before_kib);
    Ok(Idle {
        devices: options.devices,
        rss_before_kib,
        rss_after_kib,
        kib_per_device: grown as f64 / options.devices.max(1) as f64,
    })
}
