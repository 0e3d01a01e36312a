use std::borrow::Cow;

use super::Message;
use crate::amqp::codec::{DecodeError, ListRef, Reader, ValueRef};
use crate::amqp::descriptor;

/// What a message is about (OASIS part 3, sections 3.2.6 to 3.2.8).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Body<'a> {
    /// No body section at all, which the standard forbids and clients send.
    #[default]
    Empty,
    /// Opaque bytes.
    Data(DataSections<'a>),
    /// Structured data. Only the first of several sequence sections is kept.
    Sequence(ListRef<'a>),
    /// One value.
    Value(ValueRef<'a>),
}

impl<'a> Body<'a> {
    /// The bytes of a body that is data, or a value that is binary or text; empty for an empty body.
    pub fn bytes(self) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Empty => Some(Cow::Borrowed(&[])),
            Self::Data(data) => Some(data.concatenated()),
            Self::Value(ValueRef::Binary(bytes)) => Some(Cow::Borrowed(bytes)),
            Self::Value(ValueRef::String(text)) => Some(Cow::Borrowed(text.as_bytes())),
            Self::Sequence(_) | Self::Value(_) => None,
        }
    }

    pub(super) fn add(
        &mut self,
        encoded: &'a [u8],
        code: u64,
        value: ValueRef<'a>,
    ) -> Result<(), DecodeError> {
        *self = match (code, value, *self) {
            (descriptor::DATA, ValueRef::Binary(first), Self::Empty) => {
                Self::Data(DataSections { encoded, first, count: 1 })
            }
            (descriptor::DATA, ValueRef::Binary(_), Self::Data(data)) => {
                Self::Data(DataSections { count: data.count + 1, ..data })
            }
            (descriptor::AMQP_SEQUENCE, ValueRef::List(list), Self::Empty) => Self::Sequence(list),
            (descriptor::AMQP_SEQUENCE, ValueRef::List(_), Self::Sequence(first)) => Self::Sequence(first),
            (descriptor::AMQP_VALUE, value, Self::Empty) => Self::Value(value),
            (descriptor::DATA, ValueRef::Binary(_), _)
            | (descriptor::AMQP_SEQUENCE, ValueRef::List(_), _)
            | (descriptor::AMQP_VALUE, _, _) => return Err(DecodeError::MixedBody),
            (descriptor::DATA, _, _) => return Err(DecodeError::WrongType { expected: "a binary" }),
            (descriptor::AMQP_SEQUENCE, _, _) => return Err(DecodeError::WrongType { expected: "a list" }),
            (descriptor, _, _) => {
                return Err(DecodeError::UnexpectedType { expected: "a message section", descriptor });
            }
        };
        Ok(())
    }
}

/// The data sections of a message that has at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSections<'a> {
    /// The whole message: sections are found again instead of being remembered, because a message
    /// may be made of hundreds of thousands of empty ones.
    encoded: &'a [u8],
    first: &'a [u8],
    count: usize,
}

impl<'a> DataSections<'a> {
    /// How many sections there are.
    pub fn count(self) -> usize {
        self.count
    }

    /// The content of the only section.
    pub fn single(self) -> Option<&'a [u8]> {
        (self.count == 1).then_some(self.first)
    }

    /// The content of each section.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut r = Reader::new(self.encoded);
        let mut left = self.count;
        std::iter::from_fn(move || {
            while left > 0 {
                // Parsing has been through here before, so nothing fails.
                let code = r.descriptor().ok()?;
                if code != descriptor::DATA {
                    r.skip().ok()?;
                } else if let ValueRef::Binary(content) = r.value().ok()? {
                    left -= 1;
                    return Some(content);
                }
            }
            None
        })
    }

    /// All contents together; borrowed when there is only one section.
    pub fn concatenated(self) -> Cow<'a, [u8]> {
        match self.single() {
            Some(content) => Cow::Borrowed(content),
            None => Cow::Owned(self.iter().collect::<Vec<_>>().concat()),
        }
    }

    /// The messages of a batch ([`super::BATCH_MESSAGE_FORMAT`]).
    pub fn messages(self) -> impl Iterator<Item = Result<Message<'a>, DecodeError>> {
        self.iter().map(Message::parse)
    }
}
