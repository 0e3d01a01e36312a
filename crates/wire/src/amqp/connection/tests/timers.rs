use super::*;

fn idle(seconds: u64) -> Config {
    Config { idle_timeout: Some(Duration::from_secs(seconds)), ..Config::default() }
}

#[test]
fn heartbeats_keep_a_silent_connection_open() {
    let (mut pair, _) = Pair::begun(idle(30), idle(120));
    for _ in 0..100 {
        let due = [pair.client.next_timeout(), pair.server.next_timeout()];
        let next = due.into_iter().flatten().min().unwrap();
        pair.advance(next - pair.now);
        pair.drive();
    }
    assert!(pair.client_events().is_empty() && pair.server_events().is_empty());
}

#[test]
fn an_empty_frame_goes_out_at_half_the_idle_time_of_the_peer() {
    let (mut pair, _) = Pair::begun(idle(30), idle(120));
    pair.advance(Duration::from_millis(14_999));
    assert_eq!(pair.server.output(), b"");
    pair.advance(Duration::from_millis(1));
    assert_eq!(pair.server.output(), b"\x00\x00\x00\x08\x02\x00\x00\x00");
    pair.advance(Duration::from_secs(15));
    assert_eq!(pair.server.pending_output_len(), 8, "one is enough while nobody reads");
}

#[test]
fn a_peer_that_announces_nothing_gets_the_default_heartbeat() {
    let client = Config { idle_timeout: None, ..Config::default() };
    let (mut pair, _) = Pair::begun(client, idle(600));
    pair.advance(Duration::from_secs(120));
    assert_eq!(pair.server.pending_output_len(), 8);
}

#[test]
fn a_silent_peer_is_closed_after_the_announced_time() {
    let (mut pair, _) = Pair::begun(idle(30), idle(120));
    pair.advance(Duration::from_secs(119));
    pair.server.take_output();
    assert!(!pair.server.is_closed());
    pair.advance(Duration::from_secs(1));
    let silent = CloseReason::PeerSilent(Duration::from_secs(120));
    assert_eq!(pair.server_events(), [Event::Closed(silent)]);
    assert!(pair.server.output().windows(3).any(|bytes| bytes == b"\x00\x53\x18"));
}

#[test]
fn a_handshake_that_takes_too_long_ends() {
    let now = Instant::now();
    let mut server = Connection::server(Arc::new(Config::default()), now);
    assert_eq!(server.next_timeout(), Some(now + Duration::from_secs(20)));
    server.handle_timeout(now + Duration::from_secs(20));
    let reason = CloseReason::HandshakeTimedOut(Duration::from_secs(20));
    assert_eq!(server.poll_event(), Some(Event::Closed(reason)));
}

#[test]
fn a_close_that_is_not_answered_ends() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    pair.server.close(None, pair.now).unwrap();
    pair.advance(Duration::from_secs(10));
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::CloseTimedOut)]);
}

#[test]
fn an_idle_time_out_that_is_too_short_is_refused() {
    let client = Config { idle_timeout: Some(Duration::from_secs(1)), ..Config::default() };
    let mut pair = Pair::new(client, Config::default(), ClientOptions::default());
    pair.drive();
    let misbehaved =
        PeerMisbehaved::IdleTimeoutTooShort { asked: Duration::from_secs(1), min: Duration::from_secs(5) };
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::PeerMisbehaved(misbehaved))]);
    let events = pair.client_events();
    assert!(matches!(events[..], [Event::Open(_), Event::Closed(CloseReason::ByPeer(Some(_)))]));
}
