//! How clients break the standards.

use super::super::PacketError;
use super::super::five::DisconnectReasonCode as Reason;

/// How the client broke the standard. The connection is closed: in MQTT 3.1.1 without an answer (§4.8), but for a CONNECT
/// of another protocol level, which has been answered with return code 1; in MQTT 5 with the reason code that the
/// standard has for it (MQTT 5 §4.13).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The bytes are no packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The first packet was not CONNECT [MQTT-3.1.0-1].
    #[error("the first packet was not CONNECT")]
    FirstPacketNotConnect,
    /// A second CONNECT came [MQTT-3.1.0-2].
    #[error("a second CONNECT came")]
    SecondConnect,
    /// A packet came that only a server sends.
    #[error("a packet came that only a server sends")]
    ServersPacket,
    /// QoS 2 was used, which this server does not serve.
    #[error("a QoS 2 packet came, which is not served")]
    QosTwo,
    /// No CONNECT came in time.
    #[error("no CONNECT came in time")]
    ConnectTimeout,
    /// The client was silent for one and a half keep-alives [MQTT-3.1.2-24].
    #[error("nothing came for {0} s, one and a half times the keep-alive")]
    KeepAlive(u64),
    /// A message or a will asks to be retained, which CONNACK rules out (MQTT 5 §3.2.2.3.5).
    #[error("a message asks to be retained, which is not served")]
    Retain,
    /// More messages of QoS 1 came than Receive Maximum allows before the first is acknowledged (MQTT 5 §3.3.4).
    #[error("more than {0} messages of QoS 1 (the Receive Maximum) came before the first was acknowledged")]
    ReceiveMaximum(u16),
    /// A topic alias is over Topic Alias Maximum, or stands for a topic that is longer than is kept (MQTT 5 §3.3.2.3.4).
    #[error("a topic alias is over the Topic Alias Maximum, or stands for a topic of more than 1,024 bytes")]
    TopicAlias,
    /// A PUBLISH has no topic, and no alias that stands for one (MQTT 5 §3.3.2.3.4).
    #[error("a PUBLISH has no topic, and no alias that stands for one")]
    NoTopic,
    /// A subscription identifier came, which CONNACK rules out (MQTT 5 §3.2.2.3.12).
    #[error("a subscription identifier came, which is not served")]
    SubscriptionIdentifier,
    /// A shared subscription was asked for, which CONNACK rules out (MQTT 5 §3.2.2.3.13).
    #[error("a shared subscription was asked for, which is not served")]
    SharedSubscription,
    /// The client takes no packets of the size that answers need (MQTT 5 §3.1.2.11.4).
    #[error("the client takes packets of at most {0} bytes, answers need 128")]
    PacketsTooSmall(u32),
    /// An AUTH that does not begin a new authentication (MQTT 5 §4.12).
    #[error("an AUTH came that does not begin a new authentication (reason code 0x19)")]
    Auth,
    /// A DISCONNECT begins a session that CONNECT did not ask for (MQTT 5 §3.14.2.2.2).
    #[error("a DISCONNECT asks for a session that the CONNECT did not ask for")]
    SessionExpiry,
}

impl Violation {
    /// The reason code that MQTT 5 has for it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Packet(PacketError::TooLarge { .. }) | Self::PacketsTooSmall(_) => Reason::PacketTooLarge,
            Self::Packet(
                PacketError::Malformed(_) | PacketError::ProtocolLevel | PacketError::TopicName(_),
            ) => Reason::MalformedPacket,
            // CONNACK has a code of its own for a client id; behind it, a CONNECT is out of place anyhow.
            Self::Packet(PacketError::ClientId | PacketError::Protocol(_)) => Reason::ProtocolError,
            Self::Packet(PacketError::TopicAliasZero) => Reason::TopicAliasInvalid,
            Self::QosTwo => Reason::QosNotSupported,
            Self::KeepAlive(_) => Reason::KeepAliveTimeout,
            Self::Retain => Reason::RetainNotSupported,
            Self::ReceiveMaximum(_) => Reason::ReceiveMaximumExceeded,
            Self::TopicAlias => Reason::TopicAliasInvalid,
            Self::SubscriptionIdentifier => Reason::SubscriptionIdentifiersNotSupported,
            Self::SharedSubscription => Reason::SharedSubscriptionNotSupported,
            Self::FirstPacketNotConnect
            | Self::SecondConnect
            | Self::ServersPacket
            | Self::ConnectTimeout
            | Self::NoTopic
            | Self::Auth
            | Self::SessionExpiry => Reason::ProtocolError,
        }
    }
}
