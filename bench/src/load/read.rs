//! Reading the event stream from its beginning, as a back end does.

use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;
use sim::EventReader;
use tokio::time::timeout_at;

use crate::process::cpu;
use crate::subject::Subject;

/// A stream that gives nothing for so long is read to its end.
const SILENCE: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct ReadOptions {
    /// The longest time to read.
    #[arg(long, default_value_t = 8)]
    pub(crate) seconds: u64,
    /// Events under way per partition (the SDKs' prefetch).
    #[arg(long, default_value_t = 300)]
    pub(crate) credit: u32,
}

/// What reading an event costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Read {
    pub(crate) events: u64,
    pub(crate) events_per_second: f64,
    pub(crate) server_cpu_us_per_event: f64,
}

/// Reads all partitions from the beginning to the end, or for a while.
pub(crate) async fn read(subject: &Subject, options: ReadOptions) -> Result<Read> {
    let mut reader = EventReader::connect(&subject.reader(options.credit)?).await?;
    let (begun, cpu_before) = (Instant::now(), cpu(subject.pid)?);
    let end = begun + Duration::from_secs(options.seconds);
    let (mut events, mut last) = (0, begun);
    while let Ok(batch) = timeout_at(end.min(Instant::now() + SILENCE).into(), reader.next_batch()).await {
        events += batch?.len() as u64;
        last = Instant::now();
    }
    let cpu_after = cpu(subject.pid)?;
    reader.close().await;
    Ok(Read {
        events,
        events_per_second: events as f64 / last.duration_since(begun).as_secs_f64().max(1e-3),
        server_cpu_us_per_event: (cpu_after - cpu_before).as_secs_f64() * 1e6 / events.max(1) as f64,
    })
}
