//! Simulated devices and back ends on the real wire, for `holdfast device simulate` and `demo`, tests and the benchmark.
//!
//! - [`Device`]: MQTT 3.1.1 over TLS with SAS tokens or certificates, as the device SDKs speak it; twins and methods with
//!   [`Incoming`].
//! - [`Client`]: a device or module on any transport, for those who do not care which.
//! - [`EventReader`]: the Event Hubs-compatible endpoint over AMQP 1.0, as a back end reads it.
//! - [`SasKey`] signs tokens, [`Clock`] may be wrong on purpose, [`Authority`] makes certificates, [`Trust`] says whom a
//!   client believes.
//!
//! Nothing here shares code with the hub but the codecs of `wire`: tokens, certificates and addresses are made as an
//! outsider makes them, so that a mistake of the hub is not shared by its judge.

#![warn(missing_docs)]

mod amqp;
mod authority;
mod client;
mod clock;
mod conversation;
mod device;
mod error;
mod pipe;
mod properties;
mod reader;
mod sas;
mod trust;
mod websocket;

pub use authority::{Authority, Issued};
pub use client::{Client, ClientOptions, DeviceBound, MethodCall, Received, Settlement, Transport};
pub use clock::Clock;
pub use conversation::{CONVERSATION, Incoming};
pub use device::{Credential, Device, DeviceOptions, Message};
pub use error::SimError;
pub use properties::topic_with_properties;
pub use reader::{Event, EventReader, ReaderOptions, Start};
pub use sas::SasKey;
pub use trust::{TlsVersions, Trust};
pub use wire::mqtt::{ConnectAckReason, PacketId, Publish, QoS};
