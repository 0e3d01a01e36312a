use super::*;

fn with_sasl(mechanism: &str) -> ClientOptions {
    let init = SaslInit {
        mechanism: Symbol::from(mechanism),
        initial_response: Some(SaslBytes(b"\0user\0secret".to_vec())),
        hostname: Some("hub.example".into()),
    };
    ClientOptions { sasl: Some(init), ..ClientOptions::default() }
}

fn offering(mechanisms: &[&str]) -> Config {
    Config {
        sasl_mechanisms: mechanisms.iter().map(|name| Symbol::from(*name)).collect(),
        ..Config::default()
    }
}

#[test]
fn a_client_opens_without_sasl() {
    let mut pair = Pair::new(Config::default(), Config::default(), ClientOptions::default());
    pair.open();
    assert!(!pair.server.is_closed() && !pair.client.is_closed());
}

#[test]
fn a_client_opens_with_sasl_byte_by_byte() {
    let mut pair = Pair::new(Config::default(), offering(&["EXTERNAL", "PLAIN"]), with_sasl("PLAIN"));
    pair.chunk = 1;
    pair.drive();
    let events = pair.server_events();
    let [Event::SaslInit(init)] = &events[..] else {
        panic!("expected a choice: {events:?}");
    };
    assert_eq!(init.mechanism, "PLAIN");
    assert_eq!(init.initial_response, Some(SaslBytes(b"\0user\0secret".to_vec())));
    assert!(!format!("{init:?}").contains("secret"));
    pair.server.sasl_outcome(SaslCode::Ok, Some(SaslBytes(b"Welcome!".to_vec())), pair.now).unwrap();
    pair.open();
}

#[test]
fn a_challenge_is_answered_before_the_verdict() {
    let mut pair = Pair::new(Config::default(), offering(&["TPM"]), with_sasl("TPM"));
    pair.drive();
    assert!(matches!(pair.server_events()[..], [Event::SaslInit(_)]));
    pair.server.sasl_challenge(SaslBytes(b"nonce".to_vec()), pair.now).unwrap();
    pair.drive();
    assert_eq!(pair.client_events(), [Event::SaslChallenge(SaslBytes(b"nonce".to_vec()))]);
    pair.client.sasl_respond(SaslBytes(b"proof".to_vec()), pair.now).unwrap();
    pair.drive();
    assert_eq!(pair.server_events(), [Event::SaslResponse(SaslBytes(b"proof".to_vec()))]);
    pair.server.sasl_outcome(SaslCode::Ok, None, pair.now).unwrap();
    pair.open();
}

#[test]
fn a_negative_verdict_ends_both_ends() {
    let mut pair = Pair::new(Config::default(), offering(&["PLAIN"]), with_sasl("PLAIN"));
    pair.drive();
    pair.server_events();
    pair.server.sasl_outcome(SaslCode::Auth, None, pair.now).unwrap();
    pair.drive();
    let failed = Event::Closed(CloseReason::SaslFailed(SaslCode::Auth));
    assert_eq!(pair.server_events(), std::slice::from_ref(&failed));
    assert_eq!(pair.client_events(), [failed]);
}

#[test]
fn a_mechanism_that_is_not_offered_ends_the_client() {
    let mut pair = Pair::new(Config::default(), offering(&["EXTERNAL"]), with_sasl("PLAIN"));
    pair.drive();
    let misbehaved = PeerMisbehaved::MechanismNotOffered(Symbol::from("PLAIN"));
    assert_eq!(pair.client_events(), [Event::Closed(CloseReason::PeerMisbehaved(misbehaved))]);
}

#[test]
fn mechanisms_go_out_as_an_array_even_when_there_is_one() {
    let now = Instant::now();
    let mut server = Connection::server(Arc::new(offering(&["MSSBCBS"])), now);
    server.handle_bytes(b"AMQP\x03\x01\x00\x00", now);
    let header = b"AMQP\x03\x01\x00\x00";
    let frame = b"\x00\x00\x00\x1d\x02\x01\x00\x00\x00\x53\x40\xc0\x10\x01";
    let array = b"\xe0\x0d\x01\xb3\x00\x00\x00\x07MSSBCBS";
    assert_eq!(server.output(), [&header[..], frame, array].concat());
}

#[test]
fn tls_inside_the_stream_is_answered_with_our_header() {
    let now = Instant::now();
    let mut server = Connection::server(Arc::new(Config::default()), now);
    server.handle_bytes(b"AMQP\x02\x01\x00\x00", now);
    assert_eq!(server.output(), b"AMQP\x03\x01\x00\x00");
    assert!(server.is_closed());
    let misbehaved = PeerMisbehaved::UnsupportedHeader(*b"AMQP\x02\x01\x00\x00");
    assert_eq!(server.poll_event(), Some(Event::Closed(CloseReason::PeerMisbehaved(misbehaved))));
}

#[test]
fn what_came_with_the_choice_waits_for_the_verdict() {
    let mut pair = Pair::new(Config::default(), offering(&["PLAIN"]), with_sasl("PLAIN"));
    pair.drive();
    pair.server_events();
    pair.server.handle_bytes(b"AMQP\x00\x01\x00\x00", pair.now);
    assert!(!pair.server.wants_input());
    assert_eq!(pair.server.output(), b"");
    pair.server.sasl_outcome(SaslCode::Ok, None, pair.now).unwrap();
    assert!(pair.server.output().ends_with(b"AMQP\x00\x01\x00\x00"));
}

#[test]
fn a_refused_open_is_an_open_and_a_close() {
    let mut pair = Pair::new(Config::default(), Config::default(), ClientOptions::default());
    pair.drive();
    pair.server_events();
    let error = Error::new(condition::NOT_FOUND, "no such hub");
    pair.server.close(Some(error.clone()), pair.now).unwrap();
    pair.drive();
    let events = pair.client_events();
    assert!(matches!(events[0], Event::Open(_)));
    assert_eq!(events[1], Event::Closed(CloseReason::ByPeer(Some(error))));
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::ByUs)]);
}

#[test]
fn open_is_written_with_all_ten_fields() {
    let now = Instant::now();
    let config = Config { container_id: "c".into(), ..Config::default() };
    let client = Connection::client(Arc::new(config), ClientOptions::default(), now);
    let fields = b"\xa1\x01c\x40\x70\x00\x01\x00\x00\x60\x1f\xff\x70\x00\x03\xa9\x80\x40\x40\x40\x40\x40";
    let mut open = b"AMQP\x00\x01\x00\x00\x00\x00\x00\x00\x02\x00\x00\x00\x00\x53\x10\xc0".to_vec();
    open.extend([fields.len() as u8 + 1, 10]);
    open.extend(fields);
    open[11] = open.len() as u8 - 8;
    assert_eq!(client.output(), open);
}
