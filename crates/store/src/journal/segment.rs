//! The segment file `{number:020}.journal`: a header, then batches.
//!
//! ```text
//! header  magic "HOLDFJNL", version u16 = 1, partitions u16, header bytes u32 (checksum included), number u64,
//!         salt u64, partitions × end (as in a batch), CRC32C u32 of the header so far
//! ```
//!
//! The ends in the header say where each partition stood when the segment was begun, and they are the truth for
//! where the segment before it ends: whatever that file holds beyond them was never acknowledged.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;

use super::batch::End;
use super::codec::{DecodeError, Reader};

const MAGIC: [u8; 8] = *b"HOLDFJNL";
const VERSION: u16 = 1;
const FIXED_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// No header is longer.
pub(super) const HEADER_BYTES_MAX: usize = 64 * 1024;

/// What the header of a segment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) number: u64,
    pub(super) salt: u64,
    /// Where each partition stood at the start of the segment.
    pub(super) starts: Vec<End>,
}

/// Why bytes are not the header of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeaderError {
    /// It is damaged, cut, or was never whole.
    Damaged,
    /// It is whole, and of a version that this program does not know.
    Newer { version: u16 },
}

impl From<DecodeError> for HeaderError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged
    }
}

impl Header {
    /// The header of a new segment, with a salt that nobody outside can know.
    pub(super) fn new(number: u64, starts: Vec<End>) -> Self {
        // The standard library seeds its hashers from the operating system's randomness.
        let salt = RandomState::new().hash_one(number);
        Self { number, salt, starts }
    }

    /// How long the header is with so many partitions.
    pub(super) fn bytes(partitions: usize) -> usize {
        FIXED_BYTES + partitions * End::BYTES + CRC_BYTES
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::bytes(self.starts.len()));
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.starts.len() as u16).to_le_bytes());
        out.extend_from_slice(&(Self::bytes(self.starts.len()) as u32).to_le_bytes());
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        self.starts.iter().for_each(|end| end.write(&mut out));
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the header at the front of the bytes.
    pub(super) fn read(bytes: &Bytes) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(bytes.clone());
        if reader.take(MAGIC.len())? != MAGIC[..] {
            return Err(HeaderError::Damaged);
        }
        let (version, partitions, length) = (reader.u16()?, reader.u16()?, reader.u32()? as usize);
        if !(FIXED_BYTES + CRC_BYTES..=HEADER_BYTES_MAX.min(bytes.len())).contains(&length) {
            return Err(HeaderError::Damaged);
        }
        let mut crc = Reader::new(bytes.slice(length - CRC_BYTES..length));
        if crc.u32()? != crc32c::crc32c(&bytes[..length - CRC_BYTES]) {
            return Err(HeaderError::Damaged);
        }
        if version != VERSION {
            return Err(HeaderError::Newer { version });
        }
        if length != Self::bytes(partitions.into()) {
            return Err(HeaderError::Damaged);
        }
        let (number, salt) = (reader.u64()?, reader.u64()?);
        let starts = (0..partitions).map(|_| End::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { number, salt, starts })
    }
}

const SUFFIX: &str = ".journal";
const INDEX_SUFFIX: &str = ".index";

/// The file name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The file name of a segment's index.
pub(super) fn index_name(number: u64) -> String {
    format!("{number:020}{INDEX_SUFFIX}")
}

/// The number in the file name of a segment.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_as_it_went_and_no_flipped_bit_passes() {
        let end = End { next_sequence: 1, next_offset: 2, last_offset: 3, last_time: 4 };
        let header = Header::new(9, vec![End::default(), end]);
        let bytes = header.write();
        assert_eq!(Header::read(&bytes.clone().into()), Ok(header));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Header::read(&bad.into()), Err(HeaderError::Damaged), "byte {at}");
        }
    }

    #[test]
    fn names_carry_the_number() {
        assert_eq!(number(&name(17)), Some(17));
        assert_eq!(number("17.journal"), None);
        assert_eq!(number(&index_name(17)), None);
        assert_eq!(number("lock"), None);
    }
}
