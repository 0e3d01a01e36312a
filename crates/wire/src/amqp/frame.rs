//! Protocol headers and frames (OASIS part 2, sections 2.2 and 2.3).

use bytes::{BufMut, BytesMut};
use thiserror::Error;

/// Bytes of a protocol header.
pub const PROTOCOL_HEADER_BYTES: usize = 8;
/// Bytes of the fixed part of a frame header.
pub const FRAME_HEADER_BYTES: usize = 8;
/// Every peer takes frames of this many bytes (OASIS part 2, section 2.3.3).
pub const MIN_MAX_FRAME_SIZE: u32 = 512;

/// The eight bytes that begin a layer (OASIS part 2, section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolHeader {
    /// AMQP 1.0.0 itself.
    Amqp,
    /// SASL, before AMQP.
    Sasl,
}

impl ProtocolHeader {
    /// Reads a header of version 1.0.0. Others, that for TLS inside the stream (id 2) among them,
    /// are not supported.
    pub fn read(bytes: [u8; PROTOCOL_HEADER_BYTES]) -> Option<Self> {
        [Self::Amqp, Self::Sasl].into_iter().find(|header| header.bytes() == bytes)
    }

    /// The header as it goes over the wire.
    pub fn bytes(self) -> [u8; PROTOCOL_HEADER_BYTES] {
        match self {
            Self::Amqp => *b"AMQP\x00\x01\x00\x00",
            Self::Sasl => *b"AMQP\x03\x01\x00\x00",
        }
    }
}

/// The type of a frame (OASIS part 2, section 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameType {
    /// A performative and its payload, or nothing.
    Amqp,
    /// A step of SASL.
    Sasl,
}

/// A frame within the bytes it came with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What is inside.
    pub frame_type: FrameType,
    /// The channel of an AMQP frame.
    pub channel: u16,
    /// Everything behind the header and its extension.
    pub body: &'a [u8],
}

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The size is below that of the header.
    #[error("a frame of {0} bytes is shorter than its header")]
    TooShort(u32),
    /// The size is above what was announced.
    #[error("a frame of {size} bytes exceeds the maximum of {limit}")]
    TooLong {
        /// Bytes that the frame announces.
        size: u32,
        /// Bytes that a frame may have.
        limit: u32,
    },
    /// The data offset is below the header or behind the frame.
    #[error("the data offset {doff} does not fit a frame of {size} bytes")]
    DataOffset {
        /// The offset, in words of four bytes.
        doff: u8,
        /// Bytes of the frame.
        size: u32,
    },
    /// A type that is neither AMQP nor SASL.
    #[error("{0:#04x} is no type of frame")]
    UnknownType(u8),
}

impl<'a> Frame<'a> {
    /// Splits the first frame off `bytes`. `None` when it is not complete yet; a wrong header is
    /// reported as soon as it is there.
    pub fn split(bytes: &'a [u8], size_max: u32) -> Result<Option<(Self, &'a [u8])>, FrameError> {
        let Some([s0, s1, s2, s3, doff, type_code, c0, c1]) = bytes.first_chunk().copied() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([s0, s1, s2, s3]);
        if (size as usize) < FRAME_HEADER_BYTES {
            return Err(FrameError::TooShort(size));
        }
        if size > size_max {
            return Err(FrameError::TooLong { size, limit: size_max });
        }
        let frame_type = match type_code {
            0 => FrameType::Amqp,
            1 => FrameType::Sasl,
            other => return Err(FrameError::UnknownType(other)),
        };
        let body_start = usize::from(doff) * 4;
        if body_start < FRAME_HEADER_BYTES || body_start > size as usize {
            return Err(FrameError::DataOffset { doff, size });
        }
        let Some((frame, rest)) = bytes.split_at_checked(size as usize) else {
            return Ok(None);
        };
        let channel = u16::from_be_bytes([c0, c1]);
        Ok(Some((Self { frame_type, channel, body: &frame[body_start..] }, rest)))
    }
}

/// A frame that is being written: the size is filled in at the end.
#[derive(Debug)]
#[must_use = "an open frame has to be ended"]
pub(crate) struct OpenFrame {
    start: usize,
}

impl OpenFrame {
    /// Puts the header down.
    pub(crate) fn begin(out: &mut BytesMut, frame_type: FrameType, channel: u16) -> Self {
        let start = out.len();
        let type_code = match frame_type {
            FrameType::Amqp => 0,
            FrameType::Sasl => 1,
        };
        out.put_slice(&[0, 0, 0, 0, 2, type_code]);
        out.put_u16(channel);
        Self { start }
    }

    /// Where the frame begins in the buffer.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Fills the size in.
    pub(crate) fn end(self, out: &mut BytesMut) {
        let size = (out.len() - self.start) as u32;
        out[self.start..self.start + 4].copy_from_slice(&size.to_be_bytes());
    }
}
