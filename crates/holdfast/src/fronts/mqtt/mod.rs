//! MQTT for devices and modules (`docs/protocol/device-mqtt.md`), over TLS and over WebSocket.

mod conversation;
mod five;
mod inbox;
mod live;
mod three;

use std::sync::Arc;

use hub::hub::Hub;

pub(crate) use self::conversation::serve;
use crate::drain::Drain;
use crate::io::TlsConnection;
use crate::listen::{Front, Visitor};
use crate::metrics::Metrics;

/// MQTT straight over TLS.
pub(crate) struct MqttFront {
    /// The hub that decides.
    pub(crate) hub: Arc<Hub>,
    /// The figures.
    pub(crate) metrics: Arc<Metrics>,
    /// Ends those who wait for an answer when the hub stops.
    pub(crate) drain: Drain,
}

impl Front for MqttFront {
    async fn serve(self: Arc<Self>, stream: TlsConnection, visitor: Box<Visitor>) {
        serve(stream, visitor, self.hub.clone(), &self.metrics, &self.drain).await;
    }
}
