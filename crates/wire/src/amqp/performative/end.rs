use super::Error;
use crate::amqp::codec::{Composite, DecodeError, Writer};
use crate::amqp::descriptor;

/// Ends a session (OASIS part 2, section 2.7.8).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct End {
    /// Why, when something went wrong.
    pub error: Option<Error>,
}

impl End {
    pub(super) fn read(mut r: Composite<'_>) -> Result<Self, DecodeError> {
        Ok(Self { error: Error::read_optional(r.raw()?)? })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        let list = w.composite(descriptor::END);
        w.optional(self.error.as_ref(), |w, error| error.write(w));
        w.end(list, 1);
    }
}
