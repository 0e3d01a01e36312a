//! Reading and writing of the integers and strings that the journal's formats are made of. All integers on disk
//! are little endian; variable-length ones are LEB128, at most ten bytes.

use bytes::Bytes;
use bytestring::ByteString;

/// Why bytes are not what the journal wrote.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    /// The bytes end too early.
    #[error("the bytes end too early")]
    Short,
    /// A number does not fit.
    #[error("a number is out of range")]
    Number,
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A code that this version does not know.
    #[error("unknown {what} {code}")]
    Unknown {
        /// What the code stands for.
        what: &'static str,
        /// The code.
        code: u64,
    },
    /// An id is not a legal one.
    #[error("an id is illegal")]
    Id,
    /// A record says that it has the sender of the record before it, and there is none.
    #[error("a record refers to a sender that is not there")]
    NoSender,
}

/// Reads from the front of shared bytes; what it hands out shares them.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn rest(self) -> Bytes {
        self.bytes
    }

    pub(super) fn take(&mut self, n: usize) -> Result<Bytes, DecodeError> {
        if n > self.bytes.len() {
            return Err(DecodeError::Short);
        }
        Ok(self.bytes.split_to(n))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = *self.bytes.first_chunk::<N>().ok_or(DecodeError::Short)?;
        bytes::Buf::advance(&mut self.bytes, N);
        Ok(array)
    }

    pub(super) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(super) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0_u64;
        for (at, &byte) in self.bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if at == VARINT_BYTES_MAX - 1 && bits > 1 {
                return Err(DecodeError::Number);
            }
            value |= bits << (7 * at);
            if byte & 0x80 == 0 {
                bytes::Buf::advance(&mut self.bytes, at + 1);
                return Ok(value);
            }
        }
        Err(if self.bytes.len() < VARINT_BYTES_MAX { DecodeError::Short } else { DecodeError::Number })
    }

    pub(super) fn zigzag(&mut self) -> Result<i64, DecodeError> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(super) fn blob(&mut self) -> Result<Bytes, DecodeError> {
        let n = usize::try_from(self.varint()?).map_err(|_| DecodeError::Number)?;
        self.take(n)
    }

    pub(super) fn text(&mut self) -> Result<ByteString, DecodeError> {
        ByteString::try_from(self.blob()?).map_err(|_| DecodeError::Text)
    }
}

const VARINT_BYTES_MAX: usize = 10;

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_zigzag(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_come_back_as_they_went() {
        let values = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let mut out = Vec::new();
        for value in values {
            put_varint(&mut out, value);
            put_zigzag(&mut out, value as i64);
        }
        let mut reader = Reader::new(out.into());
        for value in values {
            assert_eq!(reader.varint(), Ok(value));
            assert_eq!(reader.zigzag(), Ok(value as i64));
        }
        assert!(reader.is_empty());
    }

    #[test]
    fn an_integer_that_does_not_end_or_fit_is_an_error() {
        let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).varint();
        assert_eq!(read(&[0x80, 0x80]), Err(DecodeError::Short));
        assert_eq!(read(&[0xff; 11]), Err(DecodeError::Number));
        assert_eq!(
            read(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]),
            Err(DecodeError::Number)
        );
    }
}
