use super::Error;
use crate::amqp::codec::{DecodeError, Fields, Reader, Value, Writer};
use crate::amqp::descriptor;

/// State of a delivery; all but `Received` and some `Other` are outcomes (OASIS part 3, section 3.4).
#[derive(Debug, Clone, PartialEq)]
pub enum DeliveryState {
    /// The receiver holds the message up to this point.
    Received {
        /// Sections of the message that are complete.
        section_number: u32,
        /// Bytes of the next section.
        section_offset: u64,
    },
    /// The receiver has taken the message.
    Accepted,
    /// The message is invalid and will never be taken.
    Rejected(Option<Error>),
    /// The message was not looked at and may be given to anybody.
    Released,
    /// As released, with changes.
    Modified {
        /// Count this as a failed delivery.
        delivery_failed: bool,
        /// Do not give it to this receiver again.
        undeliverable_here: bool,
        /// Annotations to merge into the message.
        message_annotations: Fields,
    },
    /// A state of another specification, such as those of transactions, as it came.
    Other(Value),
}

impl DeliveryState {
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = *r;
        let mut fields = r.composite()?;
        Ok(match fields.descriptor() {
            descriptor::RECEIVED => Self::Received {
                section_number: fields.uint()?.ok_or(DecodeError::MissingField("section-number"))?,
                section_offset: fields.ulong()?.ok_or(DecodeError::MissingField("section-offset"))?,
            },
            descriptor::ACCEPTED => Self::Accepted,
            descriptor::REJECTED => Self::Rejected(Error::read_optional(fields.raw()?)?),
            descriptor::RELEASED => Self::Released,
            descriptor::MODIFIED => Self::Modified {
                delivery_failed: fields.bool()?.unwrap_or(false),
                undeliverable_here: fields.bool()?.unwrap_or(false),
                message_annotations: fields.fields()?,
            },
            _ => {
                let mut start = start;
                Self::Other(start.value()?.to_value()?)
            }
        })
    }

    pub(super) fn write(&self, w: &mut Writer<'_>) {
        match self {
            Self::Received { section_number, section_offset } => {
                let list = w.composite(descriptor::RECEIVED);
                w.uint(*section_number);
                w.ulong(*section_offset);
                w.end(list, 2);
            }
            Self::Accepted => write_empty(w, descriptor::ACCEPTED),
            Self::Released => write_empty(w, descriptor::RELEASED),
            Self::Rejected(error) => {
                let list = w.composite(descriptor::REJECTED);
                w.optional(error.as_ref(), |w, error| error.write(w));
                w.end(list, 1);
            }
            Self::Modified { delivery_failed, undeliverable_here, message_annotations } => {
                let list = w.composite(descriptor::MODIFIED);
                w.bool(*delivery_failed);
                w.bool(*undeliverable_here);
                w.fields(message_annotations);
                w.end(list, 3);
            }
            Self::Other(value) => w.value(value),
        }
    }
}

/// The outcomes without fields are a list0, as every implementation sends them.
fn write_empty(w: &mut Writer<'_>, code: u64) {
    w.descriptor(code);
    w.empty_list();
}
