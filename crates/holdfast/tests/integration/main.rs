//! The hub as a process of its own, judged from outside: over its ports, its files and its logs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod demo;
mod hostile;
mod limits;
mod power_loss;
mod secrets;
mod support;
