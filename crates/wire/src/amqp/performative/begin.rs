use crate::amqp::codec::{Composite, DecodeError, Fields, Symbol, Writer};
use crate::amqp::descriptor;

/// Begins a session on a channel (OASIS part 2, section 2.7.2).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Begin {
    /// In an answer: the channel that is answered.
    pub remote_channel: Option<u16>,
    /// Transfer-id of the first transfer frame that the sender will send.
    pub next_outgoing_id: u32,
    /// Transfer frames that the sender takes now.
    pub incoming_window: u32,
    /// Transfer frames that the sender may send.
    pub outgoing_window: u32,
    /// Highest handle that the sender takes.
    pub handle_max: u32,
    /// Extensions that the sender supports.
    pub offered_capabilities: Vec<Symbol>,
    /// Extensions that the sender may use if the other side has them.
    pub desired_capabilities: Vec<Symbol>,
    /// Properties of the session.
    pub properties: Fields,
}

impl Begin {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            remote_channel: r.ushort()?,
            next_outgoing_id: r.uint()?.ok_or(DecodeError::MissingField("next-outgoing-id"))?,
            incoming_window: r.uint()?.ok_or(DecodeError::MissingField("incoming-window"))?,
            outgoing_window: r.uint()?.ok_or(DecodeError::MissingField("outgoing-window"))?,
            handle_max: r.uint()?.unwrap_or(u32::MAX),
            offered_capabilities: r.symbols()?,
            desired_capabilities: r.symbols()?,
            properties: r.fields()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::BEGIN);
        w.opt_ushort(self.remote_channel);
        w.uint(self.next_outgoing_id);
        w.uint(self.incoming_window);
        w.uint(self.outgoing_window);
        w.uint(self.handle_max);
        w.symbols(&self.offered_capabilities);
        w.symbols(&self.desired_capabilities);
        w.fields(&self.properties);
        w.end(list, 8);
    }
}
