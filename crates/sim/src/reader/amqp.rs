//! An AMQP connection of a client with links to nodes that it asks: `$cbs` and `$management`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::time::{timeout, timeout_at};
use wire::amqp::codec::{Symbol, ValueRef};
use wire::amqp::connection::{
    ClientOptions, CloseReason, Config, Connection, CreditPolicy, DetachCause, EndCause, Event, LinkId,
    OpenOptions, SendError, SendOptions, SessionId,
};
use wire::amqp::message::{Message, MessageId, MessageWriter, Properties};
use wire::amqp::performative::{Attach, DeliveryState, Error, Role, Source, Target};
use wire::amqp::sasl::SaslInit;

use crate::pipe::Pipe;
use crate::{SimError, Trust};

/// How long opening, attaching, or the answer to a request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the largest frame that is taken.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// A connection with one session.
pub(super) struct Amqp {
    pipe: Pipe,
    machine: Connection,
    /// Output that left the machine and is not written yet.
    unwritten: BytesMut,
    session: Option<SessionId>,
    opened: bool,
    links: BTreeMap<LinkId, State>,
    /// What came on links, with its link.
    pub(super) received: VecDeque<(LinkId, Bytes)>,
    next_request: u64,
}

/// How far a link is.
enum State {
    Attaching,
    Attached,
    Detached(String),
}

/// A pair of links for requests and their answers.
#[derive(Clone, Copy)]
pub(super) struct Node {
    name: &'static str,
    requests: LinkId,
    answers: LinkId,
}

impl Amqp {
    /// Opens a connection with SASL ANONYMOUS and begins its session.
    pub(super) async fn open(
        address: SocketAddr,
        server_name: &str,
        host: &str,
        trust: &Trust,
    ) -> Result<Self, SimError> {
        let pipe = Pipe::open(address, server_name, trust).await?;
        let config = Config {
            container_id: "holdfast-sim".to_owned(),
            max_frame_size: FRAME_BYTES_MAX,
            ..Config::default()
        };
        let mechanism = Symbol::from_static("ANONYMOUS");
        let options = ClientOptions {
            sasl: Some(SaslInit { mechanism, initial_response: None, hostname: Some(host.to_owned()) }),
            open: OpenOptions { hostname: Some(host.to_owned()), ..OpenOptions::default() },
        };
        let mut this = Self {
            pipe,
            machine: Connection::client(Arc::new(config), options, Instant::now()),
            unwritten: BytesMut::new(),
            session: None,
            opened: false,
            links: BTreeMap::new(),
            received: VecDeque::new(),
            next_request: 0,
        };
        this.until("open", |this| this.opened).await?;
        this.session = Some(this.machine.begin().map_err(misused)?);
        Ok(this)
    }

    /// Attaches a receiver and waits for the answer.
    pub(super) async fn receive_from(
        &mut self,
        name: &str,
        source: Source,
        credit: CreditPolicy,
    ) -> Result<LinkId, SimError> {
        let mut attach = Attach::new(name, Role::Receiver);
        attach.source = Some(source);
        attach.target = Some(Target { address: Some(name.to_owned()), ..Target::default() });
        self.attach(attach, credit).await
    }

    /// Attaches both links of a node.
    pub(super) async fn node(&mut self, name: &'static str) -> Result<Node, SimError> {
        let answers =
            self.receive_from(&format!("{name}-answers"), Source::new(name), CreditPolicy::TopUp(10)).await?;
        let mut attach = Attach::new(format!("{name}-requests"), Role::Sender);
        attach.target = Some(Target { address: Some(name.to_owned()), ..Target::default() });
        let requests = self.attach(attach, CreditPolicy::Manual).await?;
        Ok(Node { name, requests, answers })
    }

    /// Asks a node; gives the answer once its status is 200.
    pub(super) async fn ask(
        &mut self,
        node: Node,
        request: impl Fn(&mut MessageWriter<'_>),
    ) -> Result<Bytes, SimError> {
        self.next_request += 1;
        let id = self.next_request;
        let write = |w: &mut MessageWriter<'_>| {
            w.properties(&Properties {
                message_id: Some(MessageId::Ulong(id)),
                reply_to: Some(node.name),
                ..Properties::default()
            });
            request(w);
        };
        let mut sent = false;
        let mut answer = None;
        self.until("answer to a request", |this| {
            if !sent {
                // Credit may not have come yet; then the next event tries again.
                sent = match this.machine.send(node.requests, SendOptions::settled(), write) {
                    Ok(_) => true,
                    Err(SendError::Blocked(_)) => false,
                    Err(_) => return true,
                };
            }
            let at = this.received.iter().position(|(link, _)| *link == node.answers);
            answer = at.and_then(|at| this.received.remove(at)).map(|(_, message)| message);
            answer.is_some()
        })
        .await?;
        let answer = answer.ok_or_else(|| SimError::Amqp(format!("`{}` takes no requests", node.name)))?;
        let message = Message::parse(&answer).map_err(|error| SimError::Amqp(error.to_string()))?;
        let status =
            message.application_properties.get("status-code").and_then(ValueRef::as_i64).unwrap_or(0);
        if !(200..300).contains(&status) {
            let description = message.application_properties.get("status-description");
            let description = description.and_then(ValueRef::as_text).unwrap_or_default().to_owned();
            return Err(SimError::RequestRefused { node: node.name, status, description });
        }
        Ok(answer)
    }

    /// Why a link was detached, if it was.
    pub(super) fn detached(&self, link: LinkId) -> Option<&str> {
        match self.links.get(&link) {
            Some(State::Detached(reason)) => Some(reason),
            _ => None,
        }
    }

    /// Writes what waits, reads what comes, and takes note of what happened. Dropping it half-way loses nothing.
    pub(super) async fn step(&mut self) -> Result<(), SimError> {
        if self.take_events()? {
            return Ok(());
        }
        self.unwritten.unsplit(self.machine.take_output());
        self.pipe.write(&mut self.unwritten).await?;
        let machine = &mut self.machine;
        let deadline = machine.next_timeout();
        let read = self.pipe.read(|bytes| machine.handle_bytes(bytes, Instant::now()));
        match deadline {
            None => read.await?,
            Some(deadline) => match timeout_at(deadline.into(), read).await {
                Ok(read) => read?,
                Err(_) => self.machine.handle_timeout(Instant::now()),
            },
        }
        self.take_events()?;
        Ok(())
    }

    /// Closes the connection in order.
    pub(super) async fn close(mut self) {
        let _ = self.machine.close(None, Instant::now());
        self.unwritten.unsplit(self.machine.take_output());
        let _ = self.pipe.write(&mut self.unwritten).await;
        self.pipe.close().await;
    }

    async fn attach(&mut self, attach: Attach, credit: CreditPolicy) -> Result<LinkId, SimError> {
        let session = self.session.ok_or(SimError::Closed)?;
        let name = attach.name.clone();
        let link = self.machine.attach(session, attach, credit).map_err(misused)?;
        self.links.insert(link, State::Attaching);
        self.until("answer to an attach", |this| !matches!(this.links.get(&link), Some(State::Attaching)))
            .await?;
        match self.detached(link) {
            None => Ok(link),
            Some(reason) => Err(SimError::Detached { partition: name, reason: reason.to_owned() }),
        }
    }

    async fn until(
        &mut self,
        what: &'static str,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> Result<(), SimError> {
        let steps = async {
            while !done(self) {
                self.step().await?;
            }
            Ok(())
        };
        timeout(ANSWER_TIMEOUT, steps).await.map_err(|_| SimError::TimedOut(what))?
    }

    /// Takes note of what happened; says whether anything did.
    fn take_events(&mut self) -> Result<bool, SimError> {
        let mut any = false;
        while let Some(event) = self.machine.poll_event() {
            any = true;
            match event {
                Event::Open(_) => self.opened = true,
                // A null source or target is a refusal, and its detach follows.
                Event::Attached { link, attach } if attach.source.is_some() && attach.target.is_some() => {
                    self.links.insert(link, State::Attached);
                }
                Event::Delivery(delivery) => {
                    if !delivery.settled {
                        self.machine.settle(delivery.id, DeliveryState::Accepted).map_err(misused)?;
                    }
                    self.received.push_back((delivery.link, delivery.message));
                }
                Event::Detached { link, cause } => {
                    let reason = match cause {
                        DetachCause::ByPeer { error, .. } => described(error),
                        other => format!("{other:?}"),
                    };
                    self.links.insert(link, State::Detached(reason));
                }
                Event::Ended { cause: EndCause::ByPeer(error), .. } => {
                    return Err(SimError::Amqp(format!("the session was ended: {}", described(error))));
                }
                Event::Ended { cause, .. } => return Err(SimError::Amqp(format!("{cause:?}"))),
                Event::Closed(CloseReason::ByPeer(Some(error))) => {
                    return Err(SimError::Amqp(described(Some(error))));
                }
                Event::Closed(_) => return Err(SimError::Closed),
                _ => {}
            }
        }
        Ok(any)
    }
}

fn described(error: Option<Error>) -> String {
    match error {
        None => "no reason was given".to_owned(),
        Some(error) => match error.description {
            Some(description) => format!("{}: {description}", error.condition),
            None => error.condition.to_string(),
        },
    }
}

fn misused(error: impl std::fmt::Display) -> SimError {
    SimError::Amqp(error.to_string())
}
