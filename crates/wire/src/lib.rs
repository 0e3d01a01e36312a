//! The protocols of the public standards: codecs, and connection machines that hold no socket, task, timer or file.
//!
//! Nothing here knows of Azure. A machine is fed the bytes that came and the time it is, and gives the bytes to
//! send, what the peer wants, and the time at which it must be called again.

#![warn(missing_docs)]

pub mod amqp;
pub mod mqtt;
