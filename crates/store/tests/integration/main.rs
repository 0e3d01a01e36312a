//! The batteries that every adapter of a port passes, and what only a disk can get wrong.

#![allow(clippy::unwrap_used)]

mod audit_battery;
mod audit_file;
mod blobs_battery;
mod journal_damage;
mod journal_decoders;
mod journal_faults;
mod journal_kill;
mod journal_model;
mod journal_placement;
mod log_battery;
mod messages;
mod power;
mod registry_battery;
mod sqlite;

use std::future::Future;

use hub::ports::event_log::{AppendError, EventLog, Ticket};

/// Runs a future to its end on this thread.
fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// Waits until a ticket is settled.
fn settle(log: &dyn EventLog, ticket: Ticket) -> Result<(), AppendError> {
    wait(std::future::poll_fn(|cx| log.poll_durable(ticket, cx)))
}
