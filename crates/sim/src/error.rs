use std::io;

use thiserror::Error;
use wire::mqtt::{ConnectAckReason, PacketError};

/// Why a simulated client could not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SimError {
    /// The server could not be reached, or the connection broke.
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    /// The server closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The server answered CONNECT with a refusal.
    #[error("the server refused the connection: {0:?}")]
    Refused(ConnectAckReason),
    /// The server refused a subscription.
    #[error("the server refused to subscribe to `{0}`")]
    SubscriptionRefused(String),
    /// The hub answered a request about a twin with this status.
    #[error("the hub answered a request about the twin with {0}")]
    TwinRefused(u16),
    /// The server sent something that is no MQTT.
    #[error("the server broke MQTT")]
    Mqtt(#[from] PacketError),
    /// The server sent something that AMQP does not allow here.
    #[error("the server broke AMQP: {0}")]
    Amqp(String),
    /// The server refused a request on `$cbs` or `$management`.
    #[error("`{node}` answered {status}: {description}")]
    RequestRefused {
        /// The node that was asked.
        node: &'static str,
        /// `status-code`.
        status: i64,
        /// `status-description`.
        description: String,
    },
    /// The server detached a reader.
    #[error("the reader of partition {partition} was detached: {reason}")]
    Detached {
        /// The partition.
        partition: String,
        /// The condition and its description.
        reason: String,
    },
    /// Nothing came in time.
    #[error("no {0} came in time")]
    TimedOut(&'static str),
    /// A key is not base64.
    #[error("the key is not base64")]
    Key(#[source] base64::DecodeError),
    /// A name is neither a DNS name nor an address.
    #[error("`{0}` is no server name")]
    ServerName(String),
    /// A certificate could not be made or read.
    #[error("a certificate could not be made or read: {0}")]
    Certificate(String),
    /// TLS could not be set up.
    #[error("TLS could not be set up")]
    Tls(#[from] tokio_rustls::rustls::Error),
}
