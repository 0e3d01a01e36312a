//! Adapters that keep everything in memory: for tests, and as the second opinion on what a port means.

mod ledger;
mod log;
mod registry;

pub use log::MemoryLog;
pub use registry::MemoryRegistry;
