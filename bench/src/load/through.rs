//! From a device to a back end: MQTT in, durable, and out to a reader of the event stream over AMQP.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;
use sim::{EventReader, Start};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use super::latency::{Latency, monotonic_nanoseconds};
use super::publish::{PublishOptions, Published, publish_once, sent_at};
use super::read::{OWN, PythonReader};
use crate::subject::Subject;

/// How long after the last message events are still awaited.
const SILENCE: Duration = Duration::from_secs(1);
/// How long reader and senders run before they are measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// The SDKs' prefetch.
const CREDIT: u32 = 300;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ThroughOptions {
    /// Devices that send.
    #[arg(long, default_value_t = 100)]
    pub(crate) devices: usize,
    /// Messages a second of all devices together.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u32,
    /// How long to measure.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
}

/// What a message takes from end to end.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Through {
    pub(crate) client: String,
    /// Acknowledged to devices while it was measured.
    pub(crate) messages: u64,
    /// Of those sent while it was measured, how many the reader got.
    pub(crate) events: u64,
    pub(crate) events_per_second: f64,
    /// For taking a message in and giving it out.
    pub(crate) server_cpu_us_per_message: f64,
    /// From the send of the device to the callback of the reader.
    pub(crate) latency: Latency,
}

/// Sends at an even rate while the generator's own reader reads.
pub(crate) async fn through(subject: &Subject, options: ThroughOptions) -> Result<Through> {
    let reader = EventReader::connect(&subject.reader(Start::Latest, CREDIT)?).await?;
    let (over, is_over) = oneshot::channel();
    let reading = tokio::spawn(times_of_events(reader, is_over));
    let warm_up = async {
        tokio::time::sleep(WARM_UP).await;
        Ok(())
    };
    let published = publish_once(subject, paced(options), warm_up).await?;
    let _ = over.send(());
    let times = reading.await??;
    Ok(measured(OWN.to_owned(), &published, times.len() as u64, options, Latency::of(times)))
}

/// The same while the unmodified azure-eventhub reads, in a process of its own.
pub(crate) async fn through_by_python(
    python: PythonReader,
    subject: &Subject,
    options: ThroughOptions,
) -> Result<Through> {
    let mut running = python.start("latest", options.seconds + SILENCE.as_secs())?;
    let (events_come, ready) = oneshot::channel();
    let reading = tokio::task::spawn_blocking(move || {
        let ready = running.ready();
        let _ = events_come.send(());
        ready.and_then(|()| running.finish())
    });
    let ready = async { Ok(ready.await?) };
    let published = publish_once(subject, paced(options), ready).await?;
    let report = reading.await??;
    let latency = report.latency.context("the Python reader timed no event")?;
    Ok(measured(report.client, &published, report.events, options, latency))
}

fn paced(options: ThroughOptions) -> PublishOptions {
    let ThroughOptions { devices, rate, seconds } = options;
    PublishOptions { devices, qos: 1, window: 1, seconds, warmup: 0, rate: Some(rate), free: false }
}

fn measured(
    client: String,
    published: &Published,
    events: u64,
    options: ThroughOptions,
    latency: Latency,
) -> Through {
    Through {
        client,
        messages: published.messages,
        events,
        events_per_second: events as f64 / options.seconds.max(1) as f64,
        server_cpu_us_per_message: published.server_cpu_us_per_message,
        latency,
    }
}

/// The microseconds that each measured event was under way, until the senders are done and nothing comes any more.
async fn times_of_events(mut reader: EventReader, mut is_over: oneshot::Receiver<()>) -> Result<Vec<u32>> {
    let mut times = Vec::new();
    loop {
        match timeout(SILENCE, reader.next_batch()).await {
            Ok(events) => {
                let now = monotonic_nanoseconds();
                let sent = events?.into_iter().filter_map(|event| sent_at(&event.body)).collect::<Vec<_>>();
                let time = |sent: u64| u32::try_from(now.saturating_sub(sent) / 1_000).unwrap_or(u32::MAX);
                times.extend(sent.into_iter().map(time));
            }
            Err(_) if is_over.try_recv() == Err(TryRecvError::Empty) => {}
            Err(_) => break,
        }
    }
    reader.close().await;
    Ok(times)
}
