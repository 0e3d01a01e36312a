//! How many reports to twins become durable in a second:
//! `cargo run --release --package holdfast-store --example twin_bench [DEVICES] [SECONDS]`.
//!
//! Each device waits for its own report before the next, as connections do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holdfast_store::{SqliteConfig, SqliteRegistry};
use hub::identity::Identity;
use hub::ports::registry::{Change, Registry as _, Versioned, Write};
use hub::record::{Key, Record};
use hub::twin::{Members, Twin};
use jiff::Timestamp;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (devices, seconds) = (number(256)?, number(5)?);
    // Beside the working directory: the one for temporary files is often in memory, where a sync costs nothing.
    let directory = tempfile::tempdir_in(".")?;
    let path = directory.path().join("registry.db");
    let registry = Arc::new(SqliteRegistry::open(&path, &SqliteConfig::default())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let done = Arc::new(AtomicU64::new(0));
    let end = Instant::now() + Duration::from_secs(seconds);
    let tasks: Vec<_> =
        (0..devices).map(|n| runtime.spawn(report(registry.clone(), n, end, done.clone()))).collect();
    for task in tasks {
        runtime.block_on(task)??;
    }
    println!("{devices} devices: {} durable reports per second", done.load(Ordering::Relaxed) / seconds);
    Ok(())
}

/// Reports again and again as the hub does: load, decide, commit, again when somebody else came in between.
async fn report(
    registry: Arc<SqliteRegistry>,
    device: u64,
    end: Instant,
    done: Arc<AtomicU64>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let key = Key::Twin(Identity::parse(&format!("device-{device}"))?);
    let mut count = 0_u64;
    while Instant::now() < end {
        let (twin, replaces) = match registry.load(key.clone()).await? {
            Some(Versioned { version, record: Record::Twin(twin) }) => (*twin, Some(version)),
            _ => (Twin::new("1", Timestamp::now()), None),
        };
        count += 1;
        let patch: Members = serde_json::from_value(json!({
            "temperature": count as f64 / 10.0,
            "firmware": { "version": "1.2.3", "state": "idle" },
            "uptime": count,
        }))?;
        let twin = twin.reported(&patch, None, Timestamp::now())?;
        let write = Write { key: key.clone(), replaces, record: Some(Record::Twin(Box::new(twin))) };
        registry.commit(Change { writes: vec![write], ..Change::default() }).await?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
