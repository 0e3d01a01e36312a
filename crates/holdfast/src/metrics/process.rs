//! What every process tells of itself, as Prometheus names it.

use std::fs;

use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// A registry with the state of this process now.
pub(super) fn registry() -> Registry {
    let mut registry = Registry::default();
    let mut gauge = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            registry.register(name, help, ConstGauge::new(value));
        }
    };
    gauge("process_resident_memory_bytes", "Resident memory", resident_bytes());
    gauge("process_open_fds", "Open file descriptors", open_files());
    gauge("process_start_time_seconds", "When the process began, in seconds since 1970", start_seconds());
    if let Some(seconds) = cpu_seconds() {
        registry.register(
            "process_cpu_seconds",
            "Processor time, user and system",
            ConstCounter::new(seconds),
        );
    }
    registry
}

/// The fields of /proc/self/stat behind the name, which may hold blanks: the first one is the third of proc(5).
fn stat() -> Option<Vec<f64>> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(|field| field.parse().unwrap_or(0.0)).collect())
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

fn cpu_seconds() -> Option<f64> {
    let stat = stat()?;
    Some((stat.get(11)? + stat.get(12)?) / ticks_per_second())
}

fn start_seconds() -> Option<f64> {
    let since_boot = stat()?.get(19)? / ticks_per_second();
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(boot + since_boot)
}

fn resident_bytes() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    let pages: f64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

fn open_files() -> Option<f64> {
    // One of them is the directory that is being read.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}
