//! AMQP 1.0 (ISO/IEC 19464, OASIS AMQP 1.0): codec and connection machine, for both roles.
//!
//! - [`codec`]: values; [`performative`], [`sasl`]: frame bodies; [`frame`]: frames and headers;
//!   [`message`]: the sections of messages.
//! - [`connection`]: a connection without socket and clock; start reading there.

pub mod codec;
pub mod connection;
mod descriptor;
pub mod frame;
pub mod message;
pub mod performative;
pub mod sasl;
