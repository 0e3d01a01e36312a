//! Packets out of a byte stream and into one.

use bytes::{BufMut, BytesMut};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::v3::{Codec, Packet};
use tokio_util::codec::{Decoder, Encoder};

use super::{PacketId, Publish, QoS};

/// Reads packets from the bytes of a stream, whatever pieces they come in. Holds no buffer while it waits between
/// packets.
#[derive(Debug)]
pub struct Packets {
    codec: Codec,
    buffer: BytesMut,
}

/// Why bytes are no packet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// The packet is longer than it may be.
    #[error("a packet of {size} bytes is over the limit of {limit}")]
    TooLarge {
        /// The length that its header announces.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The CONNECT asks for a protocol that is not MQTT 3.1.1.
    #[error("the protocol name or level is not that of MQTT 3.1.1")]
    ProtocolLevel,
    /// The bytes break the standard.
    #[error("malformed packet: {0}")]
    Malformed(String),
}

impl Packets {
    /// A reader that refuses packets of more than this many bytes (§2.2.3, the remaining length).
    pub fn new(packet_bytes_max: u32) -> Self {
        Self { codec: Codec::new(packet_bytes_max), buffer: BytesMut::new() }
    }

    /// Takes bytes of the stream.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.buffer.is_empty() {
            // One exact allocation, which the packets then share.
            self.buffer = BytesMut::from(bytes);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next packet, or `None` until more bytes come.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let packet = self.codec.decode(&mut self.buffer).map_err(|error| match error {
            DecodeError::MaxSizeExceeded { size, max } => {
                PacketError::TooLarge { size: size as usize, limit: max as usize }
            }
            DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => {
                PacketError::ProtocolLevel
            }
            other => PacketError::Malformed(other.to_string()),
        })?;
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        Ok(packet.map(|(packet, _)| packet))
    }
}

/// Appends a packet to what is to be sent.
///
/// # Panics
/// Never for the packets that the machines of this module make: a QoS 1 PUBLISH has its packet identifier.
pub(super) fn write(packet: Packet, out: &mut BytesMut) {
    let result = Codec::new(0).encode(packet, out);
    debug_assert!(result.is_ok(), "a packet of our own encodes");
}

/// Appends a PUBACK (§3.4), the most frequent packet a server sends.
pub(super) fn write_puback(packet_id: PacketId, out: &mut BytesMut) {
    out.put_slice(&[0x40, 0x02]);
    out.put_u16(packet_id.get());
}

/// A PUBLISH with nothing but a topic and a payload.
pub(super) fn publish(topic: &str, payload: bytes::Bytes, qos: QoS, packet_id: Option<PacketId>) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: false,
        retain: false,
        qos,
        topic: topic.into(),
        packet_id,
        payload,
        properties: None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PUBLISH of azure-iot-device 2.14.0: QoS 1, packet 2, one property, the body `{}`.
    const PUBLISH: &[u8] = b"\x32\x27\0\x21devices/d1/messages/events/a=b%20c\0\x02{}";

    #[test]
    fn a_packet_is_read_whatever_pieces_it_comes_in() {
        let mut bytes = PUBLISH.to_vec();
        bytes[1] = u8::try_from(bytes.len() - 2).expect("a short packet");
        bytes[3] = u8::try_from("devices/d1/messages/events/a=b%20c".len()).expect("a short topic");
        for cut in 1..bytes.len() {
            let mut packets = Packets::new(1_000);
            packets.feed(&bytes[..cut]);
            assert_eq!(packets.next_packet(), Ok(None), "cut at {cut}");
            packets.feed(&bytes[cut..]);
            let Ok(Some(Packet::Publish(publish))) = packets.next_packet() else { panic!("cut at {cut}") };
            assert_eq!(&*publish.topic, "devices/d1/messages/events/a=b%20c");
            assert_eq!(&publish.payload[..], b"{}");
            assert_eq!(packets.next_packet(), Ok(None));
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut packets = Packets::new(1_000);
        packets.feed(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(packets.next_packet(), Err(PacketError::TooLarge { size: 268_435_455, limit: 1_000 }));
    }
}
