//! How long things took, and the clock that tells it across processes.

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The percentiles that are kept: enough to draw the distribution. `read_events.py` has the same.
const PERCENTS: [f64; 11] = [1.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9];

/// A distribution of times.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Percent, and the milliseconds within which so many were done.
    pub(crate) percentiles_ms: Vec<(f64, f64)>,
}

impl Latency {
    /// Of these times in microseconds.
    pub(crate) fn of(mut microseconds: Vec<u32>) -> Self {
        microseconds.sort_unstable();
        let at = |percent: f64| {
            let place = (microseconds.len() as f64 * percent / 100.0) as usize;
            microseconds.get(place).map_or(0.0, |time| f64::from(*time) / 1e3)
        };
        let percentiles_ms = PERCENTS.iter().map(|percent| (*percent, at(*percent))).collect();
        Self { p50_ms: at(50.0), p99_ms: at(99.0), percentiles_ms }
    }
}

/// Nanoseconds of the clock that all processes of this machine share and nobody sets.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let latency = Latency::of((0..1_000).rev().map(|n| n * 1_000).collect());
        assert_eq!((latency.p50_ms, latency.p99_ms), (500.0, 990.0));
        assert_eq!(latency.percentiles_ms.last(), Some(&(99.9, 999.0)));
        assert_eq!(Latency::of(Vec::new()).p99_ms, 0.0);
    }
}
