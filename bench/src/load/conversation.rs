//! The whole conversation: devices with their twin, subscribed to everything that a hub may tell them, while a back end calls
//! their methods and changes their desired properties.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sim::{CONVERSATION, Device, DeviceOptions, Incoming};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::latency::{Latency, monotonic_nanoseconds};
use crate::process::{cpu, rss_kib};
use crate::service::{Errand, Pace, send, twin_path};
use crate::subject::{Subject, name};

/// Devices that connect at the same time.
const CONCURRENCY: usize = 64;
/// How long before the measurement the back end begins to ask.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long the last changes may be on their way.
const AFTERMATH: Duration = Duration::from_secs(1);
/// A prime beside any number of devices: request by request another device, all over the fleet.
const STRIDE: usize = 7_919;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ConversationOptions {
    /// Devices that stay connected.
    #[arg(long, default_value_t = 5_000)]
    pub(crate) devices: usize,
    /// Calls of methods a second.
    #[arg(long, default_value_t = 200)]
    pub(crate) calls: u32,
    /// Changes of desired properties a second.
    #[arg(long, default_value_t = 500)]
    pub(crate) changes: u32,
    /// How long to measure, and how long the devices are silent before.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
}

/// What a conversation costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Conversation {
    pub(crate) devices: usize,
    pub(crate) rss_before_kib: u64,
    /// When all devices were connected and silent.
    pub(crate) rss_after_kib: u64,
    pub(crate) kib_per_device: f64,
    /// After all calls and changes.
    pub(crate) kib_per_device_in_the_end: f64,
    /// From the moment at which a call was due to its answer at the back end, through the device.
    pub(crate) called: Latency,
    /// From the moment at which a change was due to the answer that says it is durable.
    pub(crate) changed: Latency,
    /// From the request of the back end to the device.
    pub(crate) delivered: Latency,
    /// Of calls and changes together, in the proportion of their rates.
    pub(crate) server_cpu_us_per_operation: f64,
}

/// Connects all devices, and talks to them.
pub(crate) async fn conversation(subject: &Subject, options: ConversationOptions) -> Result<Conversation> {
    let rss_before_kib = rss_kib(subject.pid)?;
    let devices = connect(subject, options.devices).await?;
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let rss_after_kib = rss_kib(subject.pid)?;

    let delivered = Arc::new(Mutex::new(Vec::new()));
    let mut listening = JoinSet::new();
    for device in devices {
        listening.spawn(listen(device, delivered.clone()));
    }
    let warm_up = options.seconds.min(WARM_UP.as_secs());
    let (warm, measured) = (talk(subject, options, warm_up), options.seconds);
    warm.await?;
    taken(&delivered);
    let cpu_before = cpu(subject.pid)?;
    let (called, changed) = talk(subject, options, measured).await?;
    let spent = cpu(subject.pid)? - cpu_before;
    tokio::time::sleep(AFTERMATH).await;
    let (operations, delivered) = (called.len() + changed.len(), taken(&delivered));
    if delivered.len() < changed.len() {
        bail!("{} of {} changes came to their devices", delivered.len(), changed.len());
    }
    if let Some(ended) = listening.try_join_next() {
        ended?.context("a device could not go on")?;
    }
    let per_device = |rss: u64| rss.saturating_sub(rss_before_kib) as f64 / options.devices.max(1) as f64;
    Ok(Conversation {
        devices: options.devices,
        rss_before_kib,
        rss_after_kib,
        kib_per_device: per_device(rss_after_kib),
        kib_per_device_in_the_end: per_device(rss_kib(subject.pid)?),
        called: Latency::of(called),
        changed: Latency::of(changed),
        delivered: Latency::of(delivered),
        server_cpu_us_per_operation: spent.as_secs_f64() * 1e6 / operations.max(1) as f64,
    })
}

/// Connects devices that have read their twin and are subscribed to all that a hub may tell them.
async fn connect(subject: &Subject, count: usize) -> Result<Vec<Device>> {
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut connecting = JoinSet::new();
    for place in 0..count {
        let (identity, places) = (subject.device(place)?, places.clone());
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            begin(&identity, place).await.with_context(|| format!("{} did not begin", identity.device))
        });
    }
    let mut devices = Vec::with_capacity(count);
    while let Some(connected) = connecting.join_next().await {
        devices.push(connected??);
    }
    Ok(devices)
}

async fn begin(identity: &DeviceOptions, place: usize) -> Result<Device> {
    let mut device = Device::connect(identity).await?;
    let messages = format!("devices/{}/messages/devicebound/#", name(place));
    let mut filters = CONVERSATION.to_vec();
    filters.push(&messages);
    device.subscribe_all(&filters).await?;
    device.twin().await?;
    Ok(device)
}

/// A desired property by which a device tells how long it was under way.
#[derive(Deserialize)]
struct Stamped {
    /// Microseconds of the clock that all share.
    sent: u64,
}

/// A device: answers each call with what it was called with, and tells how late changes came.
async fn listen(mut device: Device, delivered: Arc<Mutex<Vec<u32>>>) -> Result<()> {
    loop {
        let publish = device.receive().await?;
        match Incoming::of(&publish.topic) {
            Incoming::Call { request_id, .. } => {
                device.answer(request_id, 200, publish.payload.clone()).await?;
            }
            Incoming::Desired => {
                let Stamped { sent } = serde_json::from_slice(&publish.payload)?;
                let late = monotonic_nanoseconds() / 1_000 - sent;
                let late = u32::try_from(late).unwrap_or(u32::MAX);
                delivered.lock().unwrap_or_else(PoisonError::into_inner).push(late);
            }
            Incoming::TwinAnswer { .. } | Incoming::Message => {}
        }
    }
}

fn taken(times: &Mutex<Vec<u32>>) -> Vec<u32> {
    std::mem::take(&mut *times.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Calls methods and changes desired properties for so many seconds; gives the microseconds of both.
async fn talk(subject: &Subject, options: ConversationOptions, seconds: u64) -> Result<(Vec<u32>, Vec<u32>)> {
    let ConversationOptions { devices, calls, changes, .. } = options;
    let seconds = u32::try_from(seconds)?;
    let begin = Instant::now() + Duration::from_millis(50);
    let pace = |rate: u32| Pace { begin, rate, count: rate * seconds };
    let call = move |number: u32| Errand {
        method: "POST",
        path: twin_path(number as usize * STRIDE % devices, "/methods"),
        body: json!({ "methodName": "reboot", "responseTimeoutInSeconds": 30, "payload": { "delay": number } }),
    };
    let change = move |number: u32| Errand {
        method: "PATCH",
        path: twin_path((number as usize * STRIDE + devices / 2) % devices, ""),
        body: json!({ "properties": { "desired": { "sent": monotonic_nanoseconds() / 1_000 } } }),
    };
    tokio::try_join!(send(subject, pace(calls), call), send(subject, pace(changes), change))
}
