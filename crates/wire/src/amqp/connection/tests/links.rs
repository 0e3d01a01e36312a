use super::*;
use crate::amqp::performative::{Flow, LinkFlow, Performative};

#[test]
fn a_refused_attach_has_no_terminus_and_a_detach_follows() {
    for role in [Role::Sender, Role::Receiver] {
        let (mut pair, session) = Pair::begun(Config::default(), Config::default());
        let ours = pair.client.attach(session, attach("l", role), CreditPolicy::Manual).unwrap();
        pair.drive();
        let events = pair.server_events();
        let [Event::Attach { link, .. }] = &events[..] else {
            panic!("expected an attach: {events:?}");
        };
        let error = Error::new(condition::NOT_FOUND, "no such device");
        pair.server.refuse_attach(*link, error.clone()).unwrap();
        pair.drive();
        let events = pair.client_events();
        let [Event::Attached { attach, .. }, Event::Detached { link, cause }] = &events[..] else {
            panic!("expected a refusal: {events:?}");
        };
        assert_eq!(*link, ours);
        let refused = match role {
            Role::Sender => attach.target.is_none() && attach.source.is_some(),
            Role::Receiver => attach.source.is_none() && attach.target.is_some(),
        };
        assert!(refused, "{attach:?}");
        assert_eq!(*cause, DetachCause::ByPeer { closed: true, error: Some(error) });
        assert_eq!(pair.server_events(), []);
        assert_eq!(pair.server.usage.links, 0);
    }
}

#[test]
fn names_may_repeat_across_sessions() {
    let (mut pair, first) = Pair::begun(Config::default(), Config::default());
    let second = pair.client.begin().unwrap();
    pair.drive();
    pair.client_events();
    pair.server_events();
    let (_, a) = pair.attach(first, attach("TelemetrySenderLink", Role::Sender), CreditPolicy::Manual);
    let (_, b) = pair.attach(second, attach("TelemetrySenderLink", Role::Sender), CreditPolicy::Manual);
    assert_ne!(a, b);
}

#[test]
fn a_detach_is_answered_and_told_at_both_ends() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    let error = Error::new(condition::STOLEN, "a newer receiver");
    pair.server.detach(theirs, Some(error.clone())).unwrap();
    assert_eq!(pair.server.detach(theirs, None), Err(CommandError::NoLink));
    pair.drive();
    let cause = DetachCause::ByPeer { closed: true, error: Some(error) };
    assert_eq!(pair.client_events(), [Event::Detached { link: ours, cause }]);
    assert_eq!(pair.server_events(), [Event::Detached { link: theirs, cause: DetachCause::ByUs }]);
}

#[test]
fn an_id_does_not_reach_the_successor_on_its_handle() {
    let (mut pair, ours, theirs) =
        Pair::linked(Config::default(), Config::default(), Role::Sender, CreditPolicy::Manual);
    pair.client.detach(ours, None).unwrap();
    pair.drive();
    let (next, _) = pair.attach_after_events(ours);
    assert_eq!(next.handle, ours.handle);
    assert_ne!(next, ours);
    assert_eq!(pair.server.grant_credit(theirs, 1), Err(CommandError::NoLink));
}

impl Pair {
    fn attach_after_events(&mut self, old: LinkId) -> (LinkId, LinkId) {
        self.client_events();
        self.server_events();
        self.attach(old.session, attach("again", Role::Sender), CreditPolicy::Manual)
    }
}

#[test]
fn links_beyond_the_limit_are_refused_one_by_one() {
    let server = Config { links_max: 1, ..Config::default() };
    let (mut pair, ours, _) = Pair::linked(Config::default(), server, Role::Sender, CreditPolicy::Manual);
    pair.client.attach(ours.session, attach("second", Role::Sender), CreditPolicy::Manual).unwrap();
    pair.drive();
    assert_eq!(pair.server_events(), []);
    let events = pair.client_events();
    let Event::Detached { cause: DetachCause::ByPeer { error: Some(error), .. }, .. } = &events[1] else {
        panic!("expected a detach: {events:?}");
    };
    assert_eq!(error.condition, condition::RESOURCE_LIMIT_EXCEEDED);
}

#[test]
fn a_coordinator_is_refused() {
    let (mut pair, _) = Pair::begun(Config::default(), Config::default());
    let mut coordinator = attach("tx", Role::Sender);
    coordinator.target = None;
    coordinator.coordinator = true;
    let (sessions, mut ctx) = pair.server.parts();
    let session = sessions.values_mut().next().unwrap();
    session.on_attach(Box::new(coordinator), &mut ctx).unwrap();
    assert_eq!(pair.server_events(), []);
    assert!(!pair.server.output().is_empty());
}

#[test]
fn four_thousand_links_attach_on_one_session() {
    let (mut pair, session) = Pair::begun(Config::default(), Config::default());
    for n in 0..4_096 {
        pair.client.attach(session, attach(&format!("l{n}"), Role::Sender), CreditPolicy::Manual).unwrap();
    }
    pair.drive();
    for event in pair.server_events() {
        let Event::Attach { link, .. } = event else { panic!("{event:?}") };
        let credit = CreditPolicy::TopUp(10);
        pair.server.accept_attach(link, AttachAnswer { credit, ..AttachAnswer::default() }).unwrap();
    }
    pair.drive();
    let sendable = |event: &Event| matches!(event, Event::Sendable { credit: 10, .. });
    assert_eq!(pair.client_events().iter().filter(|event| sendable(event)).count(), 4_096);
}

#[test]
fn credit_that_came_before_the_answer_is_told_with_it() {
    let (mut pair, session) = Pair::begun(Config::default(), Config::default());
    pair.client.attach(session, attach("r", Role::Receiver), CreditPolicy::Manual).unwrap();
    pair.drive();
    let events = pair.server_events();
    let [Event::Attach { link, .. }] = events[..] else { panic!("{events:?}") };
    let flow = Flow {
        next_incoming_id: Some(1),
        incoming_window: 100,
        link: Some(LinkFlow { handle: 0, link_credit: Some(7), ..LinkFlow::default() }),
        ..Flow::default()
    };
    pair.client.output.amqp(0, Performative::Flow(flow));
    pair.drive();
    assert_eq!(pair.server_events(), []);
    assert!(pair.server.send(link, SendOptions::default(), body(b"early")).is_err());
    pair.server.accept_attach(link, AttachAnswer::default()).unwrap();
    assert_eq!(pair.server_events(), [Event::Sendable { link, credit: 7 }]);
}

#[test]
fn a_link_that_its_peer_gives_up_before_the_answer_is_gone() {
    let (mut pair, session) = Pair::begun(Config::default(), Config::default());
    let ours = pair.client.attach(session, attach("r", Role::Receiver), CreditPolicy::Manual).unwrap();
    pair.client.detach(ours, None).unwrap();
    pair.drive();
    let events = pair.server_events();
    let [Event::Attach { link, .. }, Event::Detached { .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!(pair.server.accept_attach(link, AttachAnswer::default()), Err(CommandError::NoLink));
    assert_eq!(pair.client_events(), [Event::Detached { link: ours, cause: DetachCause::ByUs }]);
    assert!(pair.client.sessions[&0].links.is_empty() && pair.server.sessions[&0].links.is_empty());
}
