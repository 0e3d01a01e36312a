use crate::amqp::codec::{Composite, DecodeError, Fields, Writer};
use crate::amqp::descriptor;

/// Updates the windows of a session and the credit of a link (OASIS part 2, section 2.7.4).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Flow {
    /// Transfer-id that the sender expects next; absent only before it has seen the peer's begin.
    pub next_incoming_id: Option<u32>,
    /// Transfer frames that the sender takes now.
    pub incoming_window: u32,
    /// Transfer-id that the sender will use next.
    pub next_outgoing_id: u32,
    /// Transfer frames that the sender may send.
    pub outgoing_window: u32,
    /// The part about one link.
    pub link: Option<LinkFlow>,
    /// The sender wants a flow in answer.
    pub echo: bool,
    /// Properties of the link state.
    pub properties: Fields,
}

/// The part of a flow that is about one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkFlow {
    /// The handle that the sender of the flow uses.
    pub handle: u32,
    /// The sending end's count as the sender of the flow knows it; absent before it knows any.
    pub delivery_count: Option<u32>,
    /// Deliveries that the sending end may make beyond `delivery_count`.
    pub link_credit: Option<u32>,
    /// Deliveries that the sending end has waiting.
    pub available: Option<u32>,
    /// The sending end shall use its credit up, or give it back.
    pub drain: bool,
}

impl Flow {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        let next_incoming_id = r.uint()?;
        let incoming_window = r.uint()?.ok_or(DecodeError::MissingField("incoming-window"))?;
        let next_outgoing_id = r.uint()?.ok_or(DecodeError::MissingField("next-outgoing-id"))?;
        let outgoing_window = r.uint()?.ok_or(DecodeError::MissingField("outgoing-window"))?;
        let handle = r.uint()?;
        let delivery_count = r.uint()?;
        let link_credit = r.uint()?;
        let available = r.uint()?;
        let drain = r.bool()?.unwrap_or(false);
        let link = handle.map(|handle| LinkFlow { handle, delivery_count, link_credit, available, drain });
        Ok(Self {
            next_incoming_id,
            incoming_window,
            next_outgoing_id,
            outgoing_window,
            link,
            echo: r.bool()?.unwrap_or(false),
            properties: r.fields()?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::FLOW);
        w.opt_uint(self.next_incoming_id);
        w.uint(self.incoming_window);
        w.uint(self.next_outgoing_id);
        w.uint(self.outgoing_window);
        w.opt_uint(self.link.map(|link| link.handle));
        w.opt_uint(self.link.and_then(|link| link.delivery_count));
        w.opt_uint(self.link.and_then(|link| link.link_credit));
        w.opt_uint(self.link.and_then(|link| link.available));
        w.bool(self.link.is_some_and(|link| link.drain));
        w.bool(self.echo);
        w.fields(&self.properties);
        w.end(list, 11);
    }
}
