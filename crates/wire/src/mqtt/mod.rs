//! MQTT 3.1.1 (OASIS standard, 29 October 2014): the server's and the client's side of a connection.
//!
//! The packets are those of `rmqtt-codec`, which only this module names.

mod client;
mod codec;
mod server;

pub use client::{Client, ClientEvent};
pub use codec::{PacketError, Packets};
pub use rmqtt_codec::types::{Publish, QoS};
pub use rmqtt_codec::v3::{Connect, ConnectAckReason, LastWill, Packet, SubscribeReturnCode};
pub use server::{Event, Limits, Server, Violation};

/// A packet identifier (§2.3.1), never 0.
pub type PacketId = std::num::NonZeroU16;
