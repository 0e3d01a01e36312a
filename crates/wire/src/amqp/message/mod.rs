//! Messages (OASIS part 3, section 3.2): the sections inside one or more transfers.
//!
//! [`Message::parse`] borrows from the encoded bytes and takes the sections in any order, because
//! clients exist that send them out of order. [`MessageWriter`] encodes straight into an output
//! buffer; the body is copied once.

mod body;
mod header;
mod message_id;
mod properties;
mod writer;

pub use body::{Body, DataSections};
pub use header::Header;
pub use message_id::MessageId;
pub use properties::Properties;
pub use writer::{MapWriter, MessageWriter};

use super::codec::{DecodeError, MapRef, Reader, ValueRef};
use super::descriptor;

/// The message-format of messages that this module reads and writes (OASIS part 2, section 2.8.11).
pub const MESSAGE_FORMAT: u32 = 0;

/// A widespread vendor format: every data section is one complete encoded message.
/// [`DataSections::messages`] reads it, [`MessageWriter::data_message`] writes it.
pub const BATCH_MESSAGE_FORMAT: u32 = 0x8001_3700;

/// A message that borrows from its encoding.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Message<'a> {
    /// How the message is to be transported.
    pub header: Option<Header>,
    /// Annotations for the next hop; empty when the section is missing.
    pub delivery_annotations: MapRef<'a>,
    /// Annotations for every hop; empty when the section is missing.
    pub message_annotations: MapRef<'a>,
    /// The standard properties; all absent when the section is missing.
    pub properties: Properties<'a>,
    /// The properties of the application; empty when the section is missing.
    pub application_properties: MapRef<'a>,
    /// What the message is about.
    pub body: Body<'a>,
    /// Annotations behind the body; empty when the section is missing.
    pub footer: MapRef<'a>,
}

impl<'a> Message<'a> {
    /// Reads all sections. Entries of maps are checked when they are iterated.
    pub fn parse(encoded: &'a [u8]) -> Result<Self, DecodeError> {
        let mut message = Self::default();
        let mut seen = 0u16;
        let mut r = Reader::new(encoded);
        while !r.is_empty() {
            let start = r;
            let code = r.descriptor()?;
            if let Some(name) = once_only(code) {
                let bit = 1 << (code & 0xf);
                if seen & bit != 0 {
                    return Err(DecodeError::RepeatedSection(name));
                }
                seen |= bit;
            }
            match code {
                descriptor::HEADER => {
                    r = start;
                    message.header = Some(Header::read(r.composite()?)?);
                }
                descriptor::PROPERTIES => {
                    r = start;
                    message.properties = Properties::read(r.composite()?)?;
                }
                descriptor::DELIVERY_ANNOTATIONS => message.delivery_annotations = read_map(&mut r)?,
                descriptor::MESSAGE_ANNOTATIONS => message.message_annotations = read_map(&mut r)?,
                descriptor::APPLICATION_PROPERTIES => message.application_properties = read_map(&mut r)?,
                descriptor::FOOTER => message.footer = read_map(&mut r)?,
                _ => message.body.add(encoded, code, r.value()?)?,
            }
        }
        Ok(message)
    }
}

/// The name of a section that may occur once; body sections of data and sequence may repeat.
fn once_only(code: u64) -> Option<&'static str> {
    Some(match code {
        descriptor::HEADER => "header",
        descriptor::DELIVERY_ANNOTATIONS => "delivery-annotations",
        descriptor::MESSAGE_ANNOTATIONS => "message-annotations",
        descriptor::PROPERTIES => "properties",
        descriptor::APPLICATION_PROPERTIES => "application-properties",
        descriptor::AMQP_VALUE => "amqp-value",
        descriptor::FOOTER => "footer",
        _ => return None,
    })
}

fn read_map<'a>(r: &mut Reader<'a>) -> Result<MapRef<'a>, DecodeError> {
    match r.value()? {
        ValueRef::Map(map) => Ok(map),
        ValueRef::Null => Ok(MapRef::default()),
        _ => Err(DecodeError::WrongType { expected: "a map" }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "message_tests.rs"]
mod tests;
