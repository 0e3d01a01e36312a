use std::fmt;

use crate::amqp::codec::DecodeError;

/// Bytes that a tag may have (OASIS part 2, section 2.8.7).
pub const DELIVERY_TAG_BYTES_MAX: usize = 32;

/// The name of a delivery, unique among the unsettled ones of its link (OASIS part 2, section 2.8.7).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DeliveryTag {
    length: u8,
    bytes: [u8; DELIVERY_TAG_BYTES_MAX],
}

impl DeliveryTag {
    /// A tag of up to 32 bytes; `None` for more.
    pub fn new(tag: &[u8]) -> Option<Self> {
        let mut bytes = [0; DELIVERY_TAG_BYTES_MAX];
        bytes.get_mut(..tag.len())?.copy_from_slice(tag);
        Some(Self { length: u8::try_from(tag.len()).ok()?, bytes })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    pub(super) fn read(tag: &[u8]) -> Result<Self, DecodeError> {
        Self::new(tag).ok_or(DecodeError::InvalidField("delivery-tag"))
    }
}

impl Default for DeliveryTag {
    fn default() -> Self {
        Self { length: 0, bytes: [0; DELIVERY_TAG_BYTES_MAX] }
    }
}

impl From<u32> for DeliveryTag {
    /// Four bytes, little-endian.
    fn from(counter: u32) -> Self {
        let mut bytes = [0; DELIVERY_TAG_BYTES_MAX];
        bytes[..4].copy_from_slice(&counter.to_le_bytes());
        Self { length: 4, bytes }
    }
}

impl From<[u8; 16]> for DeliveryTag {
    fn from(tag: [u8; 16]) -> Self {
        let mut bytes = [0; DELIVERY_TAG_BYTES_MAX];
        bytes[..16].copy_from_slice(&tag);
        Self { length: 16, bytes }
    }
}

impl fmt::Debug for DeliveryTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
