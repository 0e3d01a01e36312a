use super::super::{Client, ClientEvent};
use super::*;

pub(super) static LIMITS: Limits = Limits {
    packet_bytes_max: 300_000,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(1_767),
    five: FiveLimits {
        packet_bytes_max: 262_144,
        receive_max: 16,
        topic_alias_max: 10,
        keep_alive_max: 1_140,
    },
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
    let (mut client, mut server) = (Client::new(connect(keep_alive)), Server::new(&LIMITS, now));
    exchange(&mut client, &mut server, now);
    let Ok(Some(Event::Connect(_))) = server.poll_event() else { panic!("a CONNECT came") };
    server.accept(false, now);
    client.handle_bytes(&server.output().split());
    let connected = ClientEvent::Connected { session_present: false };
    assert_eq!(client.poll_event(), Ok(Some(connected)));
    (client, server, now)
}

#[test]
fn a_published_message_arrives_and_is_acknowledged() {
    let (mut client, mut server, now) = online(60);
    let id = client.publish("a/b", Bytes::from_static(b"x"), QoS::AtLeastOnce);
    let id = id.expect("it fits").expect("QoS 1 has an id");
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
    let (mut client, mut server) = (Client::new(connect(60)), Server::new(&LIMITS, now));
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
    let mut server = Server::new(&LIMITS, now);
    assert_eq!(server.handle_timeout(now + secs(30)), Err(Violation::ConnectTimeout));
}

#[test]
fn what_breaks_the_standard_is_named() {
    let now = Instant::now();
    let first = |bytes: &[u8]| {
        let mut server = Server::new(&LIMITS, now);
        server.handle_bytes(bytes, now);
        (server.poll_event(), server.output().to_vec())
    };
    assert_eq!(first(&[0xc0, 0]), (Err(Violation::FirstPacketNotConnect), vec![]));
    let level_six = b"\x10\x0f\0\x04MQTT\x06\x02\0\x3c\0\0\x02d1";
    let refused = Err(Violation::Packet(PacketError::ProtocolLevel));
    assert_eq!(first(level_six), (refused.clone(), vec![0x20, 2, 0, 1]));
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
        let id = server.publish("t", Bytes::new(), QoS::AtLeastOnce);
        let id = id.expect("it fits").expect("QoS 1 has an id");
        assert_eq!(u32::from(id.get()), (n - 1) % 65_535 + 1);
        server.output().clear();
    }
}
