//! What is unsafe about a fleet: one file per check in [`checks`], facts and events in, findings and proposed fixes out.
//!
//! Everything here is pure. The binary gathers the [`facts`], runs a [`Sweep`], keeps the findings and carries out what
//! is asked; nothing here is called from the message path (`docs/posture.md`).

#![warn(missing_docs)]

pub mod check;
pub mod checks;
pub mod events;
pub mod facts;
pub mod key;
pub mod ledger;
pub mod report;
pub mod score;
pub mod sweep;
pub mod usage;

pub use check::{About, Check, Kind, Verdicts};
pub use sweep::{Outcome, Sweep, Tally};
