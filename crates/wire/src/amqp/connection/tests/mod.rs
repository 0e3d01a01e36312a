//! Two machines, a client and a server, joined by their outputs, and a clock that the test moves.

mod credit;
mod handshake;
mod links;
mod messages;
mod recorded;
mod sessions;
mod timers;
mod violations;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::amqp::codec::Symbol;
use crate::amqp::message::{Message, MessageWriter};
use crate::amqp::performative::{Attach, DeliveryState, Error, Role, Source, Target, condition};
use crate::amqp::sasl::{SaslBytes, SaslCode, SaslInit};

/// A client and a server without a network between them.
struct Pair {
    client: Connection,
    server: Connection,
    now: Instant,
    /// Bytes handed over at once, to cut frames anywhere.
    chunk: usize,
}

impl Pair {
    fn new(client: Config, server: Config, options: ClientOptions) -> Self {
        let now = Instant::now();
        Self {
            client: Connection::client(Arc::new(client), options, now),
            server: Connection::server(Arc::new(server), now),
            now,
            chunk: usize::MAX,
        }
    }

    /// A pair that has opened and begun one session.
    fn begun(client: Config, server: Config) -> (Self, SessionId) {
        let mut pair = Self::new(client, server, ClientOptions::default());
        pair.open();
        let session = pair.client.begin().unwrap();
        pair.drive();
        assert_eq!(pair.client_events(), [Event::Begun(session)]);
        assert!(matches!(pair.server_events()[..], [Event::Begun(_)]));
        (pair, session)
    }

    /// A pair with one session and one link, which the server accepted with `credit` when it
    /// receives. Gives the link at both ends.
    fn linked(client: Config, server: Config, role: Role, credit: CreditPolicy) -> (Self, LinkId, LinkId) {
        let (mut pair, session) = Self::begun(client, server);
        let (ours, theirs) = pair.attach(session, attach("link", role), credit);
        (pair, ours, theirs)
    }

    fn attach(&mut self, session: SessionId, attach: Attach, credit: CreditPolicy) -> (LinkId, LinkId) {
        let ours = self.client.attach(session, attach, CreditPolicy::Manual).unwrap();
        self.drive();
        let theirs = match &self.server_events()[..] {
            [Event::Attach { link, .. }] => *link,
            other => panic!("expected an attach: {other:?}"),
        };
        self.server.accept_attach(theirs, AttachAnswer { credit, ..AttachAnswer::default() }).unwrap();
        self.drive();
        let events = self.client_events();
        assert!(matches!(&events[0], Event::Attached { link, .. } if *link == ours), "{events:?}");
        (ours, theirs)
    }

    fn open(&mut self) {
        self.drive();
        assert!(matches!(self.server_events()[..], [Event::Open(_)]));
        self.server.accept_open(&OpenOptions::default(), self.now).unwrap();
        self.drive();
        assert!(matches!(self.client_events()[..], [Event::Open(_)]));
    }

    /// Carries bytes back and forth until nobody has anything to say.
    fn drive(&mut self) {
        while self.client_to_server() | self.server_to_client() {}
    }

    fn client_to_server(&mut self) -> bool {
        carry(&mut self.client, &mut self.server, self.chunk, self.now)
    }

    fn server_to_client(&mut self) -> bool {
        carry(&mut self.server, &mut self.client, self.chunk, self.now)
    }

    fn client_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.client.poll_event()).collect()
    }

    fn server_events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.server.poll_event()).collect()
    }

    /// Moves the clock and lets both ends do what is due.
    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }
}

fn carry(from: &mut Connection, to: &mut Connection, chunk: usize, now: Instant) -> bool {
    let bytes = from.take_output();
    bytes.chunks(chunk).for_each(|part| to.handle_bytes(part, now));
    !bytes.is_empty()
}

fn attach(name: &str, role: Role) -> Attach {
    Attach {
        source: Some(Source::new("source")),
        target: Some(Target::new("target")),
        ..Attach::new(name, role)
    }
}

fn body(bytes: &[u8]) -> impl FnOnce(&mut MessageWriter<'_>) {
    move |message| message.data(bytes)
}

/// The deliveries among events, as body lengths.
fn body_lengths(events: &[Event]) -> Vec<usize> {
    let length = |event: &Event| match event {
        Event::Delivery(delivery) => {
            Some(Message::parse(&delivery.message).unwrap().body.bytes().unwrap().len())
        }
        _ => None,
    };
    events.iter().filter_map(length).collect()
}
