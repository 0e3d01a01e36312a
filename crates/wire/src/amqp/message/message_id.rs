use std::fmt;

use crate::amqp::codec::{DecodeError, ValueRef, Writer};

/// Identifies a message; an answer has to repeat it in the same type (OASIS part 3, section 3.2.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageId<'a> {
    /// A number.
    Ulong(u64),
    /// A UUID, in network byte order.
    Uuid([u8; 16]),
    /// Bytes.
    Binary(&'a [u8]),
    /// Text.
    String(&'a str),
}

impl<'a> MessageId<'a> {
    pub(super) fn read(value: ValueRef<'a>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match value {
            ValueRef::Null => return Ok(None),
            ValueRef::Ulong(number) => Self::Ulong(number),
            ValueRef::Uuid(uuid) => Self::Uuid(uuid),
            ValueRef::Binary(bytes) => Self::Binary(bytes),
            ValueRef::String(text) => Self::String(text),
            _ => return Err(DecodeError::WrongType { expected: "a message id" }),
        }))
    }

    pub(super) fn write(self, w: &mut Writer<'_>) {
        match self {
            Self::Ulong(number) => w.ulong(number),
            Self::Uuid(uuid) => w.uuid(&uuid),
            Self::Binary(bytes) => w.binary(bytes),
            Self::String(text) => w.string(text),
        }
    }
}

/// The id as text: decimal, hyphenated, hexadecimal, or as it is.
impl fmt::Display for MessageId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ulong(number) => write!(f, "{number}"),
            Self::String(text) => f.write_str(text),
            Self::Binary(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Uuid(uuid) => uuid.iter().enumerate().try_for_each(|(place, byte)| {
                let hyphen = if matches!(place, 4 | 6 | 8 | 10) { "-" } else { "" };
                write!(f, "{hyphen}{byte:02x}")
            }),
        }
    }
}
