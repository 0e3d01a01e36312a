//! Packets out of a byte stream and into one.

use bytes::{BufMut, Bytes, BytesMut};
use rmqtt_codec::error::DecodeError;
use rmqtt_codec::{v3, v5};
use tokio_util::codec::{Decoder, Encoder};

use super::{Packet, PacketId, Publish, QoS, check, five};

/// Reads packets from the bytes of a stream, whatever pieces they come in. Holds no buffer while it waits between
/// packets.
#[derive(Debug)]
pub struct Packets {
    codec: Codec,
    buffer: BytesMut,
    /// The greatest remaining length that the codec takes.
    length_max: usize,
}

#[derive(Debug)]
enum Codec {
    /// The first packet decides; the limits of either version, as the codecs count.
    Undecided(u32, u32),
    Three(v3::Codec),
    Five(v5::Codec),
}

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1; also what is none that is known, which its codec refuses.
    Three,
    /// MQTT 5.
    Five,
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
    /// The CONNECT asks for a protocol that is neither MQTT 3.1.1 nor MQTT 5.
    #[error("the protocol name or level is neither that of MQTT 3.1.1 nor that of MQTT 5")]
    ProtocolLevel,
    /// The bytes break the standard.
    #[error("malformed packet: {0}")]
    Malformed(String),
    /// The topic of a message or of a will has a wildcard [MQTT-3.3.2-2, MQTT-4.7.1-1].
    #[error("a topic has the wildcard `{0}`, which only filters have")]
    TopicName(char),
    /// A client without an id wants its session to be kept [MQTT-3.1.3-8].
    #[error("the client id is empty, and the session is to outlive the connection")]
    ClientId,
    /// The packet reads, and says what MQTT 5 calls a Protocol Error (MQTT 5 §4.13).
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A topic alias is 0 (MQTT 5 §3.3.2.3.4).
    #[error("a topic alias is 0")]
    TopicAliasZero,
}

/// A packet is larger than the client takes (MQTT 5 §3.1.2.11.4), or cannot be written: a topic is over 65,535 bytes.
/// Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the packet has a topic of more than 65,535 bytes, or is larger than the peer takes")]
pub struct NotWritten;

/// The bytes of a fixed header with a remaining length between 16,384 and 2,097,151 (§2.1.4).
const HEADER_BYTES: u32 = 4;

impl Packets {
    /// A reader of MQTT 3.1.1 that refuses packets of more than this many bytes (§2.2.3, the remaining length).
    pub fn new(packet_bytes_max: u32) -> Self {
        let length_max = length_max(packet_bytes_max);
        Self { codec: Codec::Three(v3::Codec::new(packet_bytes_max)), buffer: BytesMut::new(), length_max }
    }

    /// A reader of the version that the first packet asks for. The limit of MQTT 3.1.1 is one of the remaining length,
    /// that of MQTT 5 one of the whole packet.
    pub(super) fn of_either(three_bytes_max: u32, five_bytes_max: u32) -> Self {
        let five_bytes_max = five_bytes_max.saturating_sub(HEADER_BYTES);
        let codec = Codec::Undecided(three_bytes_max, five_bytes_max);
        Self { codec, buffer: BytesMut::new(), length_max: 0 }
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

    /// The version that is spoken; `None` until enough of the first packet came to tell.
    pub(super) fn version(&mut self) -> Option<Version> {
        match &self.codec {
            Codec::Three(_) => Some(Version::Three),
            Codec::Five(_) => Some(Version::Five),
            Codec::Undecided(three, five) => {
                let version = asked_version(&self.buffer, *three)?;
                self.length_max = match version {
                    Version::Three => length_max(*three),
                    Version::Five => length_max(*five),
                };
                self.codec = match version {
                    Version::Three => Codec::Three(v3::Codec::new(*three)),
                    Version::Five => Codec::Five(v5::Codec::new(*five, 0)),
                };
                Some(version)
            }
        }
    }

    /// The next packet of MQTT 3.1.1, or `None` until more bytes come.
    pub fn next_packet(&mut self) -> Result<Option<Packet>, PacketError> {
        let Codec::Three(codec) = &mut self.codec else { return Ok(None) };
        let Some(head) = Head::of(&self.buffer) else { return unread(&self.buffer) };
        if head.length <= self.length_max {
            let Some(body) = head.body(&mut self.buffer) else { return Ok(None) };
            check::three(head.first_byte, body)?;
        }
        // The codec refuses what is too long, before its bytes come.
        let packet = codec.decode(&mut self.buffer).map_err(packet_error)?;
        self.give_back();
        Ok(packet.map(|(packet, _)| packet))
    }

    /// The next packet of MQTT 5, or `None` until more bytes come.
    pub(super) fn next_five(&mut self) -> Result<Option<five::Packet>, PacketError> {
        let Codec::Five(codec) = &mut self.codec else { return Ok(None) };
        let Some(head) = Head::of(&self.buffer) else { return unread(&self.buffer) };
        if head.length <= self.length_max {
            if !head.is_minimal {
                return Err(PacketError::Malformed("the length has more bytes than it needs".to_owned())); // [MQTT-1.5.5-1]
            }
            let Some(body) = head.body(&mut self.buffer) else { return Ok(None) };
            if let Some(at) = check::five(head.first_byte, body)? {
                // The codec has no interval of 0; the least that it has stands for it.
                body[at] = 1;
            }
        }
        let packet = codec.decode(&mut self.buffer).map_err(packet_error)?;
        self.give_back();
        Ok(packet.map(|(packet, _)| packet))
    }

    /// No packet of MQTT 5 of more than so many bytes is written from now on.
    pub(super) fn limit_output(&mut self, packet_bytes_max: u32) {
        if let Codec::Five(codec) = &mut self.codec {
            codec.set_max_outbound_size(packet_bytes_max);
        }
    }

    /// Appends a packet of MQTT 5 to what is to be sent. User properties and reasons that the client does not want, or
    /// that do not fit, are left out (§3.1.2.11.7, §3.4.2.2).
    pub(super) fn write_five(&mut self, packet: five::Packet, out: &mut BytesMut) -> Result<(), NotWritten> {
        let Codec::Five(codec) = &mut self.codec else { return Err(NotWritten) };
        let before = out.len();
        codec.encode(packet, out).map_err(|_| {
            out.truncate(before);
            NotWritten
        })
    }

    fn give_back(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }
}

/// The fixed header of a packet (§2.2).
struct Head {
    first_byte: u8,
    /// The remaining length.
    length: usize,
    /// The bytes of the header itself.
    bytes: usize,
    /// Whether the length has no more bytes than it needs.
    is_minimal: bool,
}

impl Head {
    /// `None` until enough bytes came, and for a length that is none.
    fn of(buffer: &[u8]) -> Option<Self> {
        let (first_byte, rest) = buffer.split_first()?;
        let mut length = 0;
        for (at, digit) in rest.iter().take(4).enumerate() {
            length |= usize::from(digit & 0x7f) << (7 * at);
            if digit & 0x80 == 0 {
                let is_minimal = at == 0 || *digit != 0;
                return Some(Self { first_byte: *first_byte, length, bytes: at + 2, is_minimal });
            }
        }
        None
    }

    /// What follows it, once all of it came.
    fn body<'b>(&self, buffer: &'b mut BytesMut) -> Option<&'b mut [u8]> {
        let end = self.bytes + self.length;
        if buffer.len() < end {
            buffer.reserve(end - buffer.len());
        }
        buffer.get_mut(self.bytes..end)
    }
}

/// What is no fixed header yet: more bytes have to come, unless its length is none.
fn unread<T>(buffer: &[u8]) -> Result<Option<T>, PacketError> {
    match buffer.len() > 4 {
        true => Err(PacketError::Malformed(DecodeError::InvalidLength.to_string())),
        false => Ok(None),
    }
}

/// To the codecs, 0 is no limit.
fn length_max(bytes: u32) -> usize {
    if bytes == 0 { usize::MAX } else { bytes as usize }
}

/// The version that a CONNECT asks for (§3.1.2.1, §3.1.2.2), as soon as enough bytes came. Whatever differs from MQTT 5,
/// and what is too long for either version, is for the codec of MQTT 3.1.1 to judge.
fn asked_version(bytes: &[u8], bytes_max: u32) -> Option<Version> {
    const NAME_AND_LEVEL: &[u8] = b"\0\x04MQTT\x05";
    let (type_byte, rest) = bytes.split_first()?;
    let digits = &rest[..rest.len().min(4)];
    let Some(last) = digits.iter().position(|digit| digit & 0x80 == 0) else {
        // Four digits that all go on are a length that no codec takes.
        return (digits.len() == 4).then_some(Version::Three);
    };
    let length = digits[..=last].iter().rev().fold(0, |sum, digit| sum << 7 | u32::from(digit & 0x7f));
    if length > bytes_max {
        return Some(Version::Three);
    }
    let name = &rest[last + 1..];
    let known = name.len().min(NAME_AND_LEVEL.len());
    if *type_byte != 0x10 || name[..known] != NAME_AND_LEVEL[..known] {
        return Some(Version::Three);
    }
    (known == NAME_AND_LEVEL.len()).then_some(Version::Five)
}

fn packet_error(error: DecodeError) -> PacketError {
    match error {
        DecodeError::MaxSizeExceeded { size, max } => {
            PacketError::TooLarge { size: size as usize, limit: max as usize }
        }
        DecodeError::InvalidProtocol | DecodeError::UnsupportedProtocolLevel => PacketError::ProtocolLevel,
        other => PacketError::Malformed(other.to_string()),
    }
}

/// Appends a packet to what is to be sent.
///
/// # Panics
/// Never for the packets that the machines of this module make: a QoS 1 PUBLISH has its packet identifier.
pub(super) fn write(packet: Packet, out: &mut BytesMut) {
    let result = try_write(packet, out);
    debug_assert!(result.is_ok(), "a packet of our own encodes");
}

/// Appends a packet to what is to be sent, as a whole or not at all: a text has room for 65,535 bytes (§1.5.3).
pub(super) fn try_write(packet: Packet, out: &mut BytesMut) -> Result<(), NotWritten> {
    let before = out.len();
    v3::Codec::new(0).encode(packet, out).map_err(|_| {
        // The codec notices behind the fixed header.
        out.truncate(before);
        NotWritten
    })
}

/// Appends a PUBACK that says nothing but that the message is safe (§3.4): the most frequent packet a server sends, and
/// the same in both versions.
pub(super) fn write_puback(packet_id: PacketId, out: &mut BytesMut) {
    out.put_slice(&[0x40, 0x02]);
    out.put_u16(packet_id.get());
}

/// A PUBLISH with nothing but a topic and a payload.
pub(super) fn publish(topic: &str, payload: Bytes, qos: QoS, packet_id: Option<PacketId>) -> Packet {
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
    fn of_a_message_with_too_long_a_topic_nothing_is_written() {
        let mut out = BytesMut::from(&b"\xd0\0"[..]);
        for (length, written) in [(65_535, true), (65_536, false), (200_000, false)] {
            let message = || publish(&"t".repeat(length), Bytes::from_static(b"{}"), QoS::AtMostOnce, None);
            out.truncate(2);
            assert_eq!(try_write(message(), &mut out).is_ok(), written, "{length}");
            assert_eq!(out.len() > 2, written, "{length}");
        }
    }

    #[test]
    fn a_length_over_the_limit_is_refused_before_its_bytes_come() {
        let mut packets = Packets::new(1_000);
        packets.feed(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(packets.next_packet(), Err(PacketError::TooLarge { size: 268_435_455, limit: 1_000 }));
    }

    #[test]
    fn the_first_packet_tells_its_version_and_anything_else_is_left_to_mqtt_3() {
        let cases: [(&[u8], Option<Version>); 10] = [
            (b"\x10\x0f\0\x04MQTT\x05", Some(Version::Five)),
            (b"\x10\x8f\x01\0\x04MQTT\x05", Some(Version::Five)),
            (b"\x10\x0f\0\x04MQTT\x04", Some(Version::Three)),
            (b"\x10\x0f\0\x04MQTT\x06", Some(Version::Three)),
            (b"\x10\x0f\0\x06MQIsdp\x03", Some(Version::Three)),
            (b"\x30\x0f\0\x04MQTT\x05", Some(Version::Three)),
            (b"\x10\xff\xff\xff\xff", Some(Version::Three)),
            (b"\x10\xff\xff\xff\x7f", Some(Version::Three)),
            (b"\x10\xff\xff\xff", None),
            (b"\x10\x0f\0\x04MQTT", None),
        ];
        for (bytes, version) in cases {
            assert_eq!(asked_version(bytes, 1_000), version, "{bytes:?}");
        }
    }
}
