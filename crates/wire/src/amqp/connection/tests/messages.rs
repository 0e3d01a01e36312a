use super::*;
use crate::amqp::performative::DeliveryTag;

#[test]
fn a_message_of_many_frames_arrives_whole_in_both_directions() {
    let client = Config { max_frame_size: 4_096, ..Config::default() };
    for role in [Role::Sender, Role::Receiver] {
        let (mut pair, ours, theirs) =
            Pair::linked(client.clone(), Config::default(), role, CreditPolicy::TopUp(10));
        let large: Vec<u8> = (0..200_000u32).map(|n| n as u8).collect();
        let tag = DeliveryTag::from([7; 16]);
        let options = SendOptions { tag: Some(tag), ..SendOptions::default() };
        let events = match role {
            Role::Sender => {
                pair.client.send(ours, options, body(&large)).unwrap();
                pair.drive();
                pair.server_events()
            }
            Role::Receiver => {
                pair.client.grant_credit(ours, 1).unwrap();
                pair.drive();
                pair.server.send(theirs, options, body(&large)).unwrap();
                pair.chunk = 1_000;
                pair.drive();
                pair.client_events()
            }
        };
        let [Event::Delivery(delivery)] = &events[..] else { panic!("{} events", events.len()) };
        let message = Message::parse(&delivery.message).unwrap();
        assert_eq!(message.body.bytes().unwrap(), large);
        assert_eq!((delivery.tag, delivery.settled), (tag, false));
        assert_eq!(pair.server.usage.reassembly_bytes + pair.client.usage.reassembly_bytes, 0);
    }
}

#[test]
fn frames_stay_within_our_own_maximum_when_the_peer_takes_any() {
    let client = Config { max_frame_size: u32::MAX, ..Config::default() };
    let (mut pair, ours, theirs) =
        Pair::linked(client, Config::default(), Role::Receiver, CreditPolicy::Manual);
    pair.client.grant_credit(ours, 1).unwrap();
    pair.drive();
    pair.server.send(theirs, SendOptions::default(), body(&[0; 200_000])).unwrap();
    assert!(pair.server.output().starts_with(&65_536u32.to_be_bytes()));
    pair.drive();
    assert_eq!(body_lengths(&pair.client_events()), [200_000]);
}

#[test]
fn a_message_that_is_larger_than_the_peer_takes_is_not_sent() {
    let server = Config { max_message_size: 2_000, ..Config::default() };
    let (mut pair, ours, _) = Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::TopUp(10));
    let refused = pair.client.send(ours, SendOptions::default(), body(&[0; 3_000]));
    assert_eq!(refused, Err(SendError::MessageTooLarge { size: 3_008, limit: 2_000 }));
    assert_eq!(pair.client.pending_output_len(), 0);
    pair.client.send(ours, SendOptions::default(), body(&[0; 1_000])).unwrap();
    pair.drive();
    assert_eq!(body_lengths(&pair.server_events()), [1_000]);
}

#[test]
fn outcomes_reach_the_sender_and_adjacent_ones_share_a_frame() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(100));
    pair.client_events();
    let sent: Vec<_> =
        (0..10).map(|_| pair.client.send(ours, SendOptions::default(), body(b"x")).unwrap()).collect();
    pair.drive();
    let events = pair.server_events();
    for event in &events[..9] {
        let Event::Delivery(delivery) = event else { panic!("{event:?}") };
        pair.server.settle(delivery.id, DeliveryState::Accepted).unwrap();
        assert_eq!(pair.server.settle(delivery.id, DeliveryState::Accepted), Err(CommandError::NoDelivery));
    }
    assert!(pair.server.pending_output_len() < 40, "one frame for nine outcomes");
    let Event::Delivery(last) = &events[9] else { panic!() };
    assert_eq!(last.link, theirs);
    let rejected = DeliveryState::Rejected(Some(Error::new(condition::NOT_ALLOWED, "no")));
    pair.server.settle(last.id, rejected.clone()).unwrap();
    pair.drive();
    let told: Vec<_> = pair
        .client_events()
        .into_iter()
        .map(|event| match event {
            Event::Disposition { link, delivery, state: Some(state), settled: true } => {
                assert_eq!(link, ours);
                (delivery, state)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told.iter().map(|(delivery, _)| *delivery).collect::<Vec<_>>(), sent);
    assert!(told[..9].iter().all(|(_, state)| *state == DeliveryState::Accepted));
    assert_eq!(told[9].1, rejected);
    assert!(pair.client.sessions[&0].unsettled_out.is_empty());
    assert!(pair.server.sessions[&0].unsettled_in.is_empty());
}

#[test]
fn a_receiver_that_settles_second_waits_for_the_sender() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Receiver, CreditPolicy::Manual);
    pair.client.grant_credit(ours, 5).unwrap();
    pair.drive();
    pair.server_events();
    let sent = pair.server.send(theirs, SendOptions::default(), body(b"c2d")).unwrap();
    pair.drive();
    let events = pair.client_events();
    let [Event::Delivery(delivery)] = &events[..] else { panic!("{events:?}") };
    pair.client.update(delivery.id, DeliveryState::Accepted).unwrap();
    pair.client.update(delivery.id, DeliveryState::Released).unwrap(); // not listened to any more
    pair.drive();
    let state = Some(DeliveryState::Accepted);
    let told = Event::Disposition { link: theirs, delivery: sent, state: state.clone(), settled: false };
    assert_eq!(pair.server_events(), [told]);
    pair.server.settle(sent, DeliveryState::Accepted).unwrap();
    pair.drive();
    let told = Event::Disposition { link: ours, delivery: delivery.id, state, settled: true };
    assert_eq!(pair.client_events(), [told]);
    assert!(pair.client.sessions[&0].unsettled_in.is_empty());
}

#[test]
fn settled_messages_leave_nothing_behind() {
    let (mut pair, ours, _) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::TopUp(100));
    pair.client.send(ours, SendOptions::settled(), body(b"x")).unwrap();
    pair.drive();
    let events = pair.server_events();
    let [Event::Delivery(delivery)] = &events[..] else { panic!("{events:?}") };
    assert!(delivery.settled);
    assert_eq!(pair.server.settle(delivery.id, DeliveryState::Accepted), Err(CommandError::NoDelivery));
    assert!(pair.client.sessions[&0].unsettled_out.is_empty());
}

#[test]
fn a_message_beyond_the_size_limit_costs_the_link_only() {
    let server = Config { max_message_size: 100_000, ..Config::default() };
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::TopUp(10));
    // A client that does not look at what the server takes.
    let link = pair.client.sessions.get_mut(&0).unwrap().links.get_mut(&0).unwrap();
    link.sender_mut().unwrap().set_message_size_max(None);
    pair.client_events();
    pair.client.send(ours, SendOptions::default(), body(&[0; 150_000])).unwrap();
    pair.drive();
    let misbehaved = PeerMisbehaved::MessageTooLarge { limit: 100_000 };
    let cause = DetachCause::PeerMisbehaved(misbehaved);
    assert_eq!(pair.server_events(), [Event::Detached { link: theirs, cause }]);
    let events = pair.client_events();
    let [Event::Detached { cause: DetachCause::ByPeer { error: Some(error), .. }, .. }] = &events[..] else {
        panic!("{events:?}");
    };
    assert_eq!(error.condition, condition::MESSAGE_SIZE_EXCEEDED);
    assert_eq!(pair.server.usage.reassembly_bytes, 0);
    assert!(!pair.server.is_closed());
}
