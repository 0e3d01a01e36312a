use super::*;
use crate::amqp::frame::FrameError;
use crate::amqp::performative::{Begin, Disposition, Flow, Performative, Transfer};

/// What the server makes of one frame of the client, on an open connection with one session and one
/// link from client to server.
fn verdict(channel: u16, frame: Performative) -> (Vec<Event>, Vec<Event>) {
    let (mut pair, _, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(10));
    pair.client_events();
    pair.client.output.amqp(channel, frame);
    pair.drive();
    (pair.server_events(), pair.client_events())
}

fn closes_connection(channel: u16, frame: Performative) -> PeerMisbehaved {
    let (server, client) = verdict(channel, frame);
    let [Event::Closed(CloseReason::PeerMisbehaved(misbehaved))] = &server[..] else {
        panic!("{server:?}");
    };
    let [Event::Closed(CloseReason::ByPeer(Some(error)))] = &client[..] else { panic!("{client:?}") };
    assert_eq!(error.condition, misbehaved.condition());
    misbehaved.clone()
}

fn ends_session(frame: Performative) -> PeerMisbehaved {
    let (server, client) = verdict(0, frame);
    let [Event::Ended { cause: EndCause::PeerMisbehaved(misbehaved), .. }] = &server[..] else {
        panic!("{server:?}");
    };
    let [Event::Ended { cause: EndCause::ByPeer(Some(error)), .. }] = &client[..] else {
        panic!("{client:?}");
    };
    assert_eq!(error.condition, misbehaved.condition());
    misbehaved.clone()
}

fn first_transfer() -> Transfer {
    Transfer {
        delivery_id: Some(0),
        delivery_tag: Some(0.into()),
        message_format: Some(0),
        ..Transfer::default()
    }
}

#[test]
fn a_channel_in_use_closes() {
    let misbehaved = closes_connection(0, Performative::Begin(Begin::default()));
    assert_eq!(misbehaved, PeerMisbehaved::ChannelInUse(0));
}

#[test]
fn a_channel_too_high_closes() {
    let misbehaved = closes_connection(9_000, Performative::Begin(Begin::default()));
    assert_eq!(misbehaved, PeerMisbehaved::ChannelTooHigh { channel: 9_000, max: 8_191 });
}

#[test]
fn a_begin_that_answers_nothing_closes() {
    let begin = Begin { remote_channel: Some(3), ..Begin::default() };
    let misbehaved = closes_connection(1, Performative::Begin(begin));
    assert_eq!(misbehaved, PeerMisbehaved::UnexpectedBeginAnswer(3));
}

#[test]
fn an_attach_on_a_channel_without_session_closes() {
    let frame = Performative::Attach(Box::new(attach("l", Role::Sender)));
    assert_eq!(closes_connection(5, frame), PeerMisbehaved::NoSession(5));
}

#[test]
fn a_second_open_closes() {
    let frame = Performative::Open(Default::default());
    assert_eq!(closes_connection(0, frame), PeerMisbehaved::OutOfTurn("open"));
}

#[test]
fn a_handle_too_high_closes() {
    let frame = Performative::Attach(Box::new(Attach { handle: 300_000, ..attach("l", Role::Sender) }));
    let expected = PeerMisbehaved::HandleTooHigh { handle: 300_000, max: 262_143 };
    assert_eq!(closes_connection(0, frame), expected);
}

#[test]
fn a_handle_in_use_ends_the_session() {
    let frame = Performative::Attach(Box::new(attach("other", Role::Sender)));
    assert_eq!(ends_session(frame), PeerMisbehaved::HandleInUse(0));
}

#[test]
fn a_transfer_without_link_ends_the_session() {
    let frame = Performative::Transfer(Transfer { handle: 8, ..first_transfer() });
    assert_eq!(ends_session(frame), PeerMisbehaved::UnattachedHandle(8));
}

#[test]
fn a_first_transfer_without_tag_ends_the_session() {
    let frame = Performative::Transfer(Transfer { delivery_tag: None, ..first_transfer() });
    assert_eq!(ends_session(frame), PeerMisbehaved::IncompleteFirstTransfer("delivery-tag"));
}

#[test]
fn interleaved_deliveries_on_one_link_end_the_session() {
    let (mut pair, _, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(10));
    let more = Transfer { more: true, ..first_transfer() };
    pair.client.output.amqp(0, Performative::Transfer(more.clone()));
    pair.client.output.amqp(0, Performative::Transfer(Transfer { delivery_id: Some(1), ..more }));
    pair.drive();
    let events = pair.server_events();
    let expected = PeerMisbehaved::InterleavedDeliveries { open: 0, found: 1 };
    assert!(
        matches!(&events[..], [Event::Ended { cause: EndCause::PeerMisbehaved(m), .. }] if *m == expected),
        "{events:?}"
    );
}

#[test]
fn an_aborted_delivery_is_forgotten() {
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(10));
    let more = Transfer { more: true, ..first_transfer() };
    pair.client.output.amqp(0, Performative::Transfer(more));
    let aborted = Transfer { aborted: true, ..Transfer::default() };
    pair.client.output.amqp(0, Performative::Transfer(aborted));
    pair.client.send(ours, SendOptions::default(), body(b"next")).unwrap();
    pair.drive();
    assert_eq!(body_lengths(&pair.server_events()), [4]);
}

#[test]
fn a_delivery_id_in_use_ends_the_session() {
    let (mut pair, _, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(10));
    pair.client.output.amqp(0, Performative::Transfer(first_transfer()));
    pair.client.output.amqp(0, Performative::Transfer(first_transfer()));
    pair.drive();
    let events = pair.server_events();
    let [Event::Delivery(_), Event::Ended { cause: EndCause::PeerMisbehaved(misbehaved), .. }] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!(*misbehaved, PeerMisbehaved::DeliveryIdInUse(0));
}

#[test]
fn more_transfers_than_the_window_end_the_session() {
    let server = Config { incoming_window: 0, ..Config::default() };
    let (mut pair, _, _) = Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::TopUp(10));
    pair.client.output.amqp(0, Performative::Transfer(first_transfer()));
    pair.drive();
    pair.client_events();
    let events = pair.server_events();
    let [Event::Ended { cause: EndCause::PeerMisbehaved(misbehaved), .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*misbehaved, PeerMisbehaved::WindowExceeded);
}

#[test]
fn messages_that_never_end_are_bounded() {
    let server = Config { reassembly_bytes_max: 10_000, ..Config::default() };
    let (mut pair, _) = Pair::begun(Config::default(), server);
    let (ours, _) =
        pair.attach(pair.client.sessions[&0].id, attach("l", Role::Sender), CreditPolicy::TopUp(10));
    pair.client.sessions.get_mut(&0).unwrap().remote_incoming_window = 2;
    pair.client.output.frame_size_max = 20_000;
    pair.client.send(ours, SendOptions::default(), body(&[0; 30_000])).unwrap();
    pair.drive();
    let events = pair.server_events();
    let [Event::Closed(CloseReason::PeerMisbehaved(misbehaved))] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(*misbehaved, PeerMisbehaved::ReassemblyExceeded(10_000));
}

#[test]
fn sessions_beyond_the_limit_close() {
    let server = Config { sessions_max: 1, ..Config::default() };
    let (mut pair, _) = Pair::begun(Config::default(), server);
    pair.client.begin().unwrap();
    pair.drive();
    let events = pair.client_events();
    let [Event::Closed(CloseReason::ByPeer(Some(error)))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error.condition, condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn a_disposition_of_everything_costs_nothing() {
    let everything = Disposition {
        role: Role::Receiver,
        first: 0,
        last: Some(u32::MAX / 2),
        settled: true,
        state: Some(DeliveryState::Accepted),
        batchable: false,
    };
    let (server, client) = verdict(0, Performative::Disposition(everything));
    assert!(server.is_empty() && client.is_empty());
}

#[test]
fn a_flow_for_a_handle_without_link_means_nothing() {
    let link = Some(crate::amqp::performative::LinkFlow { handle: 77, ..Default::default() });
    let (server, client) = verdict(0, Performative::Flow(Flow { link, echo: true, ..Flow::default() }));
    assert!(server.is_empty() && client.is_empty());
}

#[test]
fn bytes_that_are_no_frame_close() {
    for (bytes, expected) in [
        (*b"\x00\x00\x00\x04\x02\x00\x00\x00", FrameError::TooShort(4)),
        (*b"\x7f\x00\x00\x00\x02\x00\x00\x00", FrameError::TooLong { size: 0x7f00_0000, limit: 65_536 }),
        (*b"\x00\x00\x00\x08\x01\x00\x00\x00", FrameError::DataOffset { doff: 1, size: 8 }),
        (*b"\x00\x00\x00\x08\x02\x07\x00\x00", FrameError::UnknownType(7)),
    ] {
        let (mut pair, _) = Pair::begun(Config::default(), Config::default());
        pair.server.handle_bytes(&bytes, pair.now);
        let closed = Event::Closed(CloseReason::PeerMisbehaved(PeerMisbehaved::Frame(expected)));
        assert_eq!(pair.server_events(), [closed]);
        pair.drive();
        let events = pair.client_events();
        let [Event::Closed(CloseReason::ByPeer(Some(error)))] = &events[..] else { panic!("{events:?}") };
        assert_eq!(error.condition, condition::FRAMING_ERROR);
    }
}

#[test]
fn a_frame_that_is_no_performative_closes() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    pair.server.handle_bytes(b"\x00\x00\x00\x0c\x02\x00\x00\x00\x00\x53\x99\x45", pair.now);
    pair.drive();
    let events = pair.client_events();
    let [Event::Closed(CloseReason::ByPeer(Some(error)))] = &events[..] else { panic!("{events:?}") };
    assert_eq!(error.condition, condition::DECODE_ERROR);
}

#[test]
fn bytes_ahead_of_our_answer_are_bounded() {
    let mut pair = Pair::new(Config::default(), Config::default(), ClientOptions::default());
    pair.drive();
    assert!(matches!(pair.server_events()[..], [Event::Open(_)]));
    for _ in 0..10 {
        pair.server.handle_bytes(&[0; 20_000], pair.now);
    }
    assert!(pair.server.is_closed());
}

#[test]
fn a_transport_that_ends_is_told_once() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    pair.server.handle_transport_end();
    pair.server.handle_transport_end();
    assert_eq!(pair.server_events(), [Event::Closed(CloseReason::TransportEnded)]);
}
