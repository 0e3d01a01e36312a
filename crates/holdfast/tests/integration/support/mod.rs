//! A hub that a test starts, kills and asks.

mod hub;
mod random;
mod rest;
mod shim;
mod tls;
mod witness;

pub(crate) use hub::{Hub, HubOptions, Started};
pub(crate) use random::Random;
pub(crate) use rest::{Answer, Rest, device_body, sas_token};
pub(crate) use shim::{Cut, Names, Shim};
pub(crate) use tls::Tls;
pub(crate) use witness::Witness;

use std::time::Duration;

/// A number from the environment, so that `cargo xtask prove` can ask for more than CI does.
pub(crate) fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Waits until something is so; panics with its name when it takes too long.
pub(crate) async fn until(what: &str, limit: Duration, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
