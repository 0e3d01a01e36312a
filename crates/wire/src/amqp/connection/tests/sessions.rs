use super::*;
use crate::amqp::performative::{Detach, Performative};

#[test]
fn a_thousand_sessions_begin_on_one_connection() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    let sessions: Vec<_> = (0..1_000).map(|_| pair.client.begin().unwrap()).collect();
    pair.drive();
    assert_eq!(pair.client_events().len(), 1_000);
    assert_eq!(pair.server_events().len(), 1_000);
    for session in sessions {
        pair.client.end(session, None).unwrap();
    }
    pair.drive();
    assert_eq!(pair.server.sessions.len(), 1);
    assert_eq!(pair.client.sessions.len(), 1);
}

#[test]
fn an_end_takes_the_links_along() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(5));
    pair.client_events();
    let error = Error::new(condition::INTERNAL_ERROR, "over");
    pair.server.end(theirs.session, Some(error.clone())).unwrap();
    pair.drive();
    let cause = EndCause::ByPeer(Some(error));
    assert_eq!(pair.client_events(), [Event::Ended { session: ours.session, cause }]);
    assert_eq!(pair.server_events(), [Event::Ended { session: theirs.session, cause: EndCause::ByUs }]);
    let refused = pair.client.send(ours, SendOptions::default(), body(b"late"));
    assert_eq!(refused, Err(SendError::Command(CommandError::NoSession)));
    assert_eq!((pair.server.usage.links, pair.client.usage.links), (0, 0));
}

#[test]
fn a_detach_after_the_end_means_nothing() {
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    pair.client.end(ours.session, None).unwrap();
    let detach = Detach { handle: ours.handle, closed: true, error: None };
    pair.client.output.amqp(0, Performative::Detach(detach));
    pair.drive();
    assert!(!pair.server.is_closed());
}

#[test]
fn a_close_is_answered() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    pair.client.close(None, pair.now).unwrap();
    pair.drive();
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::ByPeer(None))]);
    assert_eq!(pair.client_events(), [Event::Closed(CloseReason::ByUs)]);
    assert_eq!(pair.server.next_timeout(), None);
}

#[test]
fn an_empty_close_is_a_list_with_one_null() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    pair.client.close(None, pair.now).unwrap();
    assert_eq!(pair.client.output(), b"\x00\x00\x00\x0f\x02\x00\x00\x00\x00\x53\x18\xc0\x02\x01\x40");
}

#[test]
fn an_error_that_is_too_long_for_the_peer_loses_its_words() {
    let client = Config { max_frame_size: 512, ..Config::default() };
    let (mut pair, _) = Pair::begun(client, Config::default());
    let error = Error::new(condition::INTERNAL_ERROR, "x".repeat(600));
    pair.server.close(Some(error), pair.now).unwrap();
    pair.drive();
    let bare = Error { description: None, ..Error::new(condition::INTERNAL_ERROR, "") };
    assert_eq!(pair.client_events(), [Event::Closed(CloseReason::ByPeer(Some(bare)))]);
}

#[test]
fn a_connection_with_two_links_is_small() {
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(5));
    pair.attach(ours.session, attach("back", Role::Receiver), CreditPolicy::Manual);
    let server = &pair.server;
    let buffers = [server.input.capacity(), server.output.buffer.capacity(), server.events.capacity()];
    assert_eq!(buffers, [0, 0, 0]);
    let (connection, session, link) =
        (size_of::<Connection>(), size_of::<Session>(), size_of::<link::Link>());
    assert!(connection + session + 2 * link < 2_048, "{connection} {session} {link}");
}
