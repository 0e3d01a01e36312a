//! Durable updates of twins at full rate: each device reports, waits for the answer, and reports again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde::Serialize;
use sim::{CONVERSATION, Device, DeviceOptions};
use tokio::task::JoinSet;

use super::latency::Latency;
use crate::lanes;
use crate::process::cpu;
use crate::subject::Subject;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReportsOptions {
    /// Devices that report.
    #[arg(long, default_value_t = 200)]
    pub(crate) devices: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
}

/// What an update costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Reports {
    pub(crate) updates: u64,
    pub(crate) updates_per_second: f64,
    pub(crate) server_cpu_us_per_update: f64,
    /// From the report to the answer that says it is durable.
    pub(crate) answered: Latency,
}

const WARM_UP: Duration = Duration::from_secs(1);
const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// Reports for a while.
pub(crate) async fn reports(subject: &Subject, options: ReportsOptions) -> Result<Reports> {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut reporting = JoinSet::new();
    for place in 0..options.devices {
        reporting.spawn_on(report(subject.device(place)?, phase.clone()), &lanes::of(place));
    }
    tokio::time::sleep(WARM_UP).await;
    let (begun, cpu_before) = (Instant::now(), cpu(subject.pid)?);
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    phase.store(OVER, Ordering::Relaxed);
    let (elapsed, spent) = (begun.elapsed(), cpu(subject.pid)? - cpu_before);
    let mut times = Vec::new();
    while let Some(reported) = reporting.join_next().await {
        times.extend(reported?.context("a device could not go on")?);
    }
    Ok(Reports {
        updates: times.len() as u64,
        updates_per_second: times.len() as f64 / elapsed.as_secs_f64(),
        server_cpu_us_per_update: spent.as_secs_f64() * 1e6 / times.len().max(1) as f64,
        answered: Latency::of(times),
    })
}

/// One device; gives the microseconds to each answer that came while it was measured.
async fn report(identity: DeviceOptions, phase: Arc<AtomicU8>) -> Result<Vec<u32>> {
    let mut device = Device::connect(&identity).await?;
    device.subscribe_all(&CONVERSATION).await?;
    let mut times = Vec::new();
    for number in 0_u64.. {
        if phase.load(Ordering::Relaxed) == OVER {
            break;
        }
        let begun = Instant::now();
        device.report(patch(number)).await?;
        if phase.load(Ordering::Relaxed) == MEASURING {
            times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        }
    }
    device.disconnect().await;
    Ok(times)
}

fn patch(number: u64) -> Bytes {
    format!(r#"{{"uptime":{number},"temperature":{{"inside":21.5,"outside":4}}}}"#).into()
}
