//! One AMQP connection as a plain struct: no socket, no clock, no task.
//!
//! [`Connection`] has four kinds of methods.
//!
//! 1. **Input**: [`handle_bytes`](Connection::handle_bytes) takes what the transport read,
//!    [`handle_timeout`](Connection::handle_timeout) is called when
//!    [`next_timeout`](Connection::next_timeout) has come, and
//!    [`handle_transport_end`](Connection::handle_transport_end) when the transport is gone.
//! 2. **Events**: [`poll_event`](Connection::poll_event) tells what happened; to be called until it
//!    gives `None`, after every input and every command.
//! 3. **Commands** answer events and begin things. They never wait: what they write is in the output.
//! 4. **Output**: [`output`](Connection::output) is what the transport shall write, and
//!    [`consume_output`](Connection::consume_output) takes note of what it wrote.
//!
//! The transport is read only while [`wants_input`](Connection::wants_input) says so: that stops a
//! peer that does not read its answers. Nothing is sent before the peer has room for it: a message
//! goes out with [`send`](Connection::send) when there is credit, or not at all, so that the queue
//! stays where the messages are kept.
//!
//! A server front, reduced to what it must not forget:
//!
//! ```
//! # use std::{sync::Arc, time::Instant};
//! # use holdfast_wire::amqp::connection::*;
//! # use holdfast_wire::amqp::message::{Message, MessageWriter};
//! # use holdfast_wire::amqp::performative::{DeliveryState, Role};
//! # use holdfast_wire::amqp::sasl::SaslCode;
//! /// Called after every input and every command, until it returns; then the transport writes
//! /// `output()` and reports with `consume_output`, reads while `wants_input()`, and wakes at
//! /// `next_timeout()`.
//! fn answer_events(connection: &mut Connection, now: Instant) -> Result<(), CommandError> {
//!     while let Some(event) = connection.poll_event() {
//!         match event {
//!             Event::SaslInit(_init) => connection.sasl_outcome(SaslCode::Ok, None, now)?,
//!             Event::Open(_open) => connection.accept_open(&OpenOptions::default(), now)?,
//!             Event::Attach { link, attach } => match attach.role {
//!                 // The peer sends: say how many messages may be under way.
//!                 Role::Sender => {
//!                     let credit = CreditPolicy::TopUp(100);
//!                     connection.accept_attach(link, AttachAnswer { credit, ..Default::default() })?;
//!                 }
//!                 Role::Receiver => connection.accept_attach(link, AttachAnswer::default())?,
//!             },
//!             Event::Delivery(delivery) => {
//!                 let state = match Message::parse(&delivery.message) {
//!                     Ok(_message) => DeliveryState::Accepted,
//!                     Err(_) => DeliveryState::Rejected(None),
//!                 };
//!                 if !delivery.settled {
//!                     connection.settle(delivery.id, state)?;
//!                 }
//!             }
//!             Event::Sendable { link, .. } => {
//!                 // Answers, too, may have to wait for credit: keep them until this event.
//!                 let event = |message: &mut MessageWriter<'_>| {
//!                     message.message_annotations(|entries| entries.long("sequence", 1));
//!                     message.data(b"{}");
//!                 };
//!                 while connection.send(link, SendOptions::settled(), event).is_ok() {}
//!             }
//!             Event::DrainRequested { link, .. } => connection.drained(link)?,
//!             _ => {}
//!         }
//!     }
//!     Ok(())
//! }
//! # let now = Instant::now();
//! # let mut connection = Connection::server(Arc::new(Config::default()), now);
//! # connection.handle_bytes(b"AMQP\x00\x01\x00\x00", now);
//! # answer_events(&mut connection, now).unwrap();
//! # assert_eq!(connection.output(), b"AMQP\x00\x01\x00\x00");
//! ```
//!
//! What the peer does wrong ends the link, the session or the connection, whichever is the smallest
//! that the standard allows; the event says what it was ([`PeerMisbehaved`]).

mod answer;
mod closing;
mod commands;
mod config;
mod error;
mod event;
mod handshake;
mod id;
mod link;
mod output;
mod receiving;
mod sending;
mod session;
mod sessions;
mod settling;
mod timers;

pub use answer::AttachAnswer;
pub use config::{ClientOptions, Config, OpenOptions};
pub use error::{Blocked, CloseReason, CommandError, PeerMisbehaved, SendError};
pub use event::{Delivery, DetachCause, EndCause, Event};
pub use id::{DeliveryId, LinkId, SessionId};
pub use receiving::CreditPolicy;
pub use sending::SendOptions;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use crate::amqp::codec::Reader;
use crate::amqp::frame::{Frame, FrameType, PROTOCOL_HEADER_BYTES, ProtocolHeader};
use crate::amqp::performative::Performative;
use crate::amqp::sasl::SaslFrame;
use output::Output;
use session::{Context, Session, Usage};
use timers::Timers;

/// One end of an AMQP connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    config: Arc<Config>,
    state: State,
    /// What a client says; a server learns it with its answer to the open.
    client: Option<Box<ClientOptions>>,
    /// Bytes that are no complete frame yet, or that wait for an answer of the caller.
    input: BytesMut,
    output: Output,
    events: VecDeque<Event>,
    timers: Timers,
    /// Highest channel that the peer takes.
    remote_channel_max: u16,
    /// Sessions by the channel that we send on.
    sessions: BTreeMap<u16, Box<Session>>,
    /// Our channels by those of the peer.
    by_remote_channel: BTreeMap<u16, u16>,
    usage: Usage,
}

/// How far a connection has come (OASIS part 2, section 2.4.6, and part 5, section 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first header of the peer is due.
    AwaitHeader,
    /// Client: the mechanisms are due.
    AwaitMechanisms,
    /// Client: the outcome or a challenge is due.
    AwaitOutcome,
    /// Client: the caller's response is due.
    AwaitOurResponse,
    /// Server: the client's choice is due.
    AwaitInit,
    /// Server: the caller's verdict is due.
    AwaitVerdict,
    /// Server: the client's response is due.
    AwaitResponse,
    /// SASL is over; the header of AMQP is due.
    AwaitAmqpHeader,
    /// The peer's open is due.
    AwaitOpen,
    /// Server: the caller's answer to the open is due.
    AwaitOpenAnswer,
    /// Both have opened.
    Open,
    /// We closed; the peer's close is due, and nothing else matters.
    CloseSent,
    /// Over.
    Closed,
}

impl State {
    /// Whether the caller has to say something before more is read.
    fn waits_for_caller(self) -> bool {
        matches!(self, Self::AwaitVerdict | Self::AwaitOurResponse | Self::AwaitOpenAnswer)
    }
}

/// Bytes that may wait beyond one frame while the caller's answer is due.
const BYTES_AHEAD_MAX: usize = 64 << 10;

impl Connection {
    /// The serving end of a transport that was accepted `now`.
    pub fn server(config: Arc<Config>, now: Instant) -> Self {
        Self::new(config, None, now)
    }

    /// The connecting end. Its header is in the output already.
    pub fn client(config: Arc<Config>, options: ClientOptions, now: Instant) -> Self {
        let mut connection = Self::new(config, Some(Box::new(options)), now);
        connection.begin_as_client();
        connection
    }

    fn new(config: Arc<Config>, client: Option<Box<ClientOptions>>, now: Instant) -> Self {
        let timers = Timers::new(now, config.handshake_timeout);
        Self {
            config,
            state: State::AwaitHeader,
            client,
            input: BytesMut::new(),
            output: Output::new(),
            events: VecDeque::new(),
            timers,
            remote_channel_max: u16::MAX,
            sessions: BTreeMap::new(),
            by_remote_channel: BTreeMap::new(),
            usage: Usage::default(),
        }
    }

    /// Takes in bytes that the transport read.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if self.state == State::Closed || bytes.is_empty() {
            return;
        }
        self.timers.heard(now);
        if self.input.is_empty() {
            let used = self.process(bytes, now);
            if self.state != State::Closed {
                self.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            self.input.extend_from_slice(bytes);
            self.process_input(now);
        }
        let limit = self.config.max_frame_size as usize + BYTES_AHEAD_MAX;
        if self.input.len() > limit {
            self.fail(PeerMisbehaved::TooFarAhead(self.input.len()));
        }
    }

    /// Takes note that the transport is gone.
    pub fn handle_transport_end(&mut self) {
        self.finish(CloseReason::TransportEnded);
    }

    /// Does what is due at `now`: heartbeats, and the end of a peer that is silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.timers.deadline_is_over(now) {
            return match self.state {
                State::CloseSent => self.finish(CloseReason::CloseTimedOut),
                _ => self.finish(CloseReason::HandshakeTimedOut(self.config.handshake_timeout)),
            };
        }
        if let Some(silence) = self.timers.peer_is_silent(now) {
            return self.give_up_silent_peer(silence);
        }
        // Output that waits will tell the peer as much as an empty frame, once it is read.
        let due = self.timers.heartbeat_is_due(now);
        if due && self.state == State::Open && self.output.buffer.is_empty() {
            self.output.empty_frame();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        if self.state == State::Closed { None } else { self.timers.next() }
    }

    /// What happened next, in order.
    pub fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        if self.events.is_empty() {
            // A connection that waits holds no queue.
            self.events = VecDeque::new();
        }
        event
    }

    /// Whether [`poll_event`](Self::poll_event) would give an event.
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// Bytes for the transport to write.
    pub fn output(&self) -> &[u8] {
        &self.output.buffer
    }

    /// How many bytes wait for the transport.
    pub fn pending_output_len(&self) -> usize {
        self.output.buffer.len()
    }

    /// Takes note that the transport wrote the first `count` bytes of [`output`](Self::output).
    pub fn consume_output(&mut self, count: usize) {
        self.output.consume(count);
        self.wake_for_output();
    }

    /// Hands all output over at once, for transports that keep it themselves.
    pub fn take_output(&mut self) -> BytesMut {
        let output = self.output.take();
        self.wake_for_output();
        output
    }

    /// Whether the transport may be read. False while the caller owes an answer, while too much
    /// output waits, and when the connection is over.
    pub fn wants_input(&self) -> bool {
        self.state != State::Closed
            && !self.state.waits_for_caller()
            && self.pending_output_len() < self.config.output_bytes_max
    }

    /// Whether the connection is over; output may still wait.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Goes on with bytes that waited for an answer of the caller.
    fn process_input(&mut self, now: Instant) {
        let mut input = std::mem::take(&mut self.input);
        let used = self.process(&input, now);
        input.advance(used);
        if !input.is_empty() && self.state != State::Closed {
            self.input = input;
        }
    }

    /// Takes in headers and frames as long as they are complete; returns the bytes used.
    fn process(&mut self, bytes: &[u8], now: Instant) -> usize {
        let mut rest = bytes;
        while self.state != State::Closed && !self.state.waits_for_caller() {
            let step = match self.state {
                State::AwaitHeader | State::AwaitAmqpHeader => self.process_header(&mut rest),
                _ => self.process_frame(&mut rest, now),
            };
            match step {
                Ok(true) => {}
                Ok(false) => break,
                Err(misbehaved) => self.fail(misbehaved),
            }
        }
        bytes.len() - rest.len()
    }

    fn process_header(&mut self, rest: &mut &[u8]) -> Result<bool, PeerMisbehaved> {
        let Some((bytes, behind)) = rest.split_first_chunk::<PROTOCOL_HEADER_BYTES>() else {
            return Ok(false);
        };
        *rest = behind;
        self.on_header(*bytes, ProtocolHeader::read(*bytes))?;
        Ok(true)
    }

    fn process_frame(&mut self, rest: &mut &[u8], now: Instant) -> Result<bool, PeerMisbehaved> {
        let Some((frame, behind)) = Frame::split(rest, self.config.max_frame_size)? else {
            return Ok(false);
        };
        *rest = behind;
        self.on_frame(frame, now)?;
        Ok(true)
    }

    fn on_frame(&mut self, frame: Frame<'_>, now: Instant) -> Result<(), PeerMisbehaved> {
        let undecodable = |source| PeerMisbehaved::Undecodable { channel: frame.channel, source };
        let mut body = Reader::new(frame.body);
        match frame.frame_type {
            FrameType::Sasl => self.on_sasl(SaslFrame::read(&mut body).map_err(undecodable)?),
            FrameType::Amqp if body.is_empty() => Ok(()), // a sign of life
            FrameType::Amqp => {
                let performative = Performative::read(&mut body).map_err(undecodable)?;
                self.on_performative(frame.channel, performative, body.rest(), now)
            }
        }
    }

    fn on_performative(
        &mut self,
        channel: u16,
        performative: Performative,
        payload: &[u8],
        now: Instant,
    ) -> Result<(), PeerMisbehaved> {
        match (self.state, performative) {
            (State::AwaitOpen, Performative::Open(open)) => self.on_open(open, now),
            (State::Open, Performative::Begin(begin)) => self.on_begin(channel, &begin),
            (State::Open, Performative::End(end)) => {
                self.on_end(channel, end);
                Ok(())
            }
            (State::Open | State::CloseSent, Performative::Close(close)) => {
                self.on_close(close);
                Ok(())
            }
            (State::Open, performative) => self.on_session_performative(channel, performative, payload),
            (State::CloseSent, _) => Ok(()),
            (_, performative) => Err(PeerMisbehaved::OutOfTurn(performative.name())),
        }
    }

    /// The sessions, and apart from them what they work with.
    fn parts(&mut self) -> (&mut BTreeMap<u16, Box<Session>>, Context<'_>) {
        let Self { sessions, config, output, events, usage, .. } = self;
        (sessions, Context { config, output, events, usage })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
