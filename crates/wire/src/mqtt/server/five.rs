//! What MQTT 5 adds to a connection (OASIS standard, 7 March 2019). Sections are those of MQTT 5.

use bytes::Bytes;
use bytestring::ByteString;
use rmqtt_codec::v5::{
    AuthReasonCode, ConnectAck, Disconnect, PublishAck, SubscribeAck, UnsubscribeAck, UnsubscribeAckReason,
};

use super::super::five::{
    Auth, Connect, ConnectAckReason, DisconnectReasonCode, Packet, PublishAckReason, PublishProperties,
    SubscribeAckReason, UserProperties,
};
use super::super::{NotWritten, PacketError, PacketId, Publish, QoS};
use super::{Event, Goodbye, Server, State, Violation};

/// The least Maximum Packet Size of a client that every answer without a payload fits into, in bytes.
const ANSWER_BYTES: u32 = 128;
/// The longest topic that an alias is kept for, in bytes: ten of them are all that a client can have kept.
const ALIASED_BYTES_MAX: usize = 1_024;

/// What a connection of MQTT 5 keeps.
#[derive(Debug)]
pub(super) struct Five {
    /// The Authentication Method, which answers repeat [MQTT-4.12.0-5].
    method: Option<ByteString>,
    /// Session Expiry Interval, in seconds.
    session_expiry: u32,
    /// Messages of QoS 1 that the client may be sent before it acknowledges the first.
    receive_max: u16,
    /// The largest packet that the client may be sent, in bytes.
    packet_bytes_max: u32,
    /// Messages of QoS 1 that came and are not acknowledged.
    unacknowledged: u16,
    /// The topics that aliases stand for, from alias 1 on; empty where one stands for none.
    aliases: Vec<ByteString>,
}

impl Five {
    fn of(connect: &Connect) -> Self {
        Self {
            // A copy: the text that came holds on to the whole packet.
            method: connect.auth_method.as_ref().map(|method| method.to_string().into()),
            session_expiry: connect.session_expiry_interval_secs,
            receive_max: connect.receive_max.map_or(u16::MAX, Into::into),
            packet_bytes_max: connect.max_packet_size.map_or(u32::MAX, Into::into),
            unacknowledged: 0,
            aliases: Vec::new(),
        }
    }

    /// A message of QoS 1 was acknowledged.
    pub(super) fn acknowledged(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// Puts the topic into a PUBLISH for which an alias stands, and keeps the topic of a new alias (§3.3.2.3.4).
    fn resolve(&mut self, publish: &mut Publish, alias_max: u16) -> Result<(), Violation> {
        let alias = publish.properties.as_ref().and_then(|properties| properties.topic_alias);
        let Some(alias) = alias.map(|alias| usize::from(alias.get())) else {
            return if publish.topic.is_empty() { Err(Violation::NoTopic) } else { Ok(()) };
        };
        if alias > usize::from(alias_max) || publish.topic.len() > ALIASED_BYTES_MAX {
            return Err(Violation::TopicAlias);
        }
        if publish.topic.is_empty() {
            let known = self.aliases.get(alias - 1).filter(|topic| !topic.is_empty());
            publish.topic = known.ok_or(Violation::NoTopic)?.clone();
            return Ok(());
        }
        if self.aliases.len() < alias {
            self.aliases.resize(alias, ByteString::new());
        }
        if self.aliases[alias - 1] != publish.topic {
            self.aliases[alias - 1] = publish.topic.to_string().into(); // A copy, too.
        }
        Ok(())
    }
}

impl Server {
    /// Refuses the client of a CONNECT of MQTT 5; close the connection once the output is sent.
    pub fn refuse_five(&mut self, reason_code: ConnectAckReason, user_properties: UserProperties) {
        self.state = State::Closed;
        self.write(Packet::ConnectAck(Box::new(ConnectAck {
            reason_code,
            user_properties,
            ..ConnectAck::default()
        })));
    }

    /// Tells a client of MQTT 5 that its message is not taken. It counts as an acknowledgement.
    pub fn refuse_publish(
        &mut self,
        packet_id: PacketId,
        reason_code: PublishAckReason,
        properties: UserProperties,
    ) {
        if let Some(five) = &mut self.five {
            five.acknowledged();
        }
        let ack = PublishAck { packet_id, reason_code, properties, reason_string: None };
        self.write(Packet::PublishAck(ack));
    }

    /// Sends a message with properties to a client of MQTT 5; gives the identifier that its PUBACK will carry, for QoS 1.
    /// Nothing is sent of one that is larger than the client takes [MQTT-3.1.2-24].
    pub fn publish_five(
        &mut self,
        topic: ByteString,
        payload: Bytes,
        qos: QoS,
        properties: PublishProperties,
    ) -> Result<Option<PacketId>, NotWritten> {
        let packet_id = (qos != QoS::AtMostOnce).then(|| self.take_packet_id());
        let properties = Some(properties);
        let publish = Publish { dup: false, retain: false, qos, topic, packet_id, payload, properties };
        self.packets.write_five(Packet::Publish(Box::new(publish)), &mut self.output)?;
        Ok(packet_id)
    }

    /// Answers an AUTH that is good (§4.12.1).
    pub fn authenticated(&mut self) {
        let auth_method = self.five.as_ref().and_then(|five| five.method.clone());
        let reason_code = AuthReasonCode::Success;
        self.write(Packet::Auth(Auth { reason_code, auth_method, ..Auth::default() }));
    }

    /// Tells an admitted client of MQTT 5 why the connection is closed; close it once the output is sent.
    pub fn disconnect(&mut self, reason: DisconnectReasonCode, user_properties: UserProperties) {
        if self.five.is_some() && self.state == State::Online {
            self.state = State::Closed;
            self.write(Packet::Disconnect(Disconnect { user_properties, ..Disconnect::new(reason) }));
        }
    }

    /// Whether the connection is one of MQTT 5, from its CONNECT on.
    pub fn speaks_five(&self) -> bool {
        self.five.is_some()
    }

    /// The largest packet that the client takes, in bytes (§3.1.2.11.4).
    pub fn send_bytes_max(&self) -> u64 {
        self.five.as_ref().map_or(u64::MAX, |five| five.packet_bytes_max.into())
    }

    /// How many messages of QoS 1 the client takes before it acknowledges the first (§3.1.2.11.3).
    pub fn send_max(&self) -> usize {
        self.five.as_ref().map_or(usize::MAX, |five| five.receive_max.into())
    }

    /// What a packet of MQTT 5 asks for; `None` for one that is answered here.
    pub(super) fn on_five(&mut self, packet: Packet) -> Result<Option<Event>, Violation> {
        let five = match (self.state, &mut self.five, packet) {
            (State::AwaitConnect, _, Packet::Connect(connect)) => return self.on_connect(connect).map(Some),
            (State::AwaitConnect, ..) | (_, None, _) => return Err(Violation::FirstPacketNotConnect),
            (_, Some(five), packet) => (five, packet),
        };
        let (five, packet) = five;
        Ok(Some(match packet {
            Packet::Connect(_) => return Err(Violation::SecondConnect),
            Packet::Publish(mut publish) => {
                five.resolve(&mut publish, self.limits.five.topic_alias_max)?;
                self.check_publish(&publish)?;
                Event::Publish(publish)
            }
            Packet::PublishAck(ack) => match u8::from(ack.reason_code) {
                0..0x80 => Event::PubAck(ack.packet_id),
                _ => Event::PubRefused(ack.packet_id, ack.properties),
            },
            Packet::Subscribe(subscribe) if subscribe.id.is_some() => {
                return Err(Violation::SubscriptionIdentifier);
            }
            Packet::Subscribe(subscribe) => {
                let filters = subscribe.topic_filters;
                if filters.iter().any(|(filter, _)| filter.starts_with("$share/")) {
                    return Err(Violation::SharedSubscription);
                }
                let filters = filters.into_iter().map(|(filter, options)| (filter, options.qos)).collect();
                Event::Subscribe(subscribe.packet_id, filters)
            }
            Packet::Unsubscribe(packet) => Event::Unsubscribe(packet.packet_id, packet.topic_filters),
            Packet::PingRequest => {
                self.write(Packet::PingResponse);
                return Ok(None);
            }
            Packet::Auth(auth) if auth.reason_code == AuthReasonCode::ReAuth => {
                Event::Reauthenticate(Box::new(auth))
            }
            Packet::Auth(_) => return Err(Violation::Auth),
            Packet::Disconnect(disconnect) => {
                let expiry = disconnect.session_expiry_interval_secs;
                if five.session_expiry == 0 && expiry.is_some_and(|expiry| expiry > 0) {
                    return Err(Violation::SessionExpiry);
                }
                self.state = State::Closed;
                Event::Disconnect(Goodbye {
                    leaves_will: disconnect.reason_code != DisconnectReasonCode::NormalDisconnection,
                    ends_session: expiry == Some(0),
                })
            }
            Packet::PublishReceived(_) | Packet::PublishRelease(_) | Packet::PublishComplete(_) => {
                return Err(Violation::QosTwo);
            }
            Packet::ConnectAck(_)
            | Packet::SubscribeAck(_)
            | Packet::UnsubscribeAck(_)
            | Packet::PingResponse => return Err(Violation::ServersPacket),
        }))
    }

    fn on_connect(&mut self, connect: Box<Connect>) -> Result<Event, Violation> {
        if let Some(size) = connect.max_packet_size {
            if size.get() < ANSWER_BYTES {
                return Err(Violation::PacketsTooSmall(size.get()));
            }
            self.packets.limit_output(size.get());
        }
        if let Some(will) = &connect.last_will {
            if will.qos == QoS::ExactlyOnce {
                return Err(Violation::QosTwo); // [MQTT-3.2.2-12]
            }
            if will.retain {
                return Err(Violation::Retain); // [MQTT-3.2.2-13]
            }
        }
        self.state = State::Authenticating;
        self.keep_alive = connect.keep_alive;
        self.five = Some(Box::new(Five::of(&connect)));
        Ok(Event::ConnectFive(connect))
    }

    fn check_publish(&mut self, publish: &Publish) -> Result<(), Violation> {
        let Some(five) = &mut self.five else { return Ok(()) };
        if publish.retain {
            return Err(Violation::Retain); // [MQTT-3.2.2-14]
        }
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            QoS::AtLeastOnce if five.unacknowledged >= self.limits.five.receive_max => {
                Err(Violation::ReceiveMaximum(self.limits.five.receive_max))
            }
            QoS::AtLeastOnce => {
                five.unacknowledged += 1;
                Ok(())
            }
            QoS::ExactlyOnce => Err(Violation::QosTwo), // [MQTT-3.2.2-11]
        }
    }

    /// The CONNACK of an admitted client (§3.2.2.3).
    pub(super) fn welcome(&mut self, session_present: bool) {
        let limits = &self.limits.five;
        let is_long = self.keep_alive == 0 || self.keep_alive > limits.keep_alive_max;
        let server_keepalive_sec = is_long.then_some(limits.keep_alive_max);
        self.keep_alive = server_keepalive_sec.unwrap_or(self.keep_alive);
        let five = self.five.as_deref();
        let packet = ConnectAck {
            session_present,
            // A session that is kept at all is kept until the client ends it.
            session_expiry_interval_secs: five
                .filter(|five| (1..u32::MAX).contains(&five.session_expiry))
                .map(|_| u32::MAX),
            receive_max: limits.receive_max.try_into().unwrap_or(PacketId::MAX),
            max_qos: QoS::AtLeastOnce,
            retain_available: false,
            max_packet_size: Some(limits.packet_bytes_max),
            topic_alias_max: limits.topic_alias_max,
            subscription_identifiers_available: false,
            shared_subscription_available: false,
            server_keepalive_sec,
            auth_method: five.and_then(|five| five.method.clone()),
            ..ConnectAck::default()
        };
        self.write(Packet::ConnectAck(Box::new(packet)));
    }

    pub(super) fn suback_five(&mut self, packet_id: PacketId, answers: Vec<Result<QoS, SubscribeAckReason>>) {
        let status = |answer| match answer {
            Ok(QoS::AtMostOnce) => SubscribeAckReason::GrantedQos0,
            Ok(QoS::AtLeastOnce) => SubscribeAckReason::GrantedQos1,
            Ok(QoS::ExactlyOnce) => SubscribeAckReason::GrantedQos2,
            Err(reason) => reason,
        };
        let status = answers.into_iter().map(status).collect();
        self.write(Packet::SubscribeAck(SubscribeAck {
            packet_id,
            status,
            properties: UserProperties::new(),
            reason_string: None,
        }));
    }

    pub(super) fn unsuback_five(&mut self, packet_id: PacketId, existed: &[bool]) {
        let status = |existed: &bool| match existed {
            true => UnsubscribeAckReason::Success,
            false => UnsubscribeAckReason::NoSubscriptionExisted,
        };
        let status = existed.iter().map(status).collect();
        self.write(Packet::UnsubscribeAck(UnsubscribeAck {
            packet_id,
            status,
            properties: UserProperties::new(),
            reason_string: None,
        }));
    }

    /// Tells a client of MQTT 5 what it did wrong, by CONNACK or DISCONNECT as it is due (§4.13.1).
    pub(super) fn say_violation(&mut self, violation: &Violation) {
        let reason = violation.reason();
        match self.state {
            // To another protocol nothing is said.
            State::AwaitConnect if matches!(violation, Violation::FirstPacketNotConnect) => {}
            State::AwaitConnect if *violation == Violation::Packet(PacketError::ClientId) => {
                self.refuse_five(ConnectAckReason::ClientIdentifierNotValid, UserProperties::new());
            }
            State::AwaitConnect | State::Authenticating => {
                if let Ok(reason) = ConnectAckReason::try_from(u8::from(reason))
                    && *violation != Violation::ConnectTimeout
                {
                    self.refuse_five(reason, UserProperties::new());
                }
            }
            State::Online => self.disconnect(reason, UserProperties::new()),
            State::Closed => {}
        }
    }

    /// Writes what always fits: answers without a payload, of which what is too long is left out.
    fn write(&mut self, packet: Packet) {
        // On a connection of MQTT 3.1.1 nothing is written.
        let _ = self.packets.write_five(packet, &mut self.output);
    }
}
