use super::{DeliveryState, Role};
use crate::amqp::codec::{Composite, DecodeError, Writer};
use crate::amqp::descriptor;

/// Tells the state of a range of deliveries (OASIS part 2, section 2.7.6).
#[derive(Debug, Clone, PartialEq)]
pub struct Disposition {
    /// Which end of the deliveries the sender of this performative is.
    pub role: Role,
    /// First delivery of the range.
    pub first: u32,
    /// Last delivery of the range; absent means the first.
    pub last: Option<u32>,
    /// The sender of this performative has forgotten the deliveries.
    pub settled: bool,
    /// State of the deliveries.
    pub state: Option<DeliveryState>,
    /// An answer need not be immediate.
    pub batchable: bool,
}

impl Disposition {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            role: Role::read(&mut r)?,
            first: r.uint()?.ok_or(DecodeError::MissingField("first"))?,
            last: r.uint()?,
            settled: r.bool()?.unwrap_or(false),
            state: r.raw()?.map(|mut r| DeliveryState::read(&mut r)).transpose()?,
            batchable: r.bool()?.unwrap_or(false),
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::DISPOSITION);
        self.role.write(w);
        w.uint(self.first);
        w.opt_uint(self.last);
        w.bool(self.settled);
        w.optional(self.state.as_ref(), |w, state| state.write(w));
        w.bool(self.batchable);
        w.end(list, 6);
    }
}
