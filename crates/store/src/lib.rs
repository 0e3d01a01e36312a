//! The adapters of the hub's ports: how bytes rest on disk. Every adapter of a port passes the same battery of
//! tests (`tests/integration`).

#![warn(missing_docs)]

mod blobs;
mod bus;
pub mod journal;
pub mod memory;
pub mod sqlite;

pub use blobs::ObjectBlobs;
pub use bus::MemoryBus;
pub use journal::{Directory, Journal, JournalConfig, OnCommit};
pub use sqlite::{SqliteAudit, SqliteConfig, SqliteRegistry};
