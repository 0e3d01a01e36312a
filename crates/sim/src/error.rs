use std::io;

use thiserror::Error;
use wire::mqtt::{ConnectAckReason, NotWritten, PacketError};

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
    /// The server cannot be sent this.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
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
    /// The server answered a request over HTTPS with this status.
    #[error("the server answered {status}: {message}")]
    Status {
        /// The status.
        status: u16,
        /// What it says of it.
        message: String,
    },
    /// The server sent something that HTTP does not allow.
    #[error("the server broke HTTP: {0}")]
    Http(String),
    /// The server sent something that is no WebSocket.
    #[error("the server broke the WebSocket: {0}")]
    WebSocket(String),
    /// The server did not take a message.
    #[error("the server did not take the message: {0}")]
    NotTaken(String),
    /// A message cannot be settled so over this protocol.
    #[error("{0}")]
    CannotSettle(&'static str),
    /// The server detached a link.
    #[error("`{link}` was detached: {reason}")]
    Detached {
        /// What the link is for.
        link: String,
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

impl SimError {
    /// Whether a server that was reached turned the client down, so that trying the same again is no use.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Refused(_) | Self::SubscriptionRefused(_) | Self::TwinRefused(_) | Self::NotTaken(_) => {
                true
            }
            // An end for maintenance or by a newer connection is none.
            Self::Detached { reason, .. } => {
                ["unauthorized", "not-found", "not-allowed"].iter().any(|word| reason.contains(word))
            }
            Self::RequestRefused { status, .. } => (400..500).contains(status) && *status != 429,
            Self::Status { status, .. } => (400..500).contains(status) && !matches!(status, 408 | 429),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_from_what_may_pass() {
        let detached =
            |reason: &str| SimError::Detached { link: "twin".to_owned(), reason: reason.to_owned() };
        let status = |status| SimError::Status { status, message: String::new() };
        let refusals = [
            SimError::Refused(ConnectAckReason::NotAuthorized),
            detached("amqp:unauthorized-access: Token Invalid."),
            status(401),
            status(413),
        ];
        assert!(refusals.iter().all(SimError::is_refusal), "{refusals:?}");
        let others = [SimError::Closed, detached("amqp:link:stolen"), status(429), status(503)];
        assert!(!others.iter().any(SimError::is_refusal), "{others:?}");
    }
}
