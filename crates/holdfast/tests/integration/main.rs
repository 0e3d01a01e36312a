//! The hub as a process of its own, judged from outside: over its ports, its files and its logs. Each test has an
//! address of its own (127.x.y.z).
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod demo;
mod power_loss;
#[allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
mod support;
