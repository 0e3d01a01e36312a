//! The client's side of an MQTT 3.1.1 connection, for simulated devices, tests and the benchmark.

use bytes::{Bytes, BytesMut};

use super::codec::{self, Packets};
use super::{
    Connect, ConnectAckReason, NotWritten, Packet, PacketError, PacketId, Publish, QoS, SubscribeReturnCode,
};

/// The longest packet that a client reads, in bytes.
const PACKET_BYTES_MAX: u32 = 1024 * 1024;

/// One connection. CONNECT is in the output from the start.
#[derive(Debug)]
pub struct Client {
    packets: Packets,
    output: BytesMut,
    next_packet_id: u16,
}

/// What the server says.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientEvent {
    /// The client is admitted.
    Connected {
        /// Whether the server kept a session.
        session_present: bool,
    },
    /// The client is refused.
    Refused(ConnectAckReason),
    /// A published message is safe.
    PubAck(PacketId),
    /// A message came. One of QoS 1 has been acknowledged.
    Publish(Box<Publish>),
    /// The answer to a SUBSCRIBE.
    SubAck(PacketId, Vec<SubscribeReturnCode>),
    /// The answer to a ping or an UNSUBSCRIBE.
    Other,
}

impl Client {
    /// A connection that begins with this CONNECT.
    pub fn new(connect: Connect) -> Self {
        let mut output = BytesMut::new();
        codec::write(Packet::Connect(Box::new(connect)), &mut output);
        Self { packets: Packets::new(PACKET_BYTES_MAX), output, next_packet_id: 0 }
    }

    /// Takes bytes that came.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        self.packets.feed(bytes);
    }

    /// What the server says next; `None` until more bytes come.
    pub fn poll_event(&mut self) -> Result<Option<ClientEvent>, PacketError> {
        let Some(packet) = self.packets.next_packet()? else { return Ok(None) };
        Ok(Some(match packet {
            Packet::ConnectAck(ack) if ack.return_code == ConnectAckReason::ConnectionAccepted => {
                ClientEvent::Connected { session_present: ack.session_present }
            }
            Packet::ConnectAck(ack) => ClientEvent::Refused(ack.return_code),
            Packet::PublishAck { packet_id } => ClientEvent::PubAck(packet_id),
            Packet::Publish(publish) => {
                if let Some(packet_id) = publish.packet_id {
                    codec::write_puback(packet_id, &mut self.output);
                }
                ClientEvent::Publish(publish)
            }
            Packet::SubscribeAck { packet_id, status } => ClientEvent::SubAck(packet_id, status),
            _ => ClientEvent::Other,
        }))
    }

    /// Publishes; gives the identifier that the PUBACK will carry, for QoS 1. Nothing is sent of what no packet has room for.
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: QoS) -> Result<Option<PacketId>, NotWritten> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.take_packet_id());
        codec::try_write(codec::publish(topic, payload, qos, packet_id), &mut self.output)?;
        Ok(packet_id)
    }

    /// Subscribes to filters with one QoS.
    pub fn subscribe(&mut self, filters: &[&str], qos: QoS) -> PacketId {
        let packet_id = self.take_packet_id();
        let topic_filters = filters.iter().map(|filter| ((*filter).into(), qos)).collect();
        codec::write(Packet::Subscribe { packet_id, topic_filters }, &mut self.output);
        packet_id
    }

    /// Sends PINGREQ.
    pub fn ping(&mut self) {
        codec::write(Packet::PingRequest, &mut self.output);
    }

    /// Says good-bye.
    pub fn disconnect(&mut self) {
        codec::write(Packet::Disconnect, &mut self.output);
    }

    /// What is to be sent. The caller takes the bytes out as they are written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    fn take_packet_id(&mut self) -> PacketId {
        self.next_packet_id = if self.next_packet_id == u16::MAX { 1 } else { self.next_packet_id + 1 };
        PacketId::new(self.next_packet_id).unwrap_or(PacketId::MIN)
    }
}
