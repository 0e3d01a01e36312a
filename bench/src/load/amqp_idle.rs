//! Memory of AMQP connections that wait for events: each authenticated by `$cbs`, with one session and a receiver on
//! one partition, so with three links.

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

/// Connects the readers and holds them.
pub(crate) async fn amqp_idle(subject: &Subject, options: AmqpIdleOptions) -> Result<AmqpIdle> {
    let before = rss_kib(subject.pid)?;
    let places = Arc::new(Semaphore::new(CONCURRENCY));
    let mut connecting = JoinSet::new();
    for number in 0..options.connections {
        let (reader, places) = (subject.reader(Start::Latest, CREDIT)?, places.clone());
        let partition = (number % options.partitions.max(1)).to_string();
        connecting.spawn(async move {
            let _place = places.acquire().await?;
            anyhow::Ok(EventReader::connect_to(&reader, &partition).await?)
        });
    }
    let mut readers = Vec::with_capacity(options.connections);
    while let Some(reader) = connecting.join_next().await {
        readers.push(reader??);
    }
    tokio::time::sleep(Duration::from_secs(options.hold)).await;
    let grown = rss_kib(subject.pid)?.saturating_sub(before);
    Ok(AmqpIdle {
        connections: options.connections,
        kib_per_connection: grown as f64 / options.connections.max(1) as f64,
    })
}
