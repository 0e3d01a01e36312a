use super::{DeliveryState, DeliveryTag, RcvSettleMode};
use crate::amqp::codec::{Composite, DecodeError, Writer, code};
use crate::amqp::descriptor;

/// Transfers a message or a part of one; the bytes follow as payload (OASIS part 2, section 2.7.5).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Transfer {
    /// The link.
    pub handle: u32,
    /// Number of the delivery; mandatory on its first transfer.
    pub delivery_id: Option<u32>,
    /// Tag of the delivery; mandatory on its first transfer.
    pub delivery_tag: Option<DeliveryTag>,
    /// Format of the message; mandatory on its first transfer.
    pub message_format: Option<u32>,
    /// The sender has forgotten the delivery already.
    pub settled: Option<bool>,
    /// More transfers of this delivery follow.
    pub more: bool,
    /// How the receiver settles this delivery.
    pub rcv_settle_mode: Option<RcvSettleMode>,
    /// State of the delivery at the sender.
    pub state: Option<DeliveryState>,
    /// The delivery was begun on an earlier attachment.
    pub resume: bool,
    /// The delivery is given up; what came of it is to be dropped.
    pub aborted: bool,
    /// Dispositions of the receiver need not be immediate.
    pub batchable: bool,
}

impl Transfer {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: r.uint()?.ok_or(DecodeError::MissingField("handle"))?,
            delivery_id: r.uint()?,
            delivery_tag: r.binary()?.map(DeliveryTag::read).transpose()?,
            message_format: r.uint()?,
            settled: r.bool()?,
            more: r.bool()?.unwrap_or(false),
            rcv_settle_mode: RcvSettleMode::read(&mut r)?,
            state: r.raw()?.map(|mut r| DeliveryState::read(&mut r)).transpose()?,
            resume: r.bool()?.unwrap_or(false),
            aborted: r.bool()?.unwrap_or(false),
            batchable: r.bool()?.unwrap_or(false),
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        self.write_patchable(w);
    }

    /// Writes the transfer and tells where the boolean `more` stands, so that it can be set after
    /// the payload has been encoded behind it and turned out too long for one frame.
    pub(crate) fn write_patchable(&self, w: &mut Writer<'_>) -> MorePosition {
        let list = w.composite(descriptor::TRANSFER);
        w.uint(self.handle);
        w.opt_uint(self.delivery_id);
        w.opt_binary(self.delivery_tag.as_ref().map(DeliveryTag::as_bytes));
        w.opt_uint(self.message_format);
        w.opt_bool(self.settled);
        let more = w.position();
        w.bool(self.more);
        w.optional(self.rcv_settle_mode, |w, mode| mode.write(w));
        w.optional(self.state.as_ref(), |w, state| state.write(w));
        w.bool(self.resume);
        w.bool(self.aborted);
        w.bool(self.batchable);
        let narrow = w.position();
        w.end(list, 11);
        // A state with a long error makes the list wide and moves everything up.
        MorePosition(more + w.position() - narrow)
    }
}

/// Where the one byte of `more` stands in the buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MorePosition(usize);

impl MorePosition {
    /// Makes `more` true.
    pub(crate) fn set(self, buffer: &mut [u8]) {
        buffer[self.0] = code::TRUE;
    }
}
