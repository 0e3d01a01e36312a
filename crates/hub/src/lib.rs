//! The rules of an IoT hub: who may connect, what a message is, what a change of the registry does,
//! and why somebody was refused.
//!
//! Nothing here opens a socket, speaks SQL or TLS, or reads a clock: time and randomness are arguments,
//! and everything that lasts goes through a port of [`ports`].

#![warn(missing_docs)]

pub mod access;
pub mod activity;
pub mod audit;
pub mod authenticate;
pub mod authorities;
pub mod backoff;
pub mod belongings;
pub mod certificate;
pub mod certificate_fault;
pub mod consumer_groups;
pub mod decision;
pub mod deed;
pub mod edge;
pub mod ending;
pub mod error;
pub mod explain;
pub mod export;
pub mod finding;
pub mod findings;
pub mod fixes;
pub mod held_time;
pub mod hub;
pub mod hub_events;
pub mod identity;
pub mod inbox;
pub mod json;
pub mod key_quality;
pub mod key_search;
pub mod limits;
pub mod method;
pub mod placement;
pub mod policies;
pub mod ports;
pub mod positions;
pub mod properties;
pub mod put_token;
pub mod readers;
pub mod record;
mod record_reading;
pub mod refusal;
pub mod refusing;
pub mod registry;
pub mod sas;
pub mod scope;
pub mod service_bound;
pub mod service_grant;
pub mod settings;
pub mod signed_context;
pub mod strangers;
pub mod telemetry;
pub mod trace;
pub mod twin;
pub mod upload;
pub mod why;
