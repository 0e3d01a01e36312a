//! QoS 1 messages: each device keeps a window of them under way.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use serde::Serialize;
use sim::{Device, DeviceOptions, QoS, SimError, topic_with_properties};
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval_at};

use super::latency::{Latency, monotonic_nanoseconds};
use crate::lanes;
use crate::process::cpu;
use crate::subject::Subject;

/// Bytes of a payload.
const PAYLOAD_BYTES: usize = 256;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct PublishOptions {
    /// Devices that send.
    #[arg(long, default_value_t = 100)]
    pub(crate) devices: usize,
    /// Quality of service; 1 is what is measured.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=1))]
    pub(crate) qos: u8,
    /// Messages that each device has under way.
    #[arg(long, default_value_t = 1)]
    pub(crate) window: usize,
    /// How long to measure.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 2)]
    pub(crate) warmup: u64,
    /// Messages a second of all devices together; as fast as they are acknowledged when absent.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// Let the devices run wherever there is room, so that their packets come in at any processor. Otherwise each stays with one.
    #[arg(long)]
    pub(crate) free: bool,
}

/// What a message costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Published {
    pub(crate) messages: u64,
    pub(crate) messages_per_second: f64,
    pub(crate) server_cpu_us_per_message: f64,
    /// From the send to its acknowledgement.
    pub(crate) acknowledged: Latency,
}

const WARMING_UP: u8 = 0;
const MEASURING: u8 = 1;
const OVER: u8 = 2;

/// Sends for a while.
pub(crate) async fn publish(subject: &Subject, options: PublishOptions) -> Result<Published> {
    let warm_up = async {
        tokio::time::sleep(Duration::from_secs(options.warmup)).await;
        Ok(())
    };
    publish_once(subject, options, warm_up).await
}

/// Sends, and measures for a while once `ready` is over.
pub(crate) async fn publish_once(
    subject: &Subject,
    options: PublishOptions,
    ready: impl Future<Output = Result<()>>,
) -> Result<Published> {
    let phase = Arc::new(AtomicU8::new(WARMING_UP));
    let mut senders = JoinSet::new();
    for place in 0..options.devices {
        let runtime = if options.free { Handle::current() } else { lanes::of(place) };
        senders.spawn_on(send(subject.device(place)?, options, place, phase.clone()), &runtime);
    }
    ready.await?;
    let (begun, cpu_before) = (Instant::now(), cpu(subject.pid)?);
    phase.store(MEASURING, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    phase.store(OVER, Ordering::Relaxed);
    let (elapsed, cpu_after) = (begun.elapsed(), cpu(subject.pid)?);
    let mut latencies = Vec::new();
    while let Some(sent) = senders.join_next().await {
        latencies.extend(sent?.context("a device could not go on")?);
    }
    let count = latencies.len();
    Ok(Published {
        messages: count as u64,
        messages_per_second: count as f64 / elapsed.as_secs_f64(),
        server_cpu_us_per_message: (cpu_after - cpu_before).as_secs_f64() * 1e6 / count.max(1) as f64,
        acknowledged: Latency::of(latencies),
    })
}

/// When a message was sent, in nanoseconds of the shared clock, as its payload says; `None` of one that is not measured.
pub(super) fn sent_at(payload: &[u8]) -> Option<u64> {
    payload.first_chunk().map(|stamp| u64::from_le_bytes(*stamp)).filter(|sent| *sent > 0)
}

/// A payload that begins with this time, 0 for none.
fn stamped(nanoseconds: u64) -> Bytes {
    let mut payload = vec![b'x'; PAYLOAD_BYTES];
    payload[..8].copy_from_slice(&nanoseconds.to_le_bytes());
    payload.into()
}

/// One device; gives the microseconds to each acknowledgement that came while it was measured.
async fn send(
    identity: DeviceOptions,
    options: PublishOptions,
    place: usize,
    phase: Arc<AtomicU8>,
) -> Result<Vec<u32>, SimError> {
    let mut device = Device::connect(&identity).await?;
    let topic = topic_with_properties(&identity.device, &[]);
    let unstamped = stamped(0);
    let mut pace = options.rate.map(|rate| pace(options.devices, place, rate));
    let (mut under_way, mut latencies) = (VecDeque::with_capacity(options.window), Vec::new());
    loop {
        if phase.load(Ordering::Relaxed) == OVER {
            break;
        }
        while under_way.len() < options.window {
            // At full rate a stamp for each would cost the generator more than it tells.
            let mut payload = unstamped.clone();
            if let Some(pace) = &mut pace {
                pace.tick().await;
                if phase.load(Ordering::Relaxed) == MEASURING {
                    payload = stamped(monotonic_nanoseconds());
                }
            }
            under_way.push_back(Instant::now());
            device.enqueue(&topic, payload, QoS::AtLeastOnce)?;
        }
        device.next_acknowledged().await?;
        let mut take = |sent: Option<Instant>| {
            if let (MEASURING, Some(sent)) = (phase.load(Ordering::Relaxed), sent) {
                latencies.push(u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        };
        // Acknowledgements come in the order of the messages [MQTT-4.6.0-2].
        take(under_way.pop_front());
        while device.acknowledged()?.is_some() {
            take(under_way.pop_front());
        }
    }
    device.disconnect().await;
    Ok(latencies)
}

/// Each device sends in turn, so that the rate is even.
fn pace(devices: usize, place: usize, rate: u32) -> Interval {
    let each = Duration::from_secs_f64(devices as f64 / f64::from(rate.max(1)));
    let first = tokio::time::Instant::now() + each.mul_f64(place as f64 / devices as f64);
    let mut pace = interval_at(first, each);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}
