//! An AMQP connection of a client: links to send and receive on, and nodes that it asks, `$cbs` and `$management`.

mod node;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::time::{timeout, timeout_at};
use wire::amqp::codec::{Fields, Symbol};
use wire::amqp::connection::{
    ClientOptions, CloseReason, Config, Connection, CreditPolicy, Delivery, DeliveryId, DetachCause,
    EndCause, Event, LinkId, OpenOptions, SendError, SendOptions, SessionId,
};
use wire::amqp::message::MessageWriter;
use wire::amqp::performative::{Attach, DeliveryState, Error, Role, SndSettleMode, Source, Target};
use wire::amqp::sasl::SaslInit;

pub(crate) use self::node::Node;
use crate::SimError;
use crate::pipe::Pipe;

/// How long opening, attaching, or the answer to a request may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the largest frame that is taken.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// A connection with one session.
pub(crate) struct Amqp {
    pipe: Pipe,
    machine: Connection,
    /// Output that left the machine and is not written yet.
    unwritten: BytesMut,
    session: Option<SessionId>,
    opened: bool,
    links: BTreeMap<LinkId, (String, State)>,
    /// What came on links.
    pub(crate) received: VecDeque<Arrived>,
    /// Links whose messages the caller settles.
    held: BTreeSet<LinkId>,
    /// What became of messages that were sent.
    outcomes: Vec<(DeliveryId, Option<DeliveryState>)>,
    next_request: u64,
}

/// How a client says who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Login {
    /// SASL ANONYMOUS; a token follows.
    Anonymous,
    /// No SASL at all: the certificate of the handshake says it.
    ByCertificate,
}

/// Who settles what a link receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settling {
    /// It is accepted as it comes.
    AtOnce,
    /// The caller.
    ByCaller,
}

/// A message that came.
pub(crate) struct Arrived {
    /// The link.
    pub(crate) link: LinkId,
    /// Its sections.
    pub(crate) message: Bytes,
    /// By which it is settled.
    pub(crate) delivery: DeliveryId,
}

/// How far a link is.
enum State {
    Attaching,
    Attached,
    Detached(String),
}

impl Amqp {
    /// Opens a connection and begins its session.
    pub(crate) async fn open(pipe: Pipe, host: &str, login: Login) -> Result<Self, SimError> {
        let config = Config {
            container_id: "holdfast-sim".to_owned(),
            max_frame_size: FRAME_BYTES_MAX,
            ..Config::default()
        };
        let mechanism = Symbol::from_static("ANONYMOUS");
        let sasl = SaslInit { mechanism, initial_response: None, hostname: Some(host.to_owned()) };
        let options = ClientOptions {
            sasl: (login == Login::Anonymous).then_some(sasl),
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
            held: BTreeSet::new(),
            outcomes: Vec::new(),
            next_request: 0,
        };
        this.until("open", |this| Ok(this.opened)).await?;
        this.session = Some(this.machine.begin().map_err(misused)?);
        Ok(this)
    }

    /// Attaches a receiver and waits for the answer.
    pub(crate) async fn receive_from(
        &mut self,
        name: &str,
        source: Source,
        properties: Fields,
        credit: CreditPolicy,
        settling: Settling,
    ) -> Result<LinkId, SimError> {
        let mut attach = Attach::new(name, Role::Receiver);
        attach.source = Some(source);
        attach.target = Some(Target { address: Some(name.to_owned()), ..Target::default() });
        attach.properties = properties;
        self.attach(attach, credit, settling).await
    }

    /// Attaches a sender and waits for the answer.
    pub(crate) async fn send_to(
        &mut self,
        name: &str,
        address: &str,
        properties: Fields,
        settle_mode: SndSettleMode,
    ) -> Result<LinkId, SimError> {
        let mut attach = Attach::new(name, Role::Sender);
        attach.source = Some(Source::new(name));
        attach.target = Some(Target { address: Some(address.to_owned()), ..Target::default() });
        attach.snd_settle_mode = settle_mode;
        attach.properties = properties;
        self.attach(attach, CreditPolicy::Manual, Settling::AtOnce).await
    }

    /// Sends a message, once there is credit for it.
    pub(crate) async fn send(
        &mut self,
        link: LinkId,
        options: SendOptions,
        message: impl Fn(&mut MessageWriter<'_>),
    ) -> Result<DeliveryId, SimError> {
        let mut sent = None;
        self.until("credit", |this| {
            this.check(link)?;
            match this.machine.send(link, options, &message) {
                Ok(delivery) => sent = Some(delivery),
                // The next event tries again.
                Err(SendError::Blocked(_)) => {}
                Err(SendError::MessageTooLarge { size, limit }) => {
                    return Err(SimError::NotTaken(format!(
                        "it has {size} bytes, and {limit} are the limit"
                    )));
                }
                Err(SendError::Command(error)) => return Err(misused(error)),
            }
            Ok(sent.is_some())
        })
        .await?;
        self.flush().await?;
        sent.ok_or(SimError::TimedOut("credit"))
    }

    /// What became of a message that was sent unsettled.
    pub(crate) async fn outcome(
        &mut self,
        link: LinkId,
        delivery: DeliveryId,
    ) -> Result<Option<DeliveryState>, SimError> {
        let mut outcome = None;
        self.until("outcome of a message", |this| {
            let at = this.outcomes.iter().position(|(of, _)| *of == delivery);
            outcome = at.map(|at| this.outcomes.swap_remove(at).1);
            match outcome {
                None => this.check(link).map(|()| false),
                Some(_) => Ok(true),
            }
        })
        .await?;
        Ok(outcome.flatten())
    }

    /// Settles a message of a link whose messages the caller settles.
    pub(crate) async fn settle(
        &mut self,
        delivery: DeliveryId,
        state: DeliveryState,
    ) -> Result<(), SimError> {
        self.machine.settle(delivery, state).map_err(misused)?;
        self.flush().await
    }

    /// The next message on this link; what comes on others waits in `received`.
    pub(crate) async fn next_on(&mut self, link: LinkId) -> Result<Arrived, SimError> {
        let mut found = None;
        self.until("answer to a request", |this| {
            let at = this.received.iter().position(|arrived| arrived.link == link);
            found = at.and_then(|at| this.received.remove(at));
            match found {
                None => this.check(link).map(|()| false),
                Some(_) => Ok(true),
            }
        })
        .await?;
        found.ok_or(SimError::Closed)
    }

    /// An error when a link was detached.
    pub(crate) fn check(&self, link: LinkId) -> Result<(), SimError> {
        match self.links.get(&link) {
            Some((name, State::Detached(reason))) => {
                Err(SimError::Detached { link: name.clone(), reason: reason.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The version of TLS below.
    pub(crate) fn tls_version(&self) -> &'static str {
        self.pipe.tls_version()
    }

    /// Writes what waits.
    async fn flush(&mut self) -> Result<(), SimError> {
        self.unwritten.unsplit(self.machine.take_output());
        self.pipe.write(&mut self.unwritten).await
    }

    /// Writes what waits, reads what comes, and takes note of what happened. Dropping it half-way loses nothing.
    pub(crate) async fn step(&mut self) -> Result<(), SimError> {
        if self.take_events()? {
            return Ok(());
        }
        self.flush().await?;
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
    pub(crate) async fn close(mut self) {
        let _ = self.machine.close(None, Instant::now());
        let _ = self.flush().await;
        self.pipe.close().await;
    }

    async fn attach(
        &mut self,
        attach: Attach,
        credit: CreditPolicy,
        settling: Settling,
    ) -> Result<LinkId, SimError> {
        let session = self.session.ok_or(SimError::Closed)?;
        let name = attach.name.clone();
        let link = self.machine.attach(session, attach, credit).map_err(misused)?;
        self.links.insert(link, (name, State::Attaching));
        if settling == Settling::ByCaller {
            self.held.insert(link);
        }
        self.until("answer to an attach", |this| {
            Ok(!matches!(this.links.get(&link), Some((_, State::Attaching))))
        })
        .await?;
        self.check(link).map(|()| link)
    }

    async fn until(
        &mut self,
        what: &'static str,
        mut done: impl FnMut(&mut Self) -> Result<bool, SimError>,
    ) -> Result<(), SimError> {
        let steps = async {
            while !done(self)? {
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
                    self.set_state(link, State::Attached);
                }
                Event::Delivery(delivery) => {
                    if !delivery.settled && !self.held.contains(&delivery.link) {
                        self.machine.settle(delivery.id, DeliveryState::Accepted).map_err(misused)?;
                    }
                    let Delivery { link, id, message, .. } = *delivery;
                    self.received.push_back(Arrived { link, message, delivery: id });
                }
                Event::Disposition { delivery, state, settled, .. } => {
                    if !settled {
                        self.machine.settle(delivery, DeliveryState::Accepted).map_err(misused)?;
                    }
                    self.outcomes.push((delivery, state));
                }
                Event::Detached { link, cause } => {
                    let reason = match cause {
                        DetachCause::ByPeer { error, .. } => described(error),
                        other => format!("{other:?}"),
                    };
                    self.set_state(link, State::Detached(reason));
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

    fn set_state(&mut self, link: LinkId, state: State) {
        if let Some((_, now)) = self.links.get_mut(&link) {
            *now = state;
        }
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
