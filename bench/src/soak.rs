//! Whether connections leak: many connects and disconnects, twice, and the memory after each.

use anyhow::Result;
use serde::Serialize;
use sim::Device;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

use crate::process::rss_kib;
use crate::servers::{Kind, Server};
use crate::subject::Subject;

/// Clients at a time.
const CONCURRENCY: usize = 16;
/// How long the server may take to let go of the last connections.
const SETTLE: Duration = Duration::from_secs(3);
/// What the second half may add.
const GROWTH_KIB_MAX: u64 = 2 * 1_024;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SoakOptions {
    /// Connects in each half.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) cycles: u64,
}

/// What two halves left behind.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Soak {
    pub(crate) cycles_in_each_half: u64,
    pub(crate) rss_at_start_kib: u64,
    pub(crate) rss_after_first_kib: u64,
    pub(crate) rss_after_second_kib: u64,
    pub(crate) grown_kib: u64,
    pub(crate) holds: bool,
}

/// Runs both halves on a fresh server.
pub(crate) async fn soak(kind: &Kind, below: &std::path::Path, options: SoakOptions) -> Result<Soak> {
    let server = Server::start(kind, below)?;
    let subject = server.subject();
    subject.register(CONCURRENCY)?;
    let rss_at_start_kib = rss_kib(subject.pid)?;
    let mut after = [0; 2];
    for half in &mut after {
        cycle(subject, options.cycles).await?;
        tokio::time::sleep(SETTLE).await;
        *half = rss_kib(subject.pid)?;
    }
    let grown_kib = after[1].saturating_sub(after[0]);
    Ok(Soak {
        cycles_in_each_half: options.cycles,
        rss_at_start_kib,
        rss_after_first_kib: after[0],
        rss_after_second_kib: after[1],
        grown_kib,
        holds: grown_kib <= GROWTH_KIB_MAX,
    })
}

/// Connects and disconnects; every fourth time the connection is broken off without a word.
async fn cycle(subject: &Subject, cycles: u64) -> Result<()> {
    let left = Arc::new(AtomicU64::new(cycles));
    let mut clients = JoinSet::new();
    for place in 0..CONCURRENCY {
        let (identity, left) = (subject.device(place)?, left.clone());
        clients.spawn(async move {
            let take = |n: u64| n.checked_sub(1);
            while let Ok(number) = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take) {
                let device = Device::connect(&identity).await?;
                if number % 4 != 0 {
                    device.disconnect().await;
                }
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    Ok(())
}
