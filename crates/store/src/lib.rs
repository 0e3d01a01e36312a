//! The adapters of the hub's ports: how bytes rest on disk. Every adapter of a port passes the same battery of
//! tests (`tests/integration`).

#![warn(missing_docs)]

pub mod journal;
pub mod memory;
pub mod sqlite;
