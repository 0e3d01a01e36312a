use super::Error;
use crate::amqp::codec::{Composite, DecodeError, Writer};
use crate::amqp::descriptor;

/// Detaches a link from its session (OASIS part 2, section 2.7.7).
#[derive(Debug, Clone, PartialEq)]
pub struct Detach {
    /// The link.
    pub handle: u32,
    /// The link is gone for good, not only detached.
    pub closed: bool,
    /// Why.
    pub error: Option<Error>,
}

impl Detach {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            handle: r.uint()?.ok_or(DecodeError::MissingField("handle"))?,
            closed: r.bool()?.unwrap_or(false),
            error: Error::read_optional(r.raw()?)?,
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::DETACH);
        w.uint(self.handle);
        w.bool(self.closed);
        w.optional(self.error.as_ref(), |w, error| error.write(w));
        w.end(list, 3);
    }
}
