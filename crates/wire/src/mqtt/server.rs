//! The server's side of an MQTT 3.1.1 connection.
//!
//! Feed it bytes with [`Server::handle_bytes`], take what the client wants with [`Server::poll_event`], answer with
//! [`Server::accept`] and its siblings, send what [`Server::output`] holds, and call it again at
//! [`Server::next_timeout`]. It decides nothing about who may do what.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::codec::{self, Packets};
use super::{Connect, ConnectAckReason, Packet, PacketError, PacketId, Publish, QoS, SubscribeReturnCode};

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest packet, in bytes.
    pub packet_bytes_max: u32,
    /// How long the client may take to send CONNECT.
    pub connect_timeout: Duration,
    /// The longest silence, whatever keep-alive the client asked for; also the one for keep-alive 0.
    pub silence_max: Duration,
}

/// One connection.
#[derive(Debug)]
pub struct Server {
    packets: Packets,
    /// The first byte that came.
    first_byte: Option<u8>,
    state: State,
    limits: Limits,
    output: BytesMut,
    silence: Duration,
    deadline: Instant,
    next_packet_id: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    AwaitConnect,
    Authenticating,
    Online,
    Closed,
}

/// The first byte of a CONNECT packet (§3.1.1).
const CONNECT: u8 = 0x10;
/// The protocol level of MQTT 3.1.1 (§3.1.2.2).
const PROTOCOL_LEVEL: u8 = 4;

/// What the client wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To be admitted: answer with [`Server::accept`] or [`Server::refuse`].
    Connect(Box<Connect>),
    /// To publish. QoS 1 is answered with [`Server::puback`] once the message is safe.
    Publish(Box<Publish>),
    /// To say that a message it was sent has arrived.
    PubAck(PacketId),
    /// To subscribe: answer with [`Server::suback`].
    Subscribe(PacketId, Vec<(bytestring::ByteString, QoS)>),
    /// To unsubscribe: answer with [`Server::unsuback`].
    Unsubscribe(PacketId, Vec<bytestring::ByteString>),
    /// To go: its will is discarded (§3.14).
    Disconnect,
}

/// How the client broke the standard. The connection is closed without an answer (§4.8), but for a CONNECT of
/// another protocol level, which has been answered with return code 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The bytes are no packet.
    #[error(transparent)]
    Packet(#[from] PacketError),
    /// The first packet was not CONNECT [MQTT-3.1.0-1].
    #[error("the first packet was not CONNECT")]
    FirstPacketNotConnect,
    /// A second CONNECT came [MQTT-3.1.0-2].
    #[error("a second CONNECT came")]
    SecondConnect,
    /// A packet came that only a server sends.
    #[error("a packet came that only a server sends")]
    ServersPacket,
    /// QoS 2 was used, which this server does not serve.
    #[error("a QoS 2 packet came, which is not served")]
    QosTwo,
    /// No CONNECT came in time.
    #[error("no CONNECT came in time")]
    ConnectTimeout,
    /// The client was silent for one and a half keep-alives [MQTT-3.1.2-24].
    #[error("nothing came for {0} s, one and a half times the keep-alive")]
    KeepAlive(u64),
}

impl Server {
    /// A connection that was just opened.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            packets: Packets::new(limits.packet_bytes_max),
            first_byte: None,
            state: State::AwaitConnect,
            limits,
            output: BytesMut::new(),
            silence: limits.silence_max,
            deadline: now + limits.connect_timeout,
            next_packet_id: 0,
        }
    }

    /// Takes bytes that came.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        self.first_byte = self.first_byte.or_else(|| bytes.first().copied());
        self.packets.feed(bytes);
        if self.state == State::Online {
            self.deadline = now + self.silence;
        }
    }

    /// What the client wants next; `None` until more bytes come, and while a CONNECT is not answered yet.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Violation> {
        loop {
            if matches!(self.state, State::Authenticating | State::Closed) {
                return Ok(None);
            }
            // What is no MQTT is told by its first byte; the length behind it would have us wait for more.
            if self.state == State::AwaitConnect && self.first_byte.is_some_and(|byte| byte != CONNECT) {
                return Err(self.violated(Violation::FirstPacketNotConnect));
            }
            let packet = match self.packets.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.broken(error)),
            };
            let event = match (self.state, packet) {
                (State::AwaitConnect, Packet::Connect(connect))
                    if connect.protocol.level() != PROTOCOL_LEVEL =>
                {
                    return Err(self.broken(PacketError::ProtocolLevel));
                }
                (State::AwaitConnect, Packet::Connect(connect)) => {
                    self.state = State::Authenticating;
                    Event::Connect(connect)
                }
                (State::AwaitConnect, _) => return Err(self.violated(Violation::FirstPacketNotConnect)),
                (_, Packet::Connect(_)) => return Err(self.violated(Violation::SecondConnect)),
                (_, Packet::Publish(publish)) if publish.qos == QoS::ExactlyOnce => {
                    return Err(self.violated(Violation::QosTwo));
                }
                (_, Packet::Publish(publish)) => Event::Publish(publish),
                (_, Packet::PublishAck { packet_id }) => Event::PubAck(packet_id),
                (_, Packet::Subscribe { packet_id, topic_filters }) => {
                    Event::Subscribe(packet_id, topic_filters)
                }
                (_, Packet::Unsubscribe { packet_id, topic_filters }) => {
                    Event::Unsubscribe(packet_id, topic_filters)
                }
                (_, Packet::PingRequest) => {
                    codec::write(Packet::PingResponse, &mut self.output);
                    continue;
                }
                (_, Packet::Disconnect) => {
                    self.state = State::Closed;
                    Event::Disconnect
                }
                (
                    _,
                    Packet::PublishReceived { .. }
                    | Packet::PublishRelease { .. }
                    | Packet::PublishComplete { .. },
                ) => return Err(self.violated(Violation::QosTwo)),
                (
                    _,
                    Packet::ConnectAck(_)
                    | Packet::SubscribeAck { .. }
                    | Packet::UnsubscribeAck { .. }
                    | Packet::PingResponse,
                ) => return Err(self.violated(Violation::ServersPacket)),
            };
            return Ok(Some(event));
        }
    }

    /// Admits the client (CONNACK 0).
    pub fn accept(&mut self, connect: &Connect, session_present: bool, now: Instant) {
        self.state = State::Online;
        let wanted = Duration::from_secs(u64::from(connect.keep_alive)).mul_f64(1.5);
        self.silence =
            if wanted.is_zero() { self.limits.silence_max } else { wanted.min(self.limits.silence_max) };
        self.deadline = now + self.silence;
        self.connack(ConnectAckReason::ConnectionAccepted, session_present);
    }

    /// Refuses the client; close the connection once the output is sent.
    pub fn refuse(&mut self, reason: ConnectAckReason) {
        self.state = State::Closed;
        self.connack(reason, false);
    }

    /// Acknowledges a QoS 1 PUBLISH.
    pub fn puback(&mut self, packet_id: PacketId) {
        codec::write_puback(packet_id, &mut self.output);
    }

    /// Answers a SUBSCRIBE with one code for each filter, in order.
    pub fn suback(&mut self, packet_id: PacketId, status: Vec<SubscribeReturnCode>) {
        codec::write(Packet::SubscribeAck { packet_id, status }, &mut self.output);
    }

    /// Answers an UNSUBSCRIBE.
    pub fn unsuback(&mut self, packet_id: PacketId) {
        codec::write(Packet::UnsubscribeAck { packet_id }, &mut self.output);
    }

    /// Sends a message; gives the identifier that its PUBACK will carry, for QoS 1.
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: QoS) -> Option<PacketId> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.take_packet_id());
        codec::write(codec::publish(topic, payload, qos, packet_id), &mut self.output);
        packet_id
    }

    /// The first byte that came, which tells another protocol apart.
    pub fn first_byte(&self) -> Option<u8> {
        self.first_byte
    }

    /// What is to be sent. The caller takes the bytes out as they are written.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// When to call [`Server::handle_timeout`] next.
    pub fn next_timeout(&self) -> Instant {
        self.deadline
    }

    /// Whether the client was silent for too long.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        if now < self.deadline {
            return Ok(());
        }
        Err(match self.state {
            State::AwaitConnect => self.violated(Violation::ConnectTimeout),
            _ => self.violated(Violation::KeepAlive(self.silence.as_secs())),
        })
    }

    fn connack(&mut self, return_code: ConnectAckReason, session_present: bool) {
        let packet = rmqtt_codec::v3::ConnectAck { return_code, session_present };
        codec::write(Packet::ConnectAck(packet), &mut self.output);
    }

    fn broken(&mut self, error: PacketError) -> Violation {
        if self.state == State::AwaitConnect && error == PacketError::ProtocolLevel {
            self.connack(ConnectAckReason::UnacceptableProtocolVersion, false); // [MQTT-3.1.2-2]
        }
        self.violated(Violation::Packet(error))
    }

    fn violated(&mut self, violation: Violation) -> Violation {
        self.state = State::Closed;
        violation
    }

    fn take_packet_id(&mut self) -> PacketId {
        self.next_packet_id = self.next_packet_id.wrapping_add(1);
        PacketId::new(self.next_packet_id).unwrap_or_else(|| {
            self.next_packet_id = 1;
            PacketId::MIN
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, ClientEvent};
    use super::*;

    const LIMITS: Limits = Limits {
        packet_bytes_max: 300_000,
        connect_timeout: Duration::from_secs(30),
        silence_max: Duration::from_secs(1_767),
    };

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn connect(keep_alive: u16) -> Connect {
        Connect { keep_alive, client_id: "d1".into(), ..Connect::default() }
    }

    fn exchange(client: &mut Client, server: &mut Server, now: Instant) {
        let bytes = client.output().split();
        server.handle_bytes(&bytes, now);
    }

    fn online(keep_alive: u16) -> (Client, Server, Instant) {
        let now = Instant::now();
        let (mut client, mut server) = (Client::new(connect(keep_alive)), Server::new(LIMITS, now));
        exchange(&mut client, &mut server, now);
        let Ok(Some(Event::Connect(asked))) = server.poll_event() else { panic!("a CONNECT came") };
        server.accept(&asked, false, now);
        client.handle_bytes(&server.output().split());
        let connected = ClientEvent::Connected { session_present: false };
        assert_eq!(client.poll_event(), Ok(Some(connected)));
        (client, server, now)
    }

    #[test]
    fn a_published_message_arrives_and_is_acknowledged() {
        let (mut client, mut server, now) = online(60);
        let id = client.publish("a/b", Bytes::from_static(b"x"), QoS::AtLeastOnce).expect("QoS 1 has an id");
        exchange(&mut client, &mut server, now);
        let Ok(Some(Event::Publish(publish))) = server.poll_event() else { panic!("a PUBLISH came") };
        assert_eq!((&*publish.topic, &publish.payload[..], publish.packet_id), ("a/b", &b"x"[..], Some(id)));
        server.puback(id);
        client.handle_bytes(&server.output().split());
        assert_eq!(client.poll_event(), Ok(Some(ClientEvent::PubAck(id))));
    }

    #[test]
    fn a_connect_that_comes_byte_by_byte_is_one() {
        let now = Instant::now();
        let (mut client, mut server) = (Client::new(connect(60)), Server::new(LIMITS, now));
        let bytes = client.output().split();
        for byte in &bytes[..bytes.len() - 1] {
            server.handle_bytes(&[*byte], now);
            assert_eq!(server.poll_event(), Ok(None));
        }
        server.handle_bytes(&bytes[bytes.len() - 1..], now);
        assert!(matches!(server.poll_event(), Ok(Some(Event::Connect(_)))));
    }

    #[test]
    fn silence_for_one_and_a_half_keep_alives_closes_the_connection() {
        let (mut client, mut server, start) = online(60);
        client.ping();
        exchange(&mut client, &mut server, start + secs(10));
        assert_eq!(server.poll_event(), Ok(None));
        assert_eq!(&server.output()[..], [0xd0, 0x00]);
        assert_eq!(server.next_timeout(), start + secs(100));
        assert_eq!(server.handle_timeout(start + secs(99)), Ok(()));
        assert_eq!(server.handle_timeout(start + secs(100)), Err(Violation::KeepAlive(90)));
    }

    #[test]
    fn keep_alive_zero_and_a_very_long_one_are_capped() {
        for keep_alive in [0, 1_178, u16::MAX] {
            let (_, server, start) = online(keep_alive);
            assert_eq!(server.next_timeout(), start + LIMITS.silence_max, "{keep_alive}");
        }
    }

    #[test]
    fn a_client_that_sends_nothing_is_closed() {
        let now = Instant::now();
        let mut server = Server::new(LIMITS, now);
        assert_eq!(server.handle_timeout(now + secs(30)), Err(Violation::ConnectTimeout));
    }

    #[test]
    fn what_breaks_the_standard_is_named() {
        let now = Instant::now();
        let first = |bytes: &[u8]| {
            let mut server = Server::new(LIMITS, now);
            server.handle_bytes(bytes, now);
            (server.poll_event(), server.output().to_vec())
        };
        assert_eq!(first(&[0xc0, 0]), (Err(Violation::FirstPacketNotConnect), vec![]));
        let level_five = b"\x10\x0f\0\x04MQTT\x05\x02\0\x3c\0\0\x02d1";
        let refused = Err(Violation::Packet(PacketError::ProtocolLevel));
        assert_eq!(first(level_five), (refused.clone(), vec![0x20, 2, 0, 1]));
        let level_three = b"\x10\x10\0\x06MQIsdp\x03\x02\0\x3c\0\x02d1";
        assert_eq!(first(level_three), (refused, vec![0x20, 2, 0, 1]));
        assert_eq!(first(b"GET / HTTP/1.1\r\n"), (Err(Violation::FirstPacketNotConnect), vec![]));

        let then = |bytes: &[u8]| {
            let (_, mut server, now) = online(60);
            server.handle_bytes(bytes, now);
            server.poll_event()
        };
        assert_eq!(then(b"\x10\x0e\0\x04MQTT\x04\x02\0\x3c\0\x02d1"), Err(Violation::SecondConnect));
        assert_eq!(then(b"\x34\x06\0\x01a\0\x01x"), Err(Violation::QosTwo));
        assert_eq!(then(&[0xd0, 0]), Err(Violation::ServersPacket));
    }

    #[test]
    fn packet_identifiers_are_never_zero() {
        let (_, mut server, _) = online(60);
        for n in 1..=70_000_u32 {
            let id = server.publish("t", Bytes::new(), QoS::AtLeastOnce).expect("QoS 1 has an id");
            assert_eq!(u32::from(id.get()), (n - 1) % 65_535 + 1);
            server.output().clear();
        }
    }
}
