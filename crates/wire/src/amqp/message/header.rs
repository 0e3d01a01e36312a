use crate::amqp::codec::{Composite, DecodeError, Writer};
use crate::amqp::descriptor;

/// How a message is to be transported (OASIS part 3, section 3.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The message has to survive a loss of power.
    pub durable: bool,
    /// Relative importance; 4 is normal.
    pub priority: u8,
    /// Milliseconds for which the message is of use; absent means for ever.
    pub ttl: Option<u32>,
    /// Nobody else has acquired the message before.
    pub first_acquirer: bool,
    /// Unsuccessful attempts to deliver the message so far.
    pub delivery_count: u32,
}

impl Default for Header {
    fn default() -> Self {
        Self { durable: false, priority: 4, ttl: None, first_acquirer: false, delivery_count: 0 }
    }
}

impl Header {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            durable: r.bool()?.unwrap_or(false),
            priority: r.ubyte()?.unwrap_or(4),
            ttl: r.uint()?,
            first_acquirer: r.bool()?.unwrap_or(false),
            delivery_count: r.uint()?.unwrap_or(0),
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::HEADER);
        w.bool(self.durable);
        w.ubyte(self.priority);
        w.opt_uint(self.ttl);
        w.bool(self.first_acquirer);
        w.uint(self.delivery_count);
        w.end(list, 5);
    }
}
