use super::*;

#[test]
fn a_sender_stops_without_credit_and_goes_on_with_it() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    let send = |pair: &mut Pair| pair.client.send(ours, SendOptions::default(), body(b"x")).map(|_| ());
    let blocked = Err(SendError::Blocked(Blocked::Credit));
    assert_eq!(send(&mut pair), blocked);
    pair.server.grant_credit(theirs, 2).unwrap();
    pair.drive();
    assert_eq!(pair.client_events(), [Event::Sendable { link: ours, credit: 2 }]);
    assert_eq!([send(&mut pair), send(&mut pair), send(&mut pair)], [Ok(()), Ok(()), blocked]);
    pair.drive();
    assert_eq!(body_lengths(&pair.server_events()), [1, 1]);
}

#[test]
fn a_burst_of_messages_passes_many_windows() {
    let server = Config { incoming_window: 100, ..Config::default() };
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::TopUp(1_000));
    let (mut sent, mut received) = (0, 0);
    while received < 6_000 {
        while sent < 6_000 && pair.client.send(ours, SendOptions::settled(), body(b"event")).is_ok() {
            sent += 1;
        }
        pair.drive();
        let arrived = body_lengths(&pair.server_events()).len();
        assert!(arrived > 0, "stuck after {received} of {sent}");
        received += arrived;
    }
    assert_eq!(received, 6_000);
}

#[test]
fn a_message_larger_than_the_window_is_cut_off_and_goes_on() {
    let server = Config { incoming_window: 4, max_frame_size: 512, ..Config::default() };
    let (mut pair, ours, _) = Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::TopUp(10));
    pair.client_events();
    pair.client.send(ours, SendOptions::default(), body(&[1; 10_000])).unwrap();
    assert!(pair.client.pending_output_len() <= 4 * 512);
    let second = pair.client.send(ours, SendOptions::default(), body(b"second"));
    assert_eq!(second, Err(SendError::Blocked(Blocked::Window)));
    pair.drive();
    assert_eq!(body_lengths(&pair.server_events()), [10_000]);
    assert!(matches!(pair.client_events()[..], [Event::Sendable { .. }]));
    pair.client.send(ours, SendOptions::default(), body(b"second")).unwrap();
    pair.drive();
    assert_eq!(body_lengths(&pair.server_events()), [6]);
}

#[test]
fn a_full_output_stops_the_sender_until_it_is_written() {
    let client = Config { output_bytes_max: 10_000, ..Config::default() };
    let (mut pair, ours, _) =
        Pair::linked(client, Config::default(), Role::Sender, CreditPolicy::TopUp(1_000));
    pair.client_events();
    let mut refused = Ok(());
    while refused.is_ok() {
        refused = pair.client.send(ours, SendOptions::default(), body(&[0; 1_000])).map(|_| ());
    }
    assert_eq!(refused, Err(SendError::Blocked(Blocked::Output)));
    assert!(pair.client.pending_output_len() < 12_000 && !pair.client.wants_input());
    pair.client.consume_output(2_000);
    assert_eq!(pair.client_events(), []);
    pair.client.consume_output(5_000);
    assert!(matches!(pair.client_events()[..], [Event::Sendable { .. }]));
}

#[test]
fn unsettled_deliveries_are_bounded() {
    let client = Config { unsettled_max: 3, ..Config::default() };
    let (mut pair, ours, _) = Pair::linked(client, Config::default(), Role::Sender, CreditPolicy::TopUp(100));
    pair.client_events();
    for _ in 0..3 {
        pair.client.send(ours, SendOptions::default(), body(b"x")).unwrap();
    }
    let refused = pair.client.send(ours, SendOptions::default(), body(b"x"));
    assert_eq!(refused, Err(SendError::Blocked(Blocked::Unsettled)));
    pair.drive();
    let events = pair.server_events();
    let Event::Delivery(first) = &events[0] else { panic!() };
    pair.server.settle(first.id, DeliveryState::Accepted).unwrap();
    pair.drive();
    let events = pair.client_events();
    assert!(matches!(events[..], [Event::Disposition { .. }, Event::Sendable { .. }]), "{events:?}");
}

#[test]
fn a_caller_that_does_not_settle_stops_the_peer() {
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(10));
    let mut sent = 0;
    while pair.client.send(ours, SendOptions::default(), body(b"x")).is_ok() {
        sent += 1;
        pair.drive();
    }
    assert_eq!(sent, 10);
    for event in pair.server_events() {
        let Event::Delivery(delivery) = event else { panic!() };
        pair.server.settle(delivery.id, DeliveryState::Accepted).unwrap();
    }
    pair.drive();
    assert_eq!(pair.client.sendable(ours).map(|credit| credit >= 5), Ok(true));
}

#[test]
fn drain_is_asked_for_answered_and_told() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    pair.server.grant_credit(theirs, 10).unwrap();
    pair.drive();
    pair.client_events();
    pair.server.drain(theirs).unwrap();
    pair.drive();
    assert_eq!(pair.client_events(), [Event::DrainRequested { link: ours, credit: 10 }]);
    pair.client.send(ours, SendOptions::settled(), body(b"last")).unwrap();
    pair.client.drained(ours).unwrap();
    pair.drive();
    let events = pair.server_events();
    assert!(matches!(events[..], [Event::Delivery(_), Event::Drained { .. }]), "{events:?}");
    let refused = pair.client.send(ours, SendOptions::settled(), body(b"x"));
    assert_eq!(refused, Err(SendError::Blocked(Blocked::Credit)));
    pair.server.grant_credit(theirs, 3).unwrap();
    pair.drive();
    assert_eq!(pair.client_events(), [Event::Sendable { link: ours, credit: 3 }]);
}

#[test]
fn a_drain_without_credit_is_answered_at_once() {
    let (mut pair, _, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    pair.server.drain(theirs).unwrap();
    pair.drive();
    assert_eq!(pair.client_events(), []);
    assert_eq!(pair.server_events(), [Event::Drained { link: theirs }]);
}

#[test]
fn a_little_beyond_the_credit_is_taken_and_much_costs_the_link() {
    let server = Config { credit_overrun_max: 5, ..Config::default() };
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::Manual);
    for n in 0..7 {
        pair.client.grant_to_itself(ours);
        pair.client.send(ours, SendOptions::settled(), body(b"x")).unwrap();
        pair.drive();
        let events = pair.server_events();
        if n < 5 {
            assert!(matches!(events[..], [Event::Delivery(_)]), "{events:?}");
        } else {
            let cause = DetachCause::PeerMisbehaved(PeerMisbehaved::CreditExceeded(6));
            assert_eq!(events, [Event::Detached { link: theirs, cause }]);
            break;
        }
    }
}

impl Connection {
    /// What a client does that resets its own count.
    fn grant_to_itself(&mut self, link: LinkId) {
        let (session, handle, mut ctx) = self.link(link).unwrap();
        let flow = crate::amqp::performative::LinkFlow {
            handle,
            delivery_count: Some(u32::MAX / 2),
            link_credit: Some(1),
            ..Default::default()
        };
        session.on_credit(handle, &flow, false, &mut ctx);
    }
}
