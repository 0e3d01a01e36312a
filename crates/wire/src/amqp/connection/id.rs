use crate::amqp::performative::Role;

/// A session of one connection. An id is never used twice, so a late command for a session that is
/// gone is an error and does not hit its successor on the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// The channel that we send on.
    pub(super) channel: u16,
    pub(super) serial: u32,
}

/// A link of one connection: where it is attached, not what it is called, because peers use one name
/// for many links. An id is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId {
    pub(super) session: SessionId,
    /// The handle that we send.
    pub(super) handle: u32,
    pub(super) serial: u32,
}

impl LinkId {
    /// The session that the link is attached to.
    pub fn session(self) -> SessionId {
        self.session
    }
}

/// A delivery of one session, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryId {
    pub(super) session: SessionId,
    /// Our end of the delivery.
    pub(super) role: Role,
    pub(super) number: u32,
}

impl DeliveryId {
    /// The session of the delivery.
    pub fn session(self) -> SessionId {
        self.session
    }

    /// The `delivery-id` on the wire.
    pub fn number(self) -> u32 {
        self.number
    }
}
