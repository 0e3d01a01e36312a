use std::time::Duration;

use thiserror::Error;

use crate::amqp::codec::{DecodeError, Symbol};
use crate::amqp::frame::FrameError;
use crate::amqp::performative::{Error as AmqpError, condition};
use crate::amqp::sasl::SaslCode;

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum CloseReason {
    /// The peer closed, and our close is on its way.
    #[error("closed by the peer")]
    ByPeer(Option<AmqpError>),
    /// We closed, and the peer answered.
    #[error("closed by this end")]
    ByUs,
    /// We closed, and the peer did not answer in time.
    #[error("closed by this end; the peer did not answer")]
    CloseTimedOut,
    /// The peer broke the protocol.
    #[error("the peer broke the protocol")]
    PeerMisbehaved(#[source] PeerMisbehaved),
    /// The peer was silent for longer than the idle time-out that we announced.
    #[error("the peer was silent for {0:?}")]
    PeerSilent(Duration),
    /// The peer did not open in time.
    #[error("no open within {0:?}")]
    HandshakeTimedOut(Duration),
    /// The verdict of SASL was negative.
    #[error("SASL ended with {0:?}")]
    SaslFailed(SaslCode),
    /// The transport ended without a close.
    #[error("the transport ended without a close")]
    TransportEnded,
}

/// What a peer did that the standard, or a limit that was announced, forbids.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerMisbehaved {
    /// The stream begins with something that is not supported; our own header was the answer.
    #[error("the protocol header {0:02x?} is not supported here")]
    UnsupportedHeader([u8; 8]),
    /// Bytes that are no frame.
    #[error("not a frame")]
    Frame(#[from] FrameError),
    /// A frame whose content is no performative.
    #[error("a frame on channel {channel} cannot be decoded")]
    Undecodable {
        /// The channel of the frame.
        channel: u16,
        /// What is wrong.
        source: DecodeError,
    },
    /// A frame at a time when it may not come.
    #[error("{0} came out of turn")]
    OutOfTurn(&'static str),
    /// More bytes than one frame while an answer of ours was due.
    #[error("{0} bytes came ahead of our answer")]
    TooFarAhead(usize),
    /// The client chose what was not offered, or the server does not offer what the client needs.
    #[error("the SASL mechanism `{0}` is not offered")]
    MechanismNotOffered(Symbol),
    /// A maximum frame size below the minimum of the standard.
    #[error("max-frame-size {0} is below 512")]
    MaxFrameSizeTooSmall(u32),
    /// An idle time-out that is shorter than we serve.
    #[error("idle-time-out {asked:?} is below {min:?}")]
    IdleTimeoutTooShort {
        /// What the peer asked for.
        asked: Duration,
        /// The shortest that is served.
        min: Duration,
    },
    /// A channel above our channel-max.
    #[error("channel {channel} is above {max}")]
    ChannelTooHigh {
        /// The channel.
        channel: u16,
        /// What we announced.
        max: u16,
    },
    /// A begin on a channel that has a session.
    #[error("channel {0} already has a session")]
    ChannelInUse(u16),
    /// A frame on a channel without session.
    #[error("channel {0} has no session")]
    NoSession(u16),
    /// A begin that answers none of ours.
    #[error("begin answers channel {0}, on which nothing was begun")]
    UnexpectedBeginAnswer(u16),
    /// More sessions than we allow.
    #[error("more than {0} sessions")]
    TooManySessions(usize),
    /// A handle above our handle-max.
    #[error("handle {handle} is above {max}")]
    HandleTooHigh {
        /// The handle.
        handle: u32,
        /// What we announced.
        max: u32,
    },
    /// An attach on a handle that has a link.
    #[error("handle {0} already has a link")]
    HandleInUse(u32),
    /// A transfer for a handle without link.
    #[error("handle {0} has no link")]
    UnattachedHandle(u32),
    /// More links than we have handles for.
    #[error("more than {0} links in a session")]
    TooManyLinks(usize),
    /// A transfer from the receiving end of a link.
    #[error("a transfer came from the receiving end of handle {0}")]
    TransferFromReceiver(u32),
    /// The first transfer of a delivery without a mandatory field.
    #[error("the first transfer of a delivery has no {0}")]
    IncompleteFirstTransfer(&'static str),
    /// A transfer that goes on with another delivery than the one that is incomplete.
    #[error("delivery {found} began before delivery {open} was complete")]
    InterleavedDeliveries {
        /// The delivery that is incomplete.
        open: u32,
        /// The delivery that came.
        found: u32,
    },
    /// A delivery-id that is in use.
    #[error("delivery {0} is still unsettled")]
    DeliveryIdInUse(u32),
    /// More transfers than the session window admits.
    #[error("more transfers than the incoming window admits")]
    WindowExceeded,
    /// More deliveries than the credit admits, beyond all tolerance.
    #[error("{0} deliveries beyond the credit")]
    CreditExceeded(u32),
    /// A message larger than announced.
    #[error("a message is larger than {limit} bytes")]
    MessageTooLarge {
        /// What the link takes.
        limit: u64,
    },
    /// More bytes of incomplete messages than we hold.
    #[error("more than {0} bytes of incomplete messages")]
    ReassemblyExceeded(usize),
}

impl PeerMisbehaved {
    /// The condition under which the peer is told.
    pub fn condition(&self) -> Symbol {
        match self {
            Self::Frame(_)
            | Self::ChannelTooHigh { .. }
            | Self::HandleTooHigh { .. }
            | Self::UnsupportedHeader(_)
            | Self::NoSession(_) => condition::FRAMING_ERROR,
            Self::Undecodable { .. } => condition::DECODE_ERROR,
            Self::OutOfTurn(_)
            | Self::MechanismNotOffered(_)
            | Self::ChannelInUse(_)
            | Self::UnexpectedBeginAnswer(_)
            | Self::IdleTimeoutTooShort { .. }
            | Self::InterleavedDeliveries { .. }
            | Self::DeliveryIdInUse(_)
            | Self::TransferFromReceiver(_) => condition::NOT_ALLOWED,
            Self::MaxFrameSizeTooSmall(_) | Self::IncompleteFirstTransfer(_) => condition::INVALID_FIELD,
            Self::TooFarAhead(_)
            | Self::TooManySessions(_)
            | Self::TooManyLinks(_)
            | Self::ReassemblyExceeded(_) => condition::RESOURCE_LIMIT_EXCEEDED,
            Self::HandleInUse(_) => condition::HANDLE_IN_USE,
            Self::UnattachedHandle(_) => condition::UNATTACHED_HANDLE,
            Self::WindowExceeded => condition::WINDOW_VIOLATION,
            Self::CreditExceeded(_) => condition::TRANSFER_LIMIT_EXCEEDED,
            Self::MessageTooLarge { .. } => condition::MESSAGE_SIZE_EXCEEDED,
        }
    }

    /// The error that goes to the peer.
    pub(super) fn to_error(&self) -> AmqpError {
        let text = match self {
            Self::Frame(source) => format!("{self}: {source}"),
            Self::Undecodable { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        };
        AmqpError::new(self.condition(), text)
    }
}

/// A fault of the peer, and how much of the connection it costs.
#[derive(Debug)]
pub(super) enum Fault {
    Connection(PeerMisbehaved),
    Session(PeerMisbehaved),
    /// The link with this handle of ours.
    Link(u32, PeerMisbehaved),
}

/// A command that does not fit the state of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CommandError {
    /// The connection is not in the state for this, or closed.
    #[error("the connection is not in the state for this command")]
    WrongState,
    /// The session is gone or going.
    #[error("the session is gone")]
    NoSession,
    /// The link is gone or going.
    #[error("the link is gone")]
    NoLink,
    /// The link is at the other end of this: sending where it receives, or the reverse, or already
    /// answered.
    #[error("the link is not in the state for this command")]
    WrongLinkState,
    /// The delivery is settled or was never there.
    #[error("the delivery is not unsettled")]
    NoDelivery,
    /// The peer's channel-max or handle-max is reached.
    #[error("the peer takes no more sessions or links")]
    PeerLimit,
    /// The frame would be longer than the peer takes.
    #[error("a frame of {size} bytes is more than the {limit} that the peer takes")]
    FrameTooLarge {
        /// Bytes of the frame.
        size: usize,
        /// The peer's max-frame-size.
        limit: u32,
    },
}

/// Why a message was not sent. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// Not now; [`Event::Sendable`](super::Event::Sendable) tells when.
    #[error("not now")]
    Blocked(#[source] Blocked),
    /// The message is larger than the peer takes on this link.
    #[error("a message of {size} bytes is more than the {limit} that the peer takes")]
    MessageTooLarge {
        /// Bytes of the message.
        size: usize,
        /// The peer's max-message-size.
        limit: u64,
    },
    /// The link cannot send at all.
    #[error("the link cannot send")]
    Command(#[from] CommandError),
}

/// What a sender waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Blocked {
    /// Credit for the link.
    #[error("no credit")]
    Credit,
    /// Room in the session window of the peer.
    #[error("the session window is used up")]
    Window,
    /// Dispositions for deliveries sent before.
    #[error("too many unsettled deliveries")]
    Unsettled,
    /// Room in our output.
    #[error("the output is full")]
    Output,
}
