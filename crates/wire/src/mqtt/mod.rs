//! MQTT 3.1.1 (OASIS standard, 29 October 2014) and MQTT 5 (OASIS standard, 7 March 2019): the server's side of a
//! connection of either, and the client's side of one of 3.1.1. Sections are those of 3.1.1 where no version is named.
//!
//! The packets are those of `rmqtt-codec`, which only this module names.

mod check;
mod client;
mod codec;
mod server;

pub use client::{Client, ClientEvent};
pub use codec::{NotWritten, PacketError, Packets, Version};
pub use rmqtt_codec::types::{Publish, QoS};
pub use rmqtt_codec::v3::{Connect, ConnectAckReason, LastWill, Packet, SubscribeReturnCode};
pub use server::{Event, FiveLimits, Goodbye, Limits, Numbered, Server, Violation};

/// What only MQTT 5 has.
pub mod five {
    pub use rmqtt_codec::v5::{
        Auth, Connect, ConnectAckReason, DisconnectReasonCode, LastWill, Packet, PublishAckReason,
        PublishProperties, SubscribeAckReason, UserProperties,
    };
}

/// The protocol level of MQTT 3.1.1 (§3.1.2.2).
const PROTOCOL_LEVEL: u8 = 4;

/// A packet identifier (§2.3.1), never 0.
pub type PacketId = std::num::NonZeroU16;
