//! Memory of AMQP connections that wait for events: each authenticated by `$cbs`, with one session and a receiver on
//! one partition, so with three links.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use sim::{EventReader, Start};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::process::rss_kib;
use crate::subject::Subject;

/// Partitions that the hub needs: five readers of a consumer group may read one at a time.
pub(crate) const PARTITIONS: usize = 127;
const CONCURRENCY: usize = 32;
/// The SDKs' prefetch.
const CREDIT: u32 = 300;

#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct AmqpIdleOptions {
    /// Connections; at most five for each partition of the hub.
    #[arg(long, default_value_t = 600)]
    pub(crate) connections: usize,
    /// Partitions of the hub.
    #[arg(long, default_value_t = PARTITIONS)]
    pub(crate) partitions: usize,
    /// Seconds between the last connect and the reading.
    #[arg(long, default_value_t = 2)]
    pub(crate) hold: u64,
}

/// What a waiting reader costs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct AmqpIdle {
    pub(crate) connections: usize,
    pub(crate) kib_per_connection: f64,
}

/// Connects the readers and holds them. What the second half takes counts: the first connections of a server make it fill the
/// buffers of its threads, some 2 MiB, which is no cost of a reader.
pub(crate) async fn amqp_idle(subject: &Subject, options: AmqpIdleOptions) -> Result<AmqpIdle> {
    let mut readers = connect(subject, &options, 0..options.connections / 2).await?;
    tokio::time::sleep(Duration::from_secs(options.hold)).await;
    let before = rss_kib(subject.pid)?;
    let second_half = options.connections / 2..options.connections;
    let count = second_half.len();
    readers.extend(connect(subject, &options, second_half).await?);
    tokio::time::sleep(Duration::from_secs(options.hold)).await;
    let grown = rss_kib(subject.pid)?.saturating_sub(before);
    Ok(AmqpIdle { connections: options.connections, kib_per_connection: grown as f64 / count.max(1) as f64 })
}

async fn connect(
    subject: &Subject,
    options: &AmqpIdleOptions,
    numbers: Range<usize>,
) -> Result<Vec<EventReader>> {
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut connecting = JoinSet::new();
    for number in numbers {
        let (reader, places) = (subject.reader(Start::Latest, CREDIT)?, places.clone());
        let partition = (number % options.partitions.max(1)).to_string();
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            anyhow::Ok(EventReader::connect_to(&reader, &partition).await?)
        });
    }
    let mut readers = Vec::new();
    while let Some(reader) = connecting.join_next().await {
        readers.push(reader??);
    }
    Ok(readers)
}
