use std::num::NonZeroU16;

use rmqtt_codec::v5::{
    Auth, AuthReasonCode, Codec, Connect, ConnectAckReason, Disconnect, DisconnectReasonCode, LastWill,
    Packet, PublishAck, PublishAckReason, PublishProperties, Subscribe, SubscriptionOptions,
};
use tokio_util::codec::{Decoder as _, Encoder as _};

use super::tests::LIMITS;
use super::*;

/// A CONNECT of paho-mqtt 1.6.1 (MQTTv5) with enhanced authentication, limits of its own, user properties, and a will.
const PAHO: &[u8] =
    b"\x10\x8f\x02\0\x04MQTT\x05\x0c\0<\xc2\x01\x11\0\0\0<\x15\0\x03SAS\x16\0 \x01\x01\x01\x01\x01\x01\x01\x01\
    \x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01!\0\x08\
    \x22\0\x05&\0\x0bapi-version\0\x122020-10-01-preview&\0\x04host\0\x0fhub.example.net&\0\x06sas-at\0\
    \x0d1760000000000&\0\x0asas-expiry\0\x0d1760003600000&\0\x0cclient-agent\0\x0apaho/1.6.1'\0\x01\x86\xa0\0\
    \x06pump-1\x1f\x03\0\x0atext/plain\x18\0\0\0\x05&\0\x05@left\0\x03yes\0\x11$iothub/telemetry\0\x04gone";

fn bytes(packets: impl IntoIterator<Item = Packet>) -> BytesMut {
    let mut out = BytesMut::new();
    for packet in packets {
        Codec::default().encode(packet, &mut out).expect("it encodes");
    }
    out
}

fn packets(mut bytes: BytesMut) -> Vec<Packet> {
    let codec = &mut Codec::default();
    std::iter::from_fn(|| codec.decode(&mut bytes).expect("a packet").map(|(packet, _)| packet)).collect()
}

fn connect() -> Connect {
    Connect { client_id: "d1".into(), auth_method: Some("SAS".into()), keep_alive: 60, ..Connect::default() }
}

/// The machine after it admitted the client of this CONNECT, and the CONNACK.
fn online(connect: Connect) -> (Server, rmqtt_codec::v5::ConnectAck, Instant) {
    let now = Instant::now();
    let mut server = Server::new(&LIMITS, now);
    server.handle_bytes(&bytes([connect.into()]), now);
    assert!(matches!(server.poll_event(), Ok(Some(Event::ConnectFive(_)))));
    server.accept(false, now);
    let output = server.output().split();
    let [Packet::ConnectAck(ack)] = &packets(output)[..] else { panic!("a CONNACK goes out") };
    (server, (**ack).clone(), now)
}

fn publish(topic: &str, qos: u16, properties: PublishProperties) -> Packet {
    Packet::Publish(Box::new(Publish {
        dup: false,
        retain: false,
        qos: if qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
        topic: topic.into(),
        packet_id: NonZeroU16::new(qos),
        payload: Bytes::from_static(b"x"),
        properties: Some(properties),
    }))
}

fn aliased(topic: &str, alias: u16) -> Packet {
    publish(
        topic,
        0,
        PublishProperties { topic_alias: NonZeroU16::new(alias), ..PublishProperties::default() },
    )
}

/// What the machine makes of packets of an admitted client, and the reason code that it says to the last.
fn after(wanted: Connect, sent: impl IntoIterator<Item = Packet>) -> (Result<Option<Event>, Violation>, u8) {
    let (mut server, _, now) = online(wanted);
    server.handle_bytes(&bytes(sent), now);
    let mut last = server.poll_event();
    while let Ok(Some(Event::Publish(_))) = last {
        last = server.poll_event();
    }
    let output = server.output().split();
    let code = packets(output).last().map(|packet| match packet {
        Packet::Disconnect(disconnect) => disconnect.reason_code.into(),
        _ => 0,
    });
    (last, code.unwrap_or_default())
}

#[test]
fn a_connect_of_mqtt_5_is_one_whatever_pieces_it_comes_in() {
    for cut in 1..PAHO.len() {
        let now = Instant::now();
        let mut server = Server::new(&LIMITS, now);
        server.handle_bytes(&PAHO[..cut], now);
        assert_eq!(server.poll_event(), Ok(None), "cut at {cut}");
        server.handle_bytes(&PAHO[cut..], now);
        let Ok(Some(Event::ConnectFive(connect))) = server.poll_event() else { panic!("cut at {cut}") };
        assert_eq!((&*connect.client_id, connect.clean_start), ("pump-1", false));
        assert_eq!(connect.auth_method.as_deref(), Some("SAS"));
        assert_eq!(connect.auth_data.as_deref(), Some(&[1; 32][..]));
        assert_eq!(connect.user_properties.len(), 5);
        assert_eq!(connect.last_will.and_then(|will| will.will_delay_interval_sec), Some(5));
    }
}

#[test]
fn connack_announces_the_limits() {
    let (_, ack, _) = online(Connect { session_expiry_interval_secs: 60, ..connect() });
    assert_eq!((ack.receive_max.get(), ack.max_qos), (16, QoS::AtLeastOnce));
    assert_eq!((ack.max_packet_size, ack.topic_alias_max), (Some(262_144), 10));
    assert!(!ack.retain_available && !ack.subscription_identifiers_available);
    assert!(!ack.shared_subscription_available && ack.wildcard_subscription_available);
    assert_eq!(ack.auth_method.as_deref(), Some("SAS"));
    assert_eq!((ack.server_keepalive_sec, ack.session_expiry_interval_secs), (None, Some(u32::MAX)));
    for (wanted, announced) in [(0, Some(1_140)), (1_140, None), (1_141, Some(1_140))] {
        let (server, ack, start) = online(Connect { keep_alive: wanted, ..connect() });
        assert_eq!(ack.server_keepalive_sec, announced, "{wanted}");
        assert_eq!(server.next_timeout(), start + Duration::from_secs(1_710), "{wanted}");
    }
    for expiry in [0, u32::MAX] {
        let (_, ack, _) = online(Connect { session_expiry_interval_secs: expiry, ..connect() });
        assert_eq!(ack.session_expiry_interval_secs, None, "{expiry}");
    }
}

#[test]
fn an_alias_stands_for_its_topic_until_it_is_given_another() {
    let (mut server, _, now) = online(connect());
    let sent = [aliased("a", 10), aliased("", 10), aliased("b", 10), aliased("", 10), aliased("c", 1)];
    server.handle_bytes(&bytes(sent), now);
    let topics: Vec<_> = std::iter::from_fn(|| match server.poll_event() {
        Ok(Some(Event::Publish(publish))) => Some(publish.topic.to_string()),
        _ => None,
    })
    .collect();
    assert_eq!(topics, ["a", "a", "b", "b", "c"]);
}

#[test]
fn what_breaks_the_standard_is_answered_with_its_reason_code() {
    let with = |set: fn(&mut PublishProperties)| {
        let mut properties = PublishProperties::default();
        set(&mut properties);
        publish("a", 0, properties)
    };
    let retained = || match publish("a", 0, PublishProperties::default()) {
        Packet::Publish(publish) => Packet::Publish(Box::new(Publish { retain: true, ..*publish })),
        other => other,
    };
    let subscribe = |filter: &str, id| {
        let options = SubscriptionOptions::default();
        let topic_filters = vec![(filter.into(), options)];
        Packet::Subscribe(Subscribe { packet_id: PacketId::MIN, id, user_properties: vec![], topic_filters })
    };
    let goodbye = |expiry| {
        let reason = DisconnectReasonCode::NormalDisconnection;
        Packet::Disconnect(Disconnect { session_expiry_interval_secs: expiry, ..Disconnect::new(reason) })
    };
    let long = "x".repeat(1_025);
    let cases = [
        (vec![aliased("a", 11)], Violation::TopicAlias, 0x94),
        (vec![aliased(&long, 1)], Violation::TopicAlias, 0x94),
        (vec![aliased("a", 2), aliased("", 1)], Violation::NoTopic, 0x82),
        (vec![publish("", 0, PublishProperties::default())], Violation::NoTopic, 0x82),
        (vec![retained()], Violation::Retain, 0x9a),
        (
            vec![with(|properties| properties.subscription_ids = vec![std::num::NonZeroU32::MIN])],
            Violation::Packet(PacketError::Protocol(
                "a PUBLISH of a client has a subscription identifier".to_owned(),
            )),
            0x82,
        ),
        (vec![subscribe("a", Some(std::num::NonZeroU32::MIN))], Violation::SubscriptionIdentifier, 0xa1),
        (vec![subscribe("$share/g/a", None)], Violation::SharedSubscription, 0x9e),
        (vec![connect().into()], Violation::SecondConnect, 0x82),
        (vec![Packet::PingResponse], Violation::ServersPacket, 0x82),
        (vec![Auth::default().into()], Violation::Auth, 0x82),
        (vec![goodbye(Some(1))], Violation::SessionExpiry, 0x82),
        (
            (1..=17).map(|id| publish("a", id, PublishProperties::default())).collect(),
            Violation::ReceiveMaximum(16),
            0x93,
        ),
    ];
    for (sent, violation, code) in cases {
        assert_eq!(after(connect(), sent), (Err(violation), code));
    }
    let (mut server, _, now) = online(connect());
    server.handle_bytes(b"\x34\x07\0\x01a\0\x01\0x", now);
    assert_eq!(server.poll_event(), Err(Violation::QosTwo));
    assert_eq!(server.output().split(), b"\xe0\x02\x9b\0"[..]);
    assert_eq!(server.poll_event(), Ok(None), "nothing is read after that");
}

#[test]
fn a_packet_over_the_limit_is_refused_before_its_bytes_come() {
    let (mut server, _, now) = online(connect());
    // 262,141 bytes and the four of the header are one more than CONNACK allows.
    server.handle_bytes(b"\x32\xfd\xff\x0f", now);
    let Err(Violation::Packet(PacketError::TooLarge { .. })) = server.poll_event() else {
        panic!("too large")
    };
    assert_eq!(server.output().split(), b"\xe0\x02\x95\0"[..]);
}

#[test]
fn a_refused_connect_gets_a_connack() {
    let first = |bytes: &[u8]| {
        let now = Instant::now();
        let mut server = Server::new(&LIMITS, now);
        server.handle_bytes(bytes, now);
        let read = server.poll_event();
        assert!(read.is_err() || !bytes.ends_with(b"d1"), "{read:?}");
        server.output().to_vec()
    };
    let will = |qos, retain| {
        let last_will = LastWill {
            qos,
            retain,
            topic: "a".into(),
            message: Bytes::new(),
            will_delay_interval_sec: None,
            correlation_data: None,
            message_expiry_interval: None,
            content_type: None,
            user_properties: vec![],
            is_utf8_payload: None,
            response_topic: None,
        };
        bytes([Connect { last_will: Some(last_will), ..connect() }.into()])
    };
    assert_eq!(first(&will(QoS::ExactlyOnce, false)), b"\x20\x03\0\x9b\0");
    assert_eq!(first(&will(QoS::AtMostOnce, true)), b"\x20\x03\0\x9a\0");
    let small = Connect { max_packet_size: std::num::NonZeroU32::new(127), ..connect() };
    assert_eq!(first(&bytes([small.into()])), b"\x20\x03\0\x95\0");
    // Property 0x01 stands in no CONNECT.
    assert_eq!(first(b"\x10\x11\0\x04MQTT\x05\x02\0\x3c\x02\x01\x01\0\x02d1"), b"\x20\x03\0\x81\0");

    let now = Instant::now();
    let mut server = Server::new(&LIMITS, now);
    server.handle_bytes(PAHO, now);
    assert!(matches!(server.poll_event(), Ok(Some(Event::ConnectFive(_)))));
    server.refuse_five(ConnectAckReason::NotAuthorized, vec![]);
    assert_eq!(server.output().split(), b"\x20\x03\0\x87\0"[..]);
}

#[test]
fn the_receive_maximum_counts_what_is_not_acknowledged() {
    let (mut server, _, now) = online(connect());
    for round in 0..100 {
        server.handle_bytes(&bytes([publish("a", round + 1, PublishProperties::default())]), now);
        let Ok(Some(Event::Publish(publish))) = server.poll_event() else { panic!("round {round}") };
        let id = publish.packet_id.expect("QoS 1 has an id");
        match round % 2 {
            0 => server.puback(id),
            _ => server.refuse_publish(id, PublishAckReason::ImplementationSpecificError, vec![]),
        }
    }
}

#[test]
fn a_client_gets_no_more_than_it_takes() {
    let (mut server, _, _) = online(Connect {
        max_packet_size: std::num::NonZeroU32::new(128),
        request_problem_info: false,
        receive_max: NonZeroU16::new(3),
        ..connect()
    });
    assert_eq!(server.send_max(), 3);
    let fits = server.publish_five("t".into(), Bytes::new(), QoS::AtLeastOnce, PublishProperties::default());
    assert_eq!(fits, Ok(Some(PacketId::MIN)));
    server.output().clear();
    let payload = Bytes::from(vec![0; 128]);
    let large = server.publish_five("t".into(), payload, QoS::AtMostOnce, PublishProperties::default());
    assert!(large.is_err() && server.output().is_empty());
    // Whoever wants no problem information gets none in a PUBACK, but in a DISCONNECT [MQTT-3.1.2-29].
    let property = || vec![("reason".into(), "because".into())];
    server.refuse_publish(PacketId::MIN, PublishAckReason::ImplementationSpecificError, property());
    assert_eq!(server.output().split(), b"\x40\x04\0\x01\x83\0"[..]);
    server.disconnect(DisconnectReasonCode::NotAuthorized, property());
    let output = server.output().split();
    let [Packet::Disconnect(disconnect)] = &packets(output)[..] else { panic!("a DISCONNECT goes out") };
    assert_eq!(disconnect.user_properties, property());
}

#[test]
fn a_client_refuses_a_message_by_its_acknowledgement() {
    let refused = |reason_code| {
        let properties = vec![("status".into(), "0603".into())];
        Packet::PublishAck(PublishAck {
            packet_id: PacketId::MIN,
            reason_code,
            properties,
            reason_string: None,
        })
    };
    let (event, _) = after(connect(), [refused(PublishAckReason::ImplementationSpecificError)]);
    assert_eq!(event, Ok(Some(Event::PubRefused(PacketId::MIN, vec![("status".into(), "0603".into())]))));
    let (event, _) = after(connect(), [refused(PublishAckReason::NoMatchingSubscribers)]);
    assert_eq!(event, Ok(Some(Event::PubAck(PacketId::MIN))));
}

#[test]
fn a_client_may_leave_its_will_and_end_its_session() {
    let goodbye = |reason, expiry| {
        let packet = Disconnect { session_expiry_interval_secs: expiry, ..Disconnect::new(reason) };
        let wanted = Connect { session_expiry_interval_secs: 60, ..connect() };
        match after(wanted, [packet.into()]).0 {
            Ok(Some(Event::Disconnect(goodbye))) => (goodbye.leaves_will, goodbye.ends_session),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(goodbye(DisconnectReasonCode::NormalDisconnection, None), (false, false));
    assert_eq!(goodbye(DisconnectReasonCode::NormalDisconnection, Some(0)), (false, true));
    assert_eq!(goodbye(DisconnectReasonCode::DisconnectWithWillMessage, Some(7)), (true, false));
}

#[test]
fn an_authentication_is_renewed_by_auth() {
    let again = Auth { reason_code: AuthReasonCode::ReAuth, ..Auth::default() };
    let (mut server, _, now) = online(connect());
    server.handle_bytes(&bytes([again.into()]), now);
    assert!(matches!(server.poll_event(), Ok(Some(Event::Reauthenticate(_)))));
    server.authenticated();
    assert_eq!(server.output().split(), b"\xf0\x08\0\x06\x15\0\x03SAS"[..]);
}

#[test]
fn silence_is_answered_with_a_disconnect() {
    let (mut server, _, start) = online(connect());
    assert_eq!(server.handle_timeout(start + Duration::from_secs(90)), Err(Violation::KeepAlive(90)));
    assert_eq!(server.output().split(), b"\xe0\x02\x8d\0"[..]);
}
