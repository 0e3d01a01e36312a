//! What it costs to record decisions: `cargo run --release --package holdfast-store --example record_bench [BATCHES]`.
//!
//! Batches of 512 connections go into a registry in a temporary directory, as the recorder sends them in a storm.

use std::time::{Duration, Instant};

use holdfast_store::{SqliteConfig, SqliteRegistry};
use hub::decision::{Act, Decision, Facts, Origin, TokenFacts};
use hub::ports::registry::Registry as _;
use jiff::Timestamp;

const BATCH: u64 = 512;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batches: u64 = std::env::args().nth(1).map_or(Ok(100), |count| count.parse())?;
    let directory = tempfile::tempdir()?;
    // So few are kept that retention has its part in the cost.
    let config = SqliteConfig { decisions_max: 10_000, ..SqliteConfig::default() };
    let registry = SqliteRegistry::open(&directory.path().join("registry.db"), &config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (mut times, begun) = (Vec::new(), cpu());
    for batch in 0..batches {
        let decisions = (0..BATCH).map(|n| Box::new(connect(batch * BATCH + n))).collect();
        let start = Instant::now();
        runtime.block_on(registry.record(decisions))?;
        times.push(start.elapsed());
    }
    let used = cpu() - begun;
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!("a batch of {BATCH}: p50 {:?}, p99 {:?}, most {:?}", at(50), at(99), at(100));
    println!("CPU for each record: {:.2} µs", used.as_secs_f64() * 1e6 / (batches * BATCH) as f64);
    Ok(())
}

fn connect(n: u64) -> Decision {
    let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
    decision.identity = Some(format!("device-{}", n % 5_000));
    decision.origin =
        Origin { address: Some([10, 0, (n >> 8) as u8, n as u8].into()), port: Some(40_000), door: None };
    decision.facts = Facts {
        sdk: Some("azure-iot-device/2.14.0 (python)".to_owned()),
        api_version: Some("2019-10-01".to_owned()),
        tls_version: Some("1.3".into()),
        cipher: Some("TLS13_AES_256_GCM_SHA384".into()),
        token: Some(TokenFacts { sr: "hub/devices/device".to_owned(), se: 1_800_000_000, skn: None }),
        ..Facts::default()
    };
    decision
}

/// The processor time that this process has used.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}
