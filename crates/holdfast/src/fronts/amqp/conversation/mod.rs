//! One AMQP connection: the machine of `wire` on one side, the hub on the other. What its links are for stands in the
//! files of this module.

mod answers;
mod attach;
mod devices;
mod intake;
mod reading;
mod to_devices;
mod tokens;
mod transport;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hub::authenticate::ServiceGrant;
use hub::decision::{Act, Facts, cut};
use hub::identity::Identity;
use hub::ports::bus::Ending;
use hub::refusal::Refusal;
use hub::telemetry::Sender;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use wire::amqp::codec::Symbol;
use wire::amqp::connection::{CloseReason, Connection, Delivery, DetachCause, Event, LinkId, OpenOptions};
use wire::amqp::message::Message;
use wire::amqp::performative::{DeliveryState, Error, condition};
use wire::amqp::sasl::SaslCode;

use self::devices::Devices;
use self::intake::Intake;
use self::tokens::Held;
use self::transport::misbehaviour;
use super::AmqpFront;
use super::live::Signals;
use super::reader::Reader;
use crate::io::Stream;
use crate::listen::Visitor;
use crate::metrics::DoorMetrics;

/// A connection that has put no token by then, or none again since its last one ended, is closed (`spec/amqp.md` §3).
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

const ARGUMENT_ERROR: Symbol = Symbol::from_static("com.microsoft:argument-error");

/// Serves one connection to its end.
pub(crate) async fn serve<S: Stream>(stream: S, visitor: Box<Visitor>, front: Arc<AmqpFront>) {
    let now = Instant::now();
    let machine = Connection::server(front.config.clone(), now);
    let mut policy_changes = front.policy_changes.clone();
    policy_changes.mark_unchanged();
    let mut conversation = Conversation {
        stream,
        door: front.metrics.door(visitor.origin.door),
        machine,
        signals: Arc::new(Signals::default()),
        grants: Vec::new(),
        devices: Devices::default(),
        links: BTreeMap::new(),
        intake: Intake::default(),
        // A certificate is a credential too, though only a link says whose.
        token_deadline: visitor.chain.is_none().then(|| now + TOKEN_TIMEOUT),
        visitor,
        unflushed: false,
        client: Facts::default(),
        held: Vec::new(),
        over: Over::default(),
        front,
    };
    let drain = conversation.front.drain.clone();
    tokio::select! {
        () = conversation.run(&mut policy_changes) => {}
        () = drain.begun() => conversation.drain(),
    }
    conversation.finish();
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
    door: Arc<DoorMetrics>,
    machine: Connection,
    signals: Arc<Signals>,
    /// What the tokens that were put admit to; one of a policy replaces the one before.
    grants: Vec<ServiceGrant>,
    /// Devices and modules with a credential.
    devices: Devices,
    links: BTreeMap<LinkId, Link>,
    intake: Intake,
    /// When a connection without any grant is closed.
    token_deadline: Option<Instant>,
    unflushed: bool,
    /// What the client says of itself in its open.
    client: Facts,
    /// The answers to refused tokens that wait.
    held: Vec<Held>,
    over: Over,
}

/// Why a connection is over.
struct Over {
    reason: Cow<'static, str>,
    refusal: Option<Box<Refusal>>,
}

impl Default for Over {
    fn default() -> Self {
        Self { reason: Cow::Borrowed("the client closed the connection"), refusal: None }
    }
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
    /// Device-bound messages of a service come in.
    ToDevices,
    /// Messages of a device or module come in; these are their stamps.
    Telemetry(Arc<Sender>),
}

/// Why the connection's task goes on.
enum Wake {
    Progress,
    PoliciesChanged,
    /// The hub ended devices.
    Ended,
    /// Tokens of devices ended.
    Expired,
    Over,
}

impl<S: Stream> Conversation<S> {
    async fn run(&mut self, policy_changes: &mut watch::Receiver<u64>) {
        loop {
            while self.may_go_on()
                && let Some(event) = self.machine.poll_event()
            {
                if !self.take_message(&event) && !Box::pin(self.on_event(event)).await {
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
                Wake::Ended => Box::pin(self.end_devices()).await,
                Wake::Expired => Box::pin(self.end_expired_devices()).await,
                Wake::PoliciesChanged => self.recheck().await,
                Wake::Over => return,
            }
        }
    }

    /// Whether the client may have more from us: nobody waits for an answer that is held back, and the disk keeps up.
    fn may_go_on(&self) -> bool {
        !self.is_held() && self.intake.has_room()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        self.signals.waker.register(cx.waker());
        if self.signals.has_ended() {
            return Poll::Ready(Wake::Ended);
        }
        if self.devices.ends().is_some_and(|ends| ends <= self.front.hub.now().as_second()) {
            return Poll::Ready(Wake::Expired);
        }
        self.detach_displaced();
        self.poll_readers(cx);
        let has_room_again = self.poll_durable(cx);
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.over.reason = error.to_string().into();
            return Poll::Ready(Wake::Over);
        }
        if self.machine.is_closed() && self.machine.pending_output_len() == 0 {
            return Poll::Ready(Wake::Over);
        }
        if has_room_again {
            return Poll::Ready(Wake::Progress);
        }
        if self.may_go_on()
            && self.machine.wants_input()
            && let Poll::Ready(wake) = self.poll_read(cx)
        {
            return Poll::Ready(wake);
        }
        Poll::Pending
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        // Something is always due within a minute, and costs nothing.
        let mut deadline = now + Duration::from_secs(60);
        let seconds = self.front.hub.now().as_second();
        let grant_ends = self.grants.iter().map(|grant| grant.ends).chain(self.devices.ends()).min();
        let grant_end = grant_ends.and_then(|ends| u64::try_from(ends.saturating_sub(seconds)).ok());
        deadline = deadline.min(now + Duration::from_secs(grant_end.unwrap_or(60).min(60)));
        // Who waits for an answer is not closed for having no token yet.
        let token_deadline = self.token_deadline.filter(|_| !self.is_held());
        let due = [self.machine.next_timeout(), token_deadline, self.next_answer()];
        due.into_iter().flatten().fold(deadline, Instant::min)
    }

    /// Does what is due: answers that waited, heartbeats, the end of tokens, and the end of a client that puts none.
    /// False when the connection is over.
    fn on_time(&mut self) -> bool {
        let now = Instant::now();
        if !self.give_answers(now) {
            return false;
        }
        if self.machine.next_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        if !self.is_held() && self.token_deadline.is_some_and(|due| due <= now) {
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
            self.expect_token();
        }
        true
    }

    /// Gives a client without any credential time to bring one.
    fn expect_token(&mut self) {
        if self.grants.is_empty() && self.devices.is_empty() && self.visitor.chain.is_none() {
            self.token_deadline = Some(Instant::now() + TOKEN_TIMEOUT);
        }
    }

    fn detach(&mut self, id: LinkId, error: Error) {
        if self.links.remove(&id).is_some() {
            let _ = self.machine.detach(id, Some(error));
        }
    }

    /// Ends all links with a condition that clients come back after.
    fn drain(&mut self) {
        self.over.reason = Ending::Draining.as_str().into();
        for id in std::mem::take(&mut self.links).into_keys() {
            let _ = self.machine.detach(id, Some(Error::new(condition::DETACH_FORCED, "The hub stops.")));
        }
    }

    /// Gives up what the connection holds, and records its end.
    fn finish(&mut self) {
        let Over { reason, refusal } = std::mem::take(&mut self.over);
        let anybody = self.end_all_devices(&reason, refusal.as_deref());
        if let Some(refusal) = refusal.filter(|_| !anybody) {
            self.record(Act::Disconnect { reason: reason.into_owned() }, None, Some(*refusal));
        }
    }

    /// Takes a message of a device, which is most of what comes; false for anything else.
    fn take_message(&mut self, event: &Event) -> bool {
        let Event::Delivery(delivery) = event else { return false };
        let Some(Link::Telemetry(sender)) = self.links.get(&delivery.link) else { return false };
        let sender = sender.clone();
        self.take_delivery(delivery, &sender);
        true
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
            Event::Detached { link, cause } => {
                if let Some(Link::Telemetry(sender)) = self.links.remove(&link) {
                    if let DetachCause::PeerMisbehaved(misbehaved) = &cause {
                        self.record_message(&sender, misbehaviour(misbehaved));
                    }
                    self.unlink(&sender);
                }
            }
            Event::Ended { session, .. } => {
                let of_session = self.links.extract_if(.., |link, _| link.session() == session);
                let gone: Vec<Link> = of_session.map(|(_, link)| link).collect();
                for link in gone {
                    if let Link::Telemetry(sender) = link {
                        self.unlink(&sender);
                    }
                }
            }
            Event::DrainRequested { link, .. } => {
                // Nothing more is ready than was sent already.
                let _ = self.machine.drained(link);
            }
            Event::Closed(reason) => {
                self.over.reason = match &reason {
                    CloseReason::ByPeer(None) => Cow::Borrowed("the client said good-bye"),
                    CloseReason::PeerMisbehaved(_) => Cow::Borrowed("the peer misbehaved"),
                    reason => reason.to_string().into(),
                };
                if let CloseReason::PeerMisbehaved(misbehaved) = reason {
                    self.over.refusal = Some(Box::new(misbehaviour(&misbehaved)));
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
        if matches!(kind, Link::ToDevices) {
            return self.send_to_device(&delivery).await;
        }
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
        self.record_of(act, None, facts.unwrap_or_else(|| self.facts()), refusal);
    }

    fn record_of(&self, act: Act, identity: Option<&Identity>, facts: Facts, refusal: Option<Refusal>) {
        let identity = identity.map(ToString::to_string);
        self.front.hub.record(act, identity, self.visitor.origin.clone(), facts, refusal);
    }
}
