//! The server's side of a MQTT connection. The first packet decides whether it is one of MQTT 3.1.1 or of MQTT 5.
//!
//! Feed it bytes with [`Server::handle_bytes`], take what the client wants with [`Server::poll_event`], answer with
//! [`Server::accept`] and its siblings, send what [`Server::output`] holds, and call it again at
//! [`Server::next_timeout`]. It decides nothing about who may do what. What a client does is one [`Event`] in both
//! versions where it is one thing; what only MQTT 5 can say has calls of its own, which say nothing on a connection of
//! MQTT 3.1.1.

mod five;
mod violation;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;

use self::five::Five;
pub use self::violation::Violation;
use super::codec::{self, Packets};
use super::five::{Auth, PublishProperties, SubscribeAckReason, UserProperties};
use super::{
    Connect, ConnectAckReason, NotWritten, PROTOCOL_LEVEL, Packet, PacketError, PacketId, Publish, QoS,
    SubscribeReturnCode, Version,
};

/// The limits of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest packet of MQTT 3.1.1, in bytes of its remaining length.
    pub packet_bytes_max: u32,
    /// How long the client may take to send CONNECT.
    pub connect_timeout: Duration,
    /// The longest silence, whatever keep-alive the client asked for; also the one for keep-alive 0.
    pub silence_max: Duration,
    /// Those of MQTT 5.
    pub five: FiveLimits,
}

/// The limits that CONNACK announces to a client of MQTT 5 (MQTT 5 §3.2.2.3).
#[derive(Debug, Clone, Copy)]
pub struct FiveLimits {
    /// Maximum Packet Size, in bytes of the whole packet.
    pub packet_bytes_max: u32,
    /// Receive Maximum: messages of QoS 1 that the client may send before the first is acknowledged.
    pub receive_max: u16,
    /// Topic Alias Maximum.
    pub topic_alias_max: u16,
    /// Server Keep Alive, in seconds, for a client that asks for none or a longer one.
    pub keep_alive_max: u16,
}

/// One connection.
#[derive(Debug)]
pub struct Server {
    packets: Packets,
    /// The first byte that came.
    first_byte: Option<u8>,
    state: State,
    /// Of the CONNECT, in seconds.
    keep_alive: u16,
    limits: &'static Limits,
    output: BytesMut,
    silence: Duration,
    deadline: Instant,
    next_packet_id: u16,
    /// What MQTT 5 adds, from its CONNECT on.
    five: Option<Box<Five>>,
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

/// What the client wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// To be admitted: answer with [`Server::accept`] or [`Server::refuse`].
    Connect(Box<Connect>),
    /// To be admitted, in MQTT 5: answer with [`Server::accept`] or [`Server::refuse_five`].
    ConnectFive(Box<super::five::Connect>),
    /// To publish. QoS 1 is answered with [`Server::puback`] once the message is safe. In MQTT 5 the topic is there even
    /// if an alias stood for it.
    Publish(Box<Publish>),
    /// To say that a message it was sent has arrived.
    PubAck(PacketId),
    /// To say that it does not take a message that it was sent (MQTT 5 §3.4.2.1), and the user properties of that.
    PubRefused(PacketId, UserProperties),
    /// To subscribe: answer with [`Server::suback`].
    Subscribe(PacketId, Vec<(ByteString, QoS)>),
    /// To unsubscribe: answer with [`Server::unsuback`].
    Unsubscribe(PacketId, Vec<ByteString>),
    /// To authenticate again (MQTT 5 §4.12.1): answer with [`Server::authenticated`] or [`Server::disconnect`].
    Reauthenticate(Box<Auth>),
    /// To go.
    Disconnect(Goodbye),
}

/// By what the client knows a message of QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// The identifier that its PUBACK will carry.
    pub packet_id: PacketId,
    /// Whether it was sent under it before [MQTT-3.3.1-1].
    pub dup: bool,
}

/// How a client goes. In MQTT 3.1.1 it can only say that it does (§3.14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Goodbye {
    /// Its will is to be published all the same (MQTT 5 §3.14.4).
    pub leaves_will: bool,
    /// Its session ends with the connection after all (MQTT 5 §3.14.2.2.2).
    pub ends_session: bool,
}

impl Server {
    /// A connection that was just opened.
    pub fn new(limits: &'static Limits, now: Instant) -> Self {
        Self {
            packets: Packets::of_either(limits.packet_bytes_max, limits.five.packet_bytes_max),
            first_byte: None,
            state: State::AwaitConnect,
            keep_alive: 0,
            limits,
            output: BytesMut::new(),
            silence: limits.silence_max,
            deadline: now + limits.connect_timeout,
            next_packet_id: 0,
            five: None,
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
            let read = match self.packets.version() {
                None => return Ok(None),
                Some(Version::Three) => match self.packets.next_packet() {
                    Ok(Some(packet)) => self.on_packet(packet),
                    Ok(None) => return Ok(None),
                    Err(error) => Err(self.broken(error)),
                },
                Some(Version::Five) => match self.packets.next_five() {
                    Ok(Some(packet)) => self.on_five(packet),
                    Ok(None) => return Ok(None),
                    Err(error) => Err(error.into()),
                },
            };
            match read {
                Ok(None) => {}
                Ok(event) => return Ok(event),
                Err(violation) => return Err(self.violated(violation)),
            }
        }
    }

    /// What a packet of MQTT 3.1.1 asks for; `None` for one that is answered here.
    fn on_packet(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
        Ok(Some(match (self.state, packet) {
            (State::AwaitConnect, Packet::Connect(connect)) if connect.protocol.level() != PROTOCOL_LEVEL => {
                return Err(self.broken(PacketError::ProtocolLevel));
            }
            (State::AwaitConnect, Packet::Connect(connect)) => {
                self.state = State::Authenticating;
                self.keep_alive = connect.keep_alive;
                Event::Connect(connect)
            }
            (State::AwaitConnect, _) => return Err(Violation::FirstPacketNotConnect),
            (_, Packet::Connect(_)) => return Err(Violation::SecondConnect),
            (_, Packet::Publish(publish)) if publish.qos == QoS::ExactlyOnce => {
                return Err(Violation::QosTwo);
            }
            (_, Packet::Publish(publish)) => Event::Publish(publish),
            (_, Packet::PublishAck { packet_id }) => Event::PubAck(packet_id),
            (_, Packet::Subscribe { packet_id, topic_filters }) => Event::Subscribe(packet_id, topic_filters),
            (_, Packet::Unsubscribe { packet_id, topic_filters }) => {
                Event::Unsubscribe(packet_id, topic_filters)
            }
            (_, Packet::PingRequest) => {
                codec::write(Packet::PingResponse, &mut self.output);
                return Ok(None);
            }
            (_, Packet::Disconnect) => {
                self.state = State::Closed;
                Event::Disconnect(Goodbye::default())
            }
            (
                _,
                Packet::PublishReceived { .. }
                | Packet::PublishRelease { .. }
                | Packet::PublishComplete { .. },
            ) => return Err(Violation::QosTwo),
            (
                _,
                Packet::ConnectAck(_)
                | Packet::SubscribeAck { .. }
                | Packet::UnsubscribeAck { .. }
                | Packet::PingResponse,
            ) => return Err(Violation::ServersPacket),
        }))
    }

    /// Admits the client.
    pub fn accept(&mut self, session_present: bool, now: Instant) {
        self.state = State::Online;
        match &self.five {
            None => self.connack(ConnectAckReason::ConnectionAccepted, session_present),
            Some(_) => self.welcome(session_present),
        }
        let wanted = Duration::from_secs(u64::from(self.keep_alive)).mul_f64(1.5);
        self.silence =
            if wanted.is_zero() { self.limits.silence_max } else { wanted.min(self.limits.silence_max) };
        self.deadline = now + self.silence;
    }

    /// Refuses the client; close the connection once the output is sent.
    pub fn refuse(&mut self, reason: ConnectAckReason) {
        self.state = State::Closed;
        self.connack(reason, false);
    }

    /// Acknowledges a QoS 1 PUBLISH.
    pub fn puback(&mut self, packet_id: PacketId) {
        if let Some(five) = &mut self.five {
            five.acknowledged();
        }
        codec::write_puback(packet_id, &mut self.output);
    }

    /// Answers a SUBSCRIBE with the granted quality of service of each filter, or why there is none, in order.
    pub fn suback(&mut self, packet_id: PacketId, answers: Vec<Result<QoS, SubscribeAckReason>>) {
        if self.five.is_some() {
            return self.suback_five(packet_id, answers);
        }
        let status = |answer: Result<QoS, _>| {
            answer.map_or(SubscribeReturnCode::Failure, SubscribeReturnCode::Success)
        };
        let status = answers.into_iter().map(status).collect();
        codec::write(Packet::SubscribeAck { packet_id, status }, &mut self.output);
    }

    /// Answers an UNSUBSCRIBE: for each filter, in order, whether there was such a subscription.
    pub fn unsuback(&mut self, packet_id: PacketId, existed: &[bool]) {
        match self.five {
            None => codec::write(Packet::UnsubscribeAck { packet_id }, &mut self.output),
            Some(_) => self.unsuback_five(packet_id, existed),
        }
    }

    /// Sends a message; gives the identifier that its PUBACK will carry, for QoS 1. Nothing is sent of one that no packet
    /// has room for.
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: QoS) -> Result<Option<PacketId>, NotWritten> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.take_packet_id());
        codec::try_write(codec::publish(topic, payload, qos, packet_id), &mut self.output)?;
        Ok(packet_id)
    }

    /// Sends a message of QoS 1 under a packet identifier that is kept elsewhere, in either version. Nothing is sent of one
    /// that is larger than the client takes, or that no packet has room for.
    pub fn publish_numbered(
        &mut self,
        topic: ByteString,
        payload: Bytes,
        properties: Option<PublishProperties>,
        numbered: Numbered,
    ) -> Result<(), NotWritten> {
        let Numbered { packet_id, dup } = numbered;
        let (qos, packet_id) = (QoS::AtLeastOnce, Some(packet_id));
        let publish = Box::new(Publish { dup, retain: false, qos, topic, packet_id, payload, properties });
        match self.five {
            None => codec::try_write(Packet::Publish(publish), &mut self.output),
            Some(_) => self.packets.write_five(super::five::Packet::Publish(publish), &mut self.output),
        }
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
        if self.state == State::AwaitConnect {
            match error {
                PacketError::ProtocolLevel => {
                    self.connack(ConnectAckReason::UnacceptableProtocolVersion, false); // [MQTT-3.1.2-2]
                }
                PacketError::ClientId => {
                    self.connack(ConnectAckReason::IdentifierRejected, false); // [MQTT-3.1.3-8]
                }
                PacketError::TooLarge { .. }
                | PacketError::Malformed(_)
                | PacketError::TopicName(_)
                | PacketError::Protocol(_)
                | PacketError::TopicAliasZero => {}
            }
        }
        Violation::Packet(error)
    }

    /// Closes the connection for what the client did; in MQTT 5 the client is told (MQTT 5 §4.13).
    fn violated(&mut self, violation: Violation) -> Violation {
        self.say_violation(&violation);
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
mod five_tests;
#[cfg(test)]
mod tests;
