use std::time::Duration;

use crate::amqp::codec::{Fields, Symbol};
use crate::amqp::sasl::SaslInit;

/// What this end announces, and every limit it holds the peer to. One value serves all connections
/// of a listener (`Arc<Config>`).
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// `container-id` of our open. Default: empty, to be replaced.
    pub container_id: String,
    /// Bytes of the largest frame taken. Default 65,536, minimum 512.
    pub max_frame_size: u32,
    /// Highest channel number the peer may use. Default 8,191.
    pub channel_max: u16,
    /// Highest handle the peer may use. Default 262,143.
    pub handle_max: u32,
    /// Sessions per connection. Default 2,048; one more closes the connection.
    pub sessions_max: usize,
    /// Links per connection. Default 8,192; one more is refused.
    pub links_max: usize,
    /// Silence of the peer after which the connection is closed, announced in our open.
    /// Default 240 s; `None` waits for ever.
    pub idle_timeout: Option<Duration>,
    /// Shortest idle time-out that a peer may ask for; a shorter one closes the connection, because
    /// every empty frame costs this end. Default 5 s.
    pub peer_idle_timeout_min: Duration,
    /// Interval of empty frames for peers that announce no idle time-out. Default 120 s; `None`
    /// sends none.
    pub heartbeat_default: Option<Duration>,
    /// Time from the first byte to the end of the open exchange. Default 20 s.
    pub handshake_timeout: Duration,
    /// Time for the peer to answer our close. Default 10 s.
    pub close_timeout: Duration,
    /// Transfer frames per session that the peer may have under way; renewed at half. Default 5,000.
    pub incoming_window: u32,
    /// Bytes of the largest message taken, announced in our attach and held against the sum of a
    /// delivery's transfers. Default 1 MiB. A link may set its own.
    pub max_message_size: u64,
    /// Bytes of incomplete messages held for all links together; more closes the connection.
    /// Default 8 MiB.
    pub reassembly_bytes_max: usize,
    /// Deliveries beyond its credit that a link takes before it is detached. Default 1,000: there are
    /// clients that reset their own count when it reaches zero.
    pub credit_overrun_max: u32,
    /// Unsettled deliveries per session and direction. Default 16,384. Sending waits at the limit. To
    /// us it bounds only deliveries beyond the credit: within it, what was granted is taken.
    pub unsettled_max: usize,
    /// Bytes waiting to be written at which [`send`](super::Connection::send) refuses and
    /// [`wants_input`](super::Connection::wants_input) turns false. Default 256 KiB.
    pub output_bytes_max: usize,
    /// Mechanisms that a server offers, in this order. Default: `ANONYMOUS`.
    pub sasl_mechanisms: Vec<Symbol>,
    /// Whether a server takes a connection that begins without SASL. Default true.
    pub sasl_optional: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            container_id: String::new(),
            max_frame_size: 65_536,
            channel_max: 8_191,
            handle_max: 262_143,
            sessions_max: 2_048,
            links_max: 8_192,
            idle_timeout: Some(Duration::from_secs(240)),
            peer_idle_timeout_min: Duration::from_secs(5),
            heartbeat_default: Some(Duration::from_secs(120)),
            handshake_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(10),
            incoming_window: 5_000,
            max_message_size: 1 << 20,
            reassembly_bytes_max: 8 << 20,
            credit_overrun_max: 1_000,
            unsettled_max: 16_384,
            output_bytes_max: 256 << 10,
            sasl_mechanisms: vec![Symbol::from_static("ANONYMOUS")],
            sasl_optional: true,
        }
    }
}

/// What our open says beyond [`Config`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenOptions {
    /// Host that we want to talk to (client), or that we are (server).
    pub hostname: Option<String>,
    /// Extensions that we support.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions that we would use.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties of this end.
    pub properties: Fields,
}

/// How a client begins.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ClientOptions {
    /// The SASL mechanism to use; `None` begins without SASL.
    pub sasl: Option<SaslInit>,
    /// What our open says.
    pub open: OpenOptions,
}
