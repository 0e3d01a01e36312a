//! AMQP 1.0 over TLS and WebSocket: devices and modules, and the built-in, Event Hubs-compatible endpoint
//! (`docs/protocol/amqp.md`, `docs/protocol/event-hubs-endpoint.md`).

mod address;
mod cbs;
mod conversation;
mod device_bound;
mod event;
mod filter;
mod live;
mod management;
mod reader;
mod submission;
mod telemetry;
mod twin;

use std::sync::Arc;

use hub::hub::Hub;
use tokio::sync::watch;
use wire::amqp::codec::Symbol;
use wire::amqp::connection::Config;

pub(crate) use self::conversation::serve;
use crate::drain::Drain;
use crate::io::TlsConnection;
use crate::listen::{Front, Visitor};
use crate::metrics::Metrics;
use crate::outgoing::Outgoing;

const ARGUMENT_ERROR: Symbol = Symbol::from_static("com.microsoft:argument-error");

/// What all AMQP connections share.
pub(crate) struct AmqpFront {
    /// The hub that decides.
    pub(crate) hub: Arc<Hub>,
    /// The figures.
    pub(crate) metrics: Arc<Metrics>,
    /// The limits of a connection.
    pub(crate) config: Arc<Config>,
    /// Counts the changes of policies, after each of which the grants of services are decided again.
    pub(crate) policy_changes: watch::Receiver<u64>,
    /// The way of messages to services.
    pub(crate) outgoing: Arc<Outgoing>,
    /// Ends connections when the hub stops.
    pub(crate) drain: Drain,
}

impl Front for AmqpFront {
    async fn serve(self: Arc<Self>, stream: TlsConnection, visitor: Box<Visitor>) {
        serve(stream, visitor, self).await;
    }
}

/// The limits of a connection, with the values that the real endpoint announces (`docs/protocol/amqp.md` §2.1).
pub(crate) fn config() -> Arc<Config> {
    Arc::new(Config {
        container_id: format!("DeviceGateway_{}", uuid::Uuid::new_v4().simple()),
        sasl_mechanisms: ["EXTERNAL", "MSSBCBS", "ANONYMOUS", "PLAIN"]
            .into_iter()
            .map(Symbol::from)
            .collect(),
        ..Config::default()
    })
}
