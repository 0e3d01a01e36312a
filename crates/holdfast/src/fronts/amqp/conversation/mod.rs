//! One AMQP connection: the machine of `wire` on one side, the hub on the other. What its links are for stands in the
//! files of this module.

mod answers;
mod attach;
mod reading;
mod tokens;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use hub::authenticate::ServiceGrant;
use hub::decision::{Act, Facts, cut};
use hub::refusal::Refusal;
use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use wire::amqp::codec::Symbol;
use wire::amqp::connection::{CloseReason, Connection, Delivery, Event, LinkId, OpenOptions, PeerMisbehaved};
use wire::amqp::message::Message;
use wire::amqp::performative::{DeliveryState, Error, condition};
use wire::amqp::sasl::SaslCode;

use self::tokens::Held;
use super::AmqpFront;
use super::reader::Reader;
use crate::io::Stream;
use crate::listen::{Visitor, spoken};

/// Bytes read at once; they live on the stack.
const READ_BYTES: usize = 16 * 1024;
/// A connection that has put no token by then is closed (`spec/amqp.md` §3).
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

const ARGUMENT_ERROR: Symbol = Symbol::from_static("com.microsoft:argument-error");
const STOLEN: Symbol = Symbol::from_static("amqp:link:stolen");
const DETACH_FORCED: Symbol = Symbol::from_static("amqp:link:detach-forced");

/// Serves one connection to its end.
pub(crate) async fn serve<S: Stream>(stream: S, visitor: Box<Visitor>, front: Arc<AmqpFront>) {
    let now = Instant::now();
    let machine = Connection::server(front.config.clone(), now);
    let mut policy_changes = front.policy_changes.clone();
    policy_changes.mark_unchanged();
    let mut conversation = Conversation {
        stream,
        visitor,
        machine,
        signals: Arc::new(Signals::default()),
        grants: Vec::new(),
        links: BTreeMap::new(),
        token_deadline: Some(now + TOKEN_TIMEOUT),
        unflushed: false,
        client: Facts::default(),
        held: None,
        front,
    };
    let drain = conversation.front.drain.clone();
    tokio::select! {
        () = conversation.run(&mut policy_changes) => {}
        () = drain.begun() => conversation.drain(),
    }
    let farewell = async {
        let _ = conversation.stream.write_all(&conversation.machine.take_output()).await;
        let _ = conversation.stream.shutdown().await;
    };
    let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
}

struct Conversation<S> {
    stream: S,
    visitor: Box<Visitor>,
    front: Arc<AmqpFront>,
    machine: Connection,
    signals: Arc<Signals>,
    /// What the tokens that were put admit to; one of a policy replaces the one before.
    grants: Vec<ServiceGrant>,
    links: BTreeMap<LinkId, Link>,
    /// When a connection without any grant is closed.
    token_deadline: Option<Instant>,
    unflushed: bool,
    /// What the client says of itself in its open.
    client: Facts,
    /// The answer to a refused token that waits. Meanwhile nothing more is read; readers go on.
    held: Option<Held>,
}

/// What a link is for.
enum Link {
    /// Requests to `$cbs` come in.
    CbsRequests,
    /// Answers of `$cbs` go out, as soon as there is credit: some clients ask before they grant any.
    CbsAnswers(VecDeque<BytesMut>),
    /// Requests to `$management` come in.
    ManagementRequests,
    /// Answers of `$management` go out, likewise.
    ManagementAnswers(VecDeque<BytesMut>),
    /// Events go out.
    Reader(Box<Reader>),
}

/// What others have to say to the connection.
#[derive(Default)]
struct Signals {
    displaced: Mutex<Vec<(LinkId, String)>>,
    waker: AtomicWaker,
}

/// Why the connection's task goes on.
enum Wake {
    Progress,
    PoliciesChanged,
    Over,
}

impl<S: Stream> Conversation<S> {
    async fn run(&mut self, policy_changes: &mut watch::Receiver<u64>) {
        loop {
            while self.held.is_none()
                && let Some(event) = self.machine.poll_event()
            {
                if !Box::pin(self.on_event(event)).await {
                    return;
                }
            }
            let mut changed = std::pin::pin!(policy_changes.changed());
            let deadline = self.next_deadline();
            let mut sleep = std::pin::pin!(tokio::time::sleep_until(deadline.into()));
            let wake = poll_fn(|cx| {
                if changed.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Wake::PoliciesChanged);
                }
                if let Poll::Ready(wake) = self.poll(cx) {
                    return Poll::Ready(wake);
                }
                sleep.as_mut().poll(cx).map(|()| Wake::Progress)
            })
            .await;
            match wake {
                Wake::Progress => {
                    if !self.on_time() {
                        return;
                    }
                }
                Wake::PoliciesChanged => self.recheck().await,
                Wake::Over => return,
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.signals.waker.register(cx.waker());
        self.detach_displaced();
        self.poll_readers(cx);
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            tracing::debug!(%error, "an AMQP connection was lost");
            return Poll::Ready(Wake::Over);
        }
        if self.machine.is_closed() && self.machine.pending_output_len() == 0 {
            return Poll::Ready(Wake::Over);
        }
        if self.held.is_none()
            && self.machine.wants_input()
            && let Poll::Ready(wake) = self.poll_read(cx)
        {
            return Poll::Ready(wake);
        }
        Poll::Pending
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.machine.output().is_empty() {
            match Pin::new(&mut self.stream).poll_write(cx, self.machine.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => self.machine.consume_output(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = true;
            // There is room in the output again, so that readers may go on; they are polled in the next round.
            if self.machine.output().is_empty()
                && self.links.values().any(|link| matches!(link, Link::Reader(_)))
            {
                self.poll_readers(cx);
            }
        }
        if self.unflushed {
            match Pin::new(&mut self.stream).poll_flush(cx) {
                Poll::Ready(flushed) => flushed?,
                Poll::Pending => return Poll::Pending,
            }
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        let mut bytes = [MaybeUninit::<u8>::uninit(); READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Wake::Over),
            Poll::Ready(Ok(())) => {
                self.machine.handle_bytes(buffer.filled(), Instant::now());
                Poll::Ready(Wake::Progress)
            }
            Poll::Ready(Err(_)) => Poll::Ready(Wake::Over),
            Poll::Pending => Poll::Pending,
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        // Something is always due within a minute, and costs nothing.
        let mut deadline = now + Duration::from_secs(60);
        let seconds = self.front.hub.now().as_second();
        let grant_ends = self.grants.iter().map(|grant| grant.ends).min();
        let grant_end = grant_ends.and_then(|ends| u64::try_from(ends.saturating_sub(seconds)).ok());
        deadline = deadline.min(now + Duration::from_secs(grant_end.unwrap_or(60).min(60)));
        let held = self.held.as_ref().map(|held| held.until);
        // Who waits for an answer is not closed for having no token yet.
        let token_deadline = self.token_deadline.filter(|_| held.is_none());
        [self.machine.next_timeout(), token_deadline, held].into_iter().flatten().fold(deadline, Instant::min)
    }

    /// Does what is due: answers that waited, heartbeats, the end of tokens, and the end of a client that puts none.
    /// False when the connection is over.
    fn on_time(&mut self) -> bool {
        let now = Instant::now();
        if let Some(held) = self.held.take_if(|held| held.until <= now) {
            if held.pace.unanswered {
                return false;
            }
            self.tell(held.answer);
        }
        if self.machine.next_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        if self.held.is_none() && self.token_deadline.is_some_and(|due| due <= now) {
            self.token_deadline = None;
            self.record(Act::Token, None, Some(Refusal::NoCredential));
            let text = "No token was put in time.";
            let _ = self.machine.close(Some(Error::new(condition::UNAUTHORIZED_ACCESS, text)), now);
        }
        let seconds = self.front.hub.now().as_second();
        let before = self.grants.len();
        self.grants.retain(|grant| grant.ends > seconds);
        if self.grants.len() < before {
            self.end_readers_without_right("The token has expired.", Refusal::TokenEnded { ended: None });
        }
        true
    }

    fn detach(&mut self, id: LinkId, error: Error) {
        if self.links.remove(&id).is_some() {
            let _ = self.machine.detach(id, Some(error));
        }
    }

    /// Ends all links with a condition that clients come back after.
    fn drain(&mut self) {
        for id in std::mem::take(&mut self.links).into_keys() {
            let _ = self.machine.detach(id, Some(Error::new(DETACH_FORCED, "The hub stops.")));
        }
    }

    /// Handles an event; false when the connection is over.
    async fn on_event(&mut self, event: Event) -> bool {
        let now = Instant::now();
        match event {
            Event::SaslInit(init) => self.on_sasl(init).await,
            Event::SaslResponse(_) => {
                let _ = self.machine.sasl_outcome(SaslCode::Auth, None, now);
            }
            Event::Open(open) => {
                let product = open.properties.text("user-agent").or_else(|| open.properties.text("product"));
                self.client.sdk = product.map(cut);
                let hostname = open.hostname.clone();
                let _ = self.machine.accept_open(&OpenOptions { hostname, ..OpenOptions::default() }, now);
            }
            Event::Attach { link, attach } => self.on_attach(link, *attach).await,
            Event::Delivery(delivery) => self.on_delivery(*delivery).await,
            Event::Detached { link, .. } => {
                self.links.remove(&link);
            }
            Event::Ended { session, .. } => self.links.retain(|link, _| link.session() != session),
            Event::DrainRequested { link, .. } => {
                // Nothing more is ready than was sent already.
                let _ = self.machine.drained(link);
            }
            Event::Closed(reason) => {
                if let CloseReason::PeerMisbehaved(misbehaved) = reason {
                    let refusal = misbehaviour(&misbehaved);
                    self.record(
                        Act::Disconnect { reason: "the peer misbehaved".to_owned() },
                        None,
                        Some(refusal),
                    );
                }
                self.links.clear();
                return self.machine.pending_output_len() > 0;
            }
            // Readers are polled in every round.
            Event::Sendable { link, .. } => self.send_answers(link),
            Event::SaslChallenge(_)
            | Event::Begun(_)
            | Event::Attached { .. }
            | Event::Drained { .. }
            | Event::Disposition { .. } => {}
        }
        true
    }

    async fn on_delivery(&mut self, delivery: Delivery) {
        let Some(kind) = self.links.get(&delivery.link) else { return };
        let (is_cbs, is_management) =
            (matches!(kind, Link::CbsRequests), matches!(kind, Link::ManagementRequests));
        let request = match Message::parse(&delivery.message) {
            Ok(request) => request,
            Err(error) => {
                let error = Error::new(condition::DECODE_ERROR, error.to_string());
                let _ = self.machine.settle(delivery.id, DeliveryState::Rejected(Some(error)));
                return;
            }
        };
        // The disposition goes out before the answer: a client takes the reverse order for a failure.
        if !delivery.settled {
            let _ = self.machine.settle(delivery.id, DeliveryState::Accepted);
        }
        let session = delivery.link.session();
        if is_cbs {
            self.on_token_request(session, &request).await;
        } else if is_management {
            self.on_management_request(session, &request).await;
        }
    }

    fn facts(&self) -> Facts {
        Facts { sdk: self.client.sdk.clone(), ..self.visitor.facts.clone() }
    }

    fn record(&self, act: Act, facts: Option<Facts>, refusal: Option<Refusal>) {
        let facts = facts.unwrap_or_else(|| self.facts());
        self.front.hub.record(act, None, self.visitor.origin.clone(), facts, refusal);
    }
}

/// The cause by which a broken protocol is explained.
fn misbehaviour(misbehaved: &PeerMisbehaved) -> Refusal {
    match misbehaved {
        PeerMisbehaved::UnsupportedHeader(bytes) if !bytes.starts_with(b"AMQP") => match spoken(bytes[0]) {
            Some(spoken) => Refusal::WrongPort { spoken: spoken.to_owned(), served: "AMQP".to_owned() },
            None => Refusal::Protocol { problem: misbehaved.to_string() },
        },
        PeerMisbehaved::MechanismNotOffered(mechanism) => {
            Refusal::SaslMechanism { presented: cut(mechanism.as_str()) }
        }
        other => Refusal::Protocol { problem: other.to_string() },
    }
}
