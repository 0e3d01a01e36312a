//! One AMQP connection: the machine of `wire` on one side, the hub on the other.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use hub::authenticate::ServiceGrant;
use hub::backoff::Pace;
use hub::decision::{Act, Facts, cut};
use hub::hub::NotAdmitted;
use hub::ports::event_log::{ReadError, StartPosition};
use hub::readers::{Displace, NoSeat};
use hub::refusal::Refusal;
use tokio::io::{AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use wire::amqp::codec::{Fields, Symbol, Value};
use wire::amqp::connection::{
    AttachAnswer, CloseReason, Connection, CreditPolicy, Event, LinkId, OpenOptions, PeerMisbehaved,
    SendError, SendOptions, SessionId,
};
use wire::amqp::message::{Message, MessageWriter};
use wire::amqp::performative::{Attach, DeliveryState, Error, Role, SndSettleMode, condition};
use wire::amqp::sasl::{SaslBytes, SaslCode, SaslInit};

use super::address::Address;
use super::reader::{Progress, Reader};
use super::{AmqpFront, cbs, filter, management};
use crate::io::Stream;
use crate::listen::{Visitor, spoken};

/// Bytes read at once; they live on the stack.
const READ_BYTES: usize = 16 * 1024;
/// A connection that has put no token by then is closed (`spec/amqp.md` §3).
const TOKEN_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// Credit on links that requests come in by.
const REQUEST_CREDIT: u32 = 100;
/// Answers that may wait for credit.
const ANSWERS_MAX: usize = 256;

const ARGUMENT_ERROR: Symbol = Symbol::from_static("com.microsoft:argument-error");
const ARGUMENT_OUT_OF_RANGE: Symbol = Symbol::from_static("com.microsoft:argument-out-of-range");
const STOLEN: Symbol = Symbol::from_static("amqp:link:stolen");
const REDIRECT: Symbol = Symbol::from_static("amqp:link:redirect");
const DETACH_FORCED: Symbol = Symbol::from_static("amqp:link:detach-forced");
const EPOCH: &str = "com.microsoft:epoch";
const RECEIVER_NAME: &str = "com.microsoft:receiver-name";
const RUNTIME_METRIC: &str = "com.microsoft:enable-receiver-runtime-metric";

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

/// An answer that waits.
struct Held {
    until: Instant,
    pace: Pace,
    answer: Outcome,
}

/// What a client whose token was refused is told.
enum Outcome {
    Sasl,
    Cbs(SessionId, BytesMut),
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

    fn poll_readers(&mut self, cx: &mut Context<'_>) {
        let now = self.front.hub.now().as_millisecond();
        let mut failed = Vec::new();
        for (id, link) in &mut self.links {
            let Link::Reader(reader) = link else { continue };
            match reader.poll(&mut self.machine, now, cx) {
                Progress::Sent | Progress::Waiting => {}
                Progress::Failed(error) => failed.push((*id, error)),
            }
        }
        for (id, error) in failed {
            tracing::error!(%error, "a reader could not go on");
            self.detach(id, Error::new(condition::INTERNAL_ERROR, "The event stream could not be read."));
        }
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

    /// Records that a token was refused, and tells the client in due time.
    fn refuse(&mut self, name: Option<&str>, mut facts: Facts, refusal: Refusal, answer: Outcome) {
        let now = Instant::now();
        let pace = self.front.hub.backoff.refused(self.visitor.origin.address, name, now);
        facts.slowed.clone_from(&pace.slowed);
        self.record(Act::Token, Some(facts), Some(refusal));
        match pace.slowed {
            None => self.tell(answer),
            Some(_) => self.held = Some(Held { until: now + pace.wait, pace, answer }),
        }
    }

    fn tell(&mut self, answer: Outcome) {
        match answer {
            Outcome::Sasl => {
                let _ = self.machine.sasl_outcome(SaslCode::Auth, None, Instant::now());
            }
            Outcome::Cbs(session, answer) => {
                self.answer(session, |link| matches!(link, Link::CbsAnswers(_)), answer);
            }
        }
    }

    /// Decides all grants again after a change of policies.
    async fn recheck(&mut self) {
        let hub = self.front.hub.clone();
        let (mut kept, mut because) = (Vec::new(), None);
        for grant in std::mem::take(&mut self.grants) {
            match hub.service_still_holds(&grant).await {
                Err(NotAdmitted::Refused(refusal)) => because = Some(refusal.cause().to_owned()),
                Ok(()) | Err(NotAdmitted::Unavailable(_)) => kept.push(grant),
            }
        }
        self.grants = kept;
        self.end_readers_without_right(
            "The policy was changed.",
            Refusal::RightEnded { because, change: None },
        );
    }

    fn end_readers_without_right(&mut self, text: &str, refusal: Refusal) {
        if self.may_read().is_ok() {
            return;
        }
        let readers: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, link)| matches!(link, Link::Reader(_)))
            .map(|(id, _)| *id)
            .collect();
        if !readers.is_empty() {
            self.record(Act::Disconnect { reason: text.to_owned() }, None, Some(refusal));
        }
        for id in readers {
            self.detach(id, Error::new(condition::UNAUTHORIZED_ACCESS, text));
        }
    }

    fn detach_displaced(&mut self) {
        let displaced =
            std::mem::take(&mut *self.signals.displaced.lock().unwrap_or_else(PoisonError::into_inner));
        for (id, text) in displaced {
            let refusal = Refusal::ReaderDisplaced { problem: cut(&text) };
            self.record(Act::Disconnect { reason: "displaced".to_owned() }, None, Some(refusal));
            self.detach(id, Error::new(STOLEN, text));
        }
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

    /// Whether a grant to read is there.
    fn may_read(&self) -> Result<(), Refusal> {
        match self.grants.first() {
            Some(grant) => grant.may(hub::access::Operation::ReadEvents),
            None => Err(Refusal::NoCredential),
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

    async fn on_sasl(&mut self, init: SaslInit) {
        let now = Instant::now();
        let welcome = || Some(SaslBytes(b"Welcome!".to_vec()));
        if init.mechanism != "PLAIN" {
            // Nothing is proved yet; only `$cbs` may be used until a token is put.
            let _ = self.machine.sasl_outcome(SaslCode::Ok, welcome(), now);
            return;
        }
        let response = init.initial_response.map(|bytes| bytes.0).unwrap_or_default();
        let mut parts = response.split(|byte| *byte == 0).skip(1).map(|part| std::str::from_utf8(part).ok());
        let (Some(Some(name)), Some(Some(password))) = (parts.next(), parts.next()) else {
            let problem = "the response of SASL PLAIN has no name and password".to_owned();
            let refusal = Refusal::Protocol { problem };
            return self.refuse(None, self.facts(), refusal, Outcome::Sasl);
        };
        let policy = name.split_once("@sas.root.").map_or(name, |(policy, _)| policy);
        let mut facts = self.facts();
        let hub = self.front.hub.clone();
        let admitted = match password.starts_with("SharedAccessSignature") {
            true => hub.admit_reader(password, &mut facts).await,
            false => hub.admit_reader_by_key(policy, password, &mut facts).await,
        };
        match admitted {
            Ok(grant) => {
                self.record(Act::Token, Some(facts), None);
                self.take_grant(grant);
                let _ = self.machine.sasl_outcome(SaslCode::Ok, welcome(), now);
            }
            Err(NotAdmitted::Refused(refusal)) => {
                let name = format!("policy {policy}");
                self.refuse(Some(&name), facts, refusal, Outcome::Sasl);
            }
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, "could not decide on a connection");
                let _ = self.machine.sasl_outcome(SaslCode::SysTemp, None, now);
            }
        }
    }

    fn take_grant(&mut self, grant: ServiceGrant) {
        self.grants.retain(|held| held.policy != grant.policy);
        self.grants.push(grant);
        self.token_deadline = None;
    }

    async fn on_attach(&mut self, link: LinkId, attach: Attach) {
        let text = match attach.role {
            Role::Receiver => attach.source.as_ref().and_then(|source| source.address.as_deref()),
            Role::Sender => attach.target.as_ref().and_then(|target| target.address.as_deref()),
        };
        let text = text.unwrap_or_default().to_owned();
        let entity = self.front.hub.settings.event_hub_name.clone();
        let accepted = match (Address::parse(&text, &entity), attach.role) {
            (Address::Cbs, Role::Sender) => Ok((Link::CbsRequests, requests())),
            (Address::Cbs, Role::Receiver) => {
                Ok((Link::CbsAnswers(VecDeque::new()), AttachAnswer::default()))
            }
            (Address::Management, role) => self.may_read().map_err(refused).map(|()| match role {
                Role::Sender => (Link::ManagementRequests, requests()),
                Role::Receiver => (Link::ManagementAnswers(VecDeque::new()), AttachAnswer::default()),
            }),
            (Address::Partition { group, partition }, Role::Receiver) => {
                self.open_reader(link, &attach, &group, &partition).await
            }
            (Address::Partition { .. } | Address::EventHub, _) => Err(Declined::because(
                Error::new(
                    condition::UNAUTHORIZED_ACCESS,
                    "Unauthorized access. 'Send' claim(s) are required.",
                ),
                Refusal::SendToEvents { address: cut(&text) },
            )),
            (Address::Redirect(rest), _) => self
                .may_read()
                .map_err(refused)
                .and_then(|()| Err(Declined { error: self.redirect(&rest), refusal: None })),
            (Address::OtherEntity(name), _) => Err(Declined::because(
                not_found(&format!("eventhub:{name}")),
                Refusal::UnknownEventHub { presented: cut(&name), name: entity },
            )),
            (Address::Unknown, _) => {
                let text = "The link address did not match any of the expected formats.";
                Err(Error::new(condition::NOT_ALLOWED, text).into())
            }
        };
        match accepted {
            Ok((kind, answer)) => {
                if self.machine.accept_attach(link, answer).is_ok() {
                    self.links.insert(link, kind);
                }
            }
            Err(Declined { error, refusal }) => {
                if error.condition != REDIRECT {
                    let problem = error.description.clone().unwrap_or_else(|| error.condition.to_string());
                    let refusal = refusal.map_or_else(
                        || Refusal::LinkAddress { address: cut(&text), problem },
                        |refusal| *refusal,
                    );
                    self.record(Act::Link { address: cut(&text) }, None, Some(refusal));
                }
                let _ = self.machine.refuse_attach(link, error);
            }
        }
    }

    /// Opens a reader. Its position is fixed before the attach is answered: clients send as soon as they see the link
    /// open.
    async fn open_reader(
        &mut self,
        link: LinkId,
        attach: &Attach,
        group: &str,
        partition: &str,
    ) -> Result<(Link, AttachAnswer), Declined> {
        self.may_read().map_err(refused)?;
        let hub = self.front.hub.clone();
        let entity = &hub.settings.event_hub_name;
        match hub.has_consumer_group(group).await {
            Ok(true) => {}
            Ok(false) => {
                let error = not_found(&format!("eventhub:{entity}~{partition}|{group}"));
                let refusal = Refusal::UnknownConsumerGroup { group: cut(group), groups: Vec::new() };
                return Err(Declined::because(error, refusal));
            }
            Err(error) => return Err(Error::new(condition::INTERNAL_ERROR, error.to_string()).into()),
        }
        let count = hub.partition_count();
        let number = partition.parse::<u16>().ok().filter(|number| *number < count).ok_or_else(|| {
            let text = format!("The specified partition is invalid for an EventHub partition sender or receiver. It should be between 0 and {}.", count - 1);
            let refusal = Refusal::UnknownPartition { partition: cut(partition), count };
            Declined::because(Error::new(ARGUMENT_OUT_OF_RANGE, text), refusal)
        })?;
        let nothing = Fields::new();
        let filters = attach.source.as_ref().map_or(&nothing, |source| &source.filter);
        let start = filter::start_position(filters).map_err(|text| Error::new(ARGUMENT_ERROR, text))?;
        let next = self.find(number, start).await?;
        let epoch = attach.properties.get(EPOCH).and_then(Value::as_i64);
        let name = attach
            .properties
            .text(RECEIVER_NAME)
            .or(attach.target.as_ref().and_then(|t| t.address.as_deref()));
        let signals = self.signals.clone();
        let displace: Displace = Arc::new(move |text| {
            signals.displaced.lock().unwrap_or_else(PoisonError::into_inner).push((link, text));
            signals.waker.wake();
        });
        let seat = hub.readers.seat(group, number, name, epoch, displace).map_err(|error| match error {
            NoSeat::Outranked(text) => {
                let refusal = Refusal::ReaderOutranked { problem: cut(&text) };
                Declined::because(Error::new(STOLEN, text), refusal)
            }
            NoSeat::Full(text) => {
                let refusal = Refusal::ReadersFull { problem: cut(&text) };
                Declined::because(Error::new(condition::RESOURCE_LIMIT_EXCEEDED, text), refusal)
            }
        })?;
        let metric = attach.desired_capabilities.iter().any(|capability| *capability == RUNTIME_METRIC);
        let reader = Reader::new(link, hub.log.clone(), number, next, metric, seat);
        let answer = AttachAnswer {
            snd_settle_mode: Some(SndSettleMode::Settled),
            offered_capabilities: if metric { vec![Symbol::from_static(RUNTIME_METRIC)] } else { Vec::new() },
            ..AttachAnswer::default()
        };
        Ok((Link::Reader(Box::new(reader)), answer))
    }

    async fn find(&mut self, partition: u16, start: StartPosition) -> Result<u64, Error> {
        let log = self.front.hub.log.clone();
        log.find(partition, start).await.map_err(|error| match error {
            ReadError::OffsetBeyondEnd { .. } => Error::new(ARGUMENT_ERROR, capitalised(&error.to_string())),
            ReadError::NoPartition(_) => Error::new(ARGUMENT_OUT_OF_RANGE, error.to_string()),
            ReadError::Failed(_) => {
                tracing::error!(%error, "a reader's start was not found");
                Error::new(condition::INTERNAL_ERROR, "The event stream could not be read.")
            }
        })
    }

    fn redirect(&self, rest: &str) -> Error {
        let settings = &self.front.hub.settings;
        let host = settings.hosts.first().map_or("", String::as_str);
        let mut error = Error::new(REDIRECT, "The built-in endpoint is an event hub of its own.");
        error.info.push(Symbol::from_static("hostname"), host);
        error.info.push(Symbol::from_static("network-host"), host);
        error.info.push(Symbol::from_static("port"), Value::Uint(5671));
        let address = format!("amqps://{host}:5671/{}/{rest}", settings.event_hub_name);
        error.info.push(Symbol::from_static("address"), address);
        let tracking = uuid::Uuid::new_v4().to_string();
        error.info.push(Symbol::from_static("com.microsoft:tracking-id"), tracking);
        error
    }

    async fn on_delivery(&mut self, delivery: wire::amqp::connection::Delivery) {
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
            let mut facts = self.facts();
            let hub = self.front.hub.clone();
            let verdict = cbs::decide(&hub, &request, &mut facts).await;
            let mut answer = BytesMut::new();
            cbs::answer(&mut MessageWriter::new(&mut answer), &request, verdict.status, &verdict.description);
            let answer = Outcome::Cbs(session, answer);
            if let Some(refusal) = verdict.refusal {
                let policy = facts.token.as_ref().and_then(|token| token.skn.as_deref());
                let name = policy.map(|policy| format!("policy {policy}"));
                return self.refuse(name.as_deref(), facts, refusal, answer);
            }
            if let Some(grant) = verdict.grant {
                self.record(Act::Token, Some(facts), None);
                self.take_grant(grant);
            }
            self.tell(answer);
        } else if is_management {
            let created = self.created().await;
            let mut answer = BytesMut::new();
            let refusal =
                management::answer(&self.front.hub, created, &request, &mut MessageWriter::new(&mut answer));
            if let Some(refusal) = refusal {
                self.record(Act::Link { address: "$management".to_owned() }, None, Some(refusal));
            }
            self.answer(session, |link| matches!(link, Link::ManagementAnswers(_)), answer);
        }
    }

    /// Queues an answer on the link of a session by which answers go out, and sends what there is credit for.
    fn answer(&mut self, session: SessionId, wanted: impl Fn(&Link) -> bool, answer: BytesMut) {
        let link = self.links.iter_mut().find(|(id, link)| id.session() == session && wanted(link));
        let Some((id, Link::CbsAnswers(answers) | Link::ManagementAnswers(answers))) = link else { return };
        if answers.len() >= ANSWERS_MAX {
            tracing::debug!("a client asks without taking the answers");
            return;
        }
        answers.push_back(answer);
        let id = *id;
        self.send_answers(id);
    }

    fn send_answers(&mut self, id: LinkId) {
        let Some(Link::CbsAnswers(answers) | Link::ManagementAnswers(answers)) = self.links.get_mut(&id)
        else {
            return;
        };
        while let Some(answer) = answers.front() {
            match self.machine.send(id, SendOptions::default(), |w| w.encoded(answer)) {
                // `Event::Sendable` follows.
                Err(SendError::Blocked(_)) => return,
                Ok(_) | Err(SendError::MessageTooLarge { .. } | SendError::Command(_)) => answers.pop_front(),
            };
        }
    }

    /// When the hub was made: with its first policy.
    async fn created(&mut self) -> i64 {
        let policies = self.front.hub.policies().await.unwrap_or_default();
        policies.iter().map(|view| view.policy.created.as_millisecond()).min().unwrap_or_default()
    }

    fn facts(&self) -> Facts {
        Facts { sdk: self.client.sdk.clone(), ..self.visitor.facts.clone() }
    }

    fn record(&self, act: Act, facts: Option<Facts>, refusal: Option<Refusal>) {
        let facts = facts.unwrap_or_else(|| self.facts());
        self.front.hub.record(act, None, self.visitor.origin.clone(), facts, refusal);
    }
}

fn requests() -> AttachAnswer {
    AttachAnswer { credit: CreditPolicy::TopUp(REQUEST_CREDIT), ..AttachAnswer::default() }
}

/// Why a link is not opened: what the client is told, and the cause where it is a known one.
struct Declined {
    error: Error,
    refusal: Option<Box<Refusal>>,
}

impl Declined {
    fn because(error: Error, refusal: Refusal) -> Self {
        Self { error, refusal: Some(Box::new(refusal)) }
    }
}

impl From<Error> for Declined {
    fn from(error: Error) -> Self {
        Self { error, refusal: None }
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

fn refused(refusal: Refusal) -> Declined {
    let text = match refusal {
        Refusal::NoCredential => "Unauthorized access. No token was put for this resource.",
        _ => "Unauthorized access. 'Listen' claim(s) are required to perform this operation.",
    };
    Declined::because(Error::new(condition::UNAUTHORIZED_ACCESS, text), refusal)
}

fn not_found(entity: &str) -> Error {
    Error::new(condition::NOT_FOUND, format!("The messaging entity '{entity}' could not be found."))
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
