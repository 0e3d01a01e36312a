use std::fmt;

use bytes::Bytes;

use super::error::{CloseReason, PeerMisbehaved};
use super::id::{DeliveryId, LinkId, SessionId};
use crate::amqp::performative::{Attach, DeliveryState, DeliveryTag, Error, Open};
use crate::amqp::sasl::{SaslBytes, SaslInit};

/// What happened on a connection, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Server: the client chose a mechanism. Nothing is read until
    /// [`sasl_outcome`](super::Connection::sasl_outcome) or
    /// [`sasl_challenge`](super::Connection::sasl_challenge).
    SaslInit(SaslInit),
    /// Server: the client answered a challenge. As with `SaslInit`, a verdict is due.
    SaslResponse(SaslBytes),
    /// Client: the server challenges; [`sasl_respond`](super::Connection::sasl_respond) answers.
    SaslChallenge(SaslBytes),
    /// The peer's open. A server answers with [`accept_open`](super::Connection::accept_open) or
    /// [`close`](super::Connection::close), and nothing is read until then; for a client the
    /// connection is open now.
    Open(Box<Open>),
    /// A session is there: begun by the peer and already answered, or begun by us and now answered.
    Begun(SessionId),
    /// A session is gone, and its links and deliveries with it; they get no events of their own.
    Ended {
        /// The session.
        session: SessionId,
        /// Why.
        cause: EndCause,
    },
    /// The peer wants to attach a link. Answer with
    /// [`accept_attach`](super::Connection::accept_attach) or
    /// [`refuse_attach`](super::Connection::refuse_attach), at once or later.
    Attach {
        /// The link from now on.
        link: LinkId,
        /// What the peer said; its `role` is the peer's.
        attach: Box<Attach>,
    },
    /// The peer answered our attach. When the terminus at its end is null, it refuses and a
    /// `Detached` follows.
    Attached {
        /// The link.
        link: LinkId,
        /// What the peer said; its `role` is the peer's.
        attach: Box<Attach>,
    },
    /// A complete message came in.
    Delivery(Box<Delivery>),
    /// A sending link may send this many messages now: after credit came in, or when a refused
    /// [`send`](super::Connection::send) is worth another try.
    Sendable {
        /// The link.
        link: LinkId,
        /// Messages that the credit admits.
        credit: u32,
    },
    /// The peer wants a sending link to use its credit up or give it back: send what there is, then
    /// call [`drained`](super::Connection::drained).
    DrainRequested {
        /// The link.
        link: LinkId,
        /// Messages that the credit admits.
        credit: u32,
    },
    /// The sending peer has used up or given back all credit, as asked.
    Drained {
        /// The link.
        link: LinkId,
    },
    /// The peer told the state of an unsettled delivery.
    Disposition {
        /// The link of the delivery.
        link: LinkId,
        /// The delivery.
        delivery: DeliveryId,
        /// Its state at the peer; absent means the default outcome.
        state: Option<DeliveryState>,
        /// The peer has forgotten it, so it is gone here too. When false, it stays until
        /// [`settle`](super::Connection::settle).
        settled: bool,
    },
    /// A link is gone, its unsettled deliveries with it.
    Detached {
        /// The link.
        link: LinkId,
        /// Why.
        cause: DetachCause,
    },
    /// The connection is over: write what [`output`](super::Connection::output) still holds, then
    /// drop the transport. Nothing follows.
    Closed(CloseReason),
}

/// A message that came in.
#[derive(Clone, PartialEq)]
pub struct Delivery {
    /// The link.
    pub link: LinkId,
    /// Names the delivery in [`settle`](super::Connection::settle).
    pub id: DeliveryId,
    /// The sender's name for the delivery.
    pub tag: DeliveryTag,
    /// The format of `message`.
    pub message_format: u32,
    /// The sender has forgotten it already: there is nothing to settle.
    pub settled: bool,
    /// The encoded sections; see [`Message::parse`](crate::amqp::message::Message::parse).
    pub message: Bytes,
}

/// Messages may carry tokens, so that their bytes never show in logs.
impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("link", &self.link)
            .field("id", &self.id)
            .field("tag", &self.tag)
            .field("message_format", &self.message_format)
            .field("settled", &self.settled)
            .field("bytes", &self.message.len())
            .finish()
    }
}

/// Why a link is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum DetachCause {
    /// The peer detached it; our answer is on its way.
    ByPeer {
        /// For good.
        closed: bool,
        /// Why.
        error: Option<Error>,
    },
    /// We detached it, and the peer answered.
    ByUs,
    /// We detached it because of what the peer did; the peer's answer gives no further event.
    PeerMisbehaved(PeerMisbehaved),
}

/// Why a session is gone.
#[derive(Debug, Clone, PartialEq)]
pub enum EndCause {
    /// The peer ended it; our answer is on its way.
    ByPeer(Option<Error>),
    /// We ended it, and the peer answered.
    ByUs,
    /// We ended it because of what the peer did; the peer's answer gives no further event.
    PeerMisbehaved(PeerMisbehaved),
}
