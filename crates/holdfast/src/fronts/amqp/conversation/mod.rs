//! One AMQP connection: the machine of `wire` on one side, the hub on the other. What its links are for stands in the
//! files of this module.

mod answers;
mod attach;
mod desk;
mod devices;
mod events;
mod inbox;
mod intake;
mod links;
mod methods;
mod reading;
mod to_devices;
mod to_services;
mod tokens;
mod transport;
mod twins;

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use hub::decision::{Act, Facts};
use hub::identity::Identity;
use hub::limits::TOKEN_TIMEOUT;
use hub::ports::bus::Ending;
use hub::refusal::Refusal;
use hub::service_grant::{ServiceGrant, ServicePlace};
use hub::telemetry::Sender;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::watch;
use wire::amqp::connection::{Connection, LinkId};
use wire::amqp::performative::{Error, condition};

use self::desk::Desk;
use self::devices::Devices;
use self::intake::Intake;
use self::links::Purpose;
use self::to_services::ToService;
use self::tokens::Held;
use super::live::Signals;
use super::reader::Reader;
use super::{ARGUMENT_ERROR, AmqpFront};
use crate::io::Stream;
use crate::listen::Visitor;
use crate::metrics::DoorMetrics;

/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

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
        readers: Vec::new(),
        services: Vec::new(),
        desk: Desk::default(),
        next_lapse: None,
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
    // What was asked for is done, though nobody hears of it: a message that was settled stays settled.
    while let Some(done) = poll_fn(|cx| conversation.desk.poll_done(&conversation.front.hub, cx)).await {
        conversation.on_done(done);
    }
}

struct Conversation<S> {
    stream: S,
    visitor: Box<Visitor>,
    front: Arc<AmqpFront>,
    door: Arc<DoorMetrics>,
    machine: Connection,
    signals: Arc<Signals>,
    /// What the tokens of policies that were put admit to, each within its scope.
    grants: Vec<ServiceGrant>,
    /// Devices and modules with a credential.
    devices: Devices,
    links: BTreeMap<LinkId, Link>,
    /// The links that read the built-in endpoint, which are polled; some may be gone.
    readers: Vec<LinkId>,
    /// The links by which messages go out to services, likewise.
    services: Vec<LinkId>,
    desk: Desk,
    /// When the first lock of a device-bound message lapses that a client has not settled.
    next_lapse: Option<Instant>,
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
    /// Events go out, of this place.
    Reader(Box<Reader>, Box<ServicePlace>),
    /// Device-bound messages of a service come in.
    ToDevices,
    /// Feedback or notices of files go out to a service.
    ToService(Box<ToService>),
    /// A link of a device or module, with the stamps of its messages.
    Device(Purpose, Arc<Sender>),
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
                Wake::Progress => self.on_time(),
                Wake::Ended => Box::pin(self.end_devices()).await,
                Wake::Expired => Box::pin(self.end_expired_devices()).await,
                Wake::PoliciesChanged => self.recheck().await,
                Wake::Over => return,
            }
        }
    }

    /// Whether the client may ask for more: nobody waits for an answer that is held back, and the disk keeps up.
    fn may_go_on(&self) -> bool {
        !self.is_held() && self.intake.has_room() && self.desk.has_room()
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
        self.poll_to_services(cx);
        self.poll_durable(cx);
        for identity in self.signals.take_mail() {
            self.send_mail(&identity);
        }
        while let Poll::Ready(Some(done)) = self.desk.poll_done(&self.front.hub, cx) {
            self.on_done(done);
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            self.over.reason = error.to_string().into();
            return Poll::Ready(Wake::Over);
        }
        if self.machine.is_closed() && self.machine.pending_output_len() == 0 {
            return Poll::Ready(Wake::Over);
        }
        // What happened while this was done, or waited for room: nothing else would wake for it.
        if self.may_go_on() && self.machine.has_event() {
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
        let next_to_service = self.next_to_service();
        let due = [
            self.machine.next_timeout(),
            token_deadline,
            self.next_answer(),
            self.next_lapse,
            next_to_service,
        ];
        due.into_iter().flatten().fold(deadline, Instant::min)
    }

    /// Does what is due: answers that waited, heartbeats, the end of tokens, and the end of a client that puts none.
    fn on_time(&mut self) {
        let now = Instant::now();
        self.give_answers(now);
        if self.machine.next_timeout().is_some_and(|due| due <= now) {
            self.machine.handle_timeout(now);
        }
        if !self.is_held() && self.token_deadline.is_some_and(|due| due <= now) {
            self.token_deadline = None;
            self.record(Act::Token, None, Some(Refusal::NoCredential));
            let text = "No token was put in time.";
            let _ = self.machine.close(Some(Error::new(condition::UNAUTHORIZED_ACCESS, text)), now);
        }
        self.lapse(now);
        let seconds = self.front.hub.now().as_second();
        let before = self.grants.len();
        self.grants.retain(|grant| grant.ends > seconds);
        if self.grants.len() < before {
            let refusal = Refusal::TokenEnded { ended: None };
            self.end_services_without_right("The token has expired.", &refusal);
            self.expect_token();
        }
    }

    /// Gives a client without any credential time to bring one.
    fn expect_token(&mut self) {
        if self.grants.is_empty() && self.devices.is_empty() && self.visitor.chain.is_none() {
            self.token_deadline = Some(Instant::now() + TOKEN_TIMEOUT);
        }
    }

    /// Ends the connection of a client that is to come back as soon as it can. Readers are told, and come back after this
    /// condition. Nobody else is: a device of azure-iot-device-amqp answers whatever it is told with an orderly end of all
    /// its links, and waits 45 s for a hub that is gone. It comes back at once when its connection just ends.
    fn drain(&mut self) {
        self.over.reason = Ending::Draining.as_str().into();
        for id in std::mem::take(&mut self.readers) {
            if self.links.remove(&id).is_some() {
                let _ = self.machine.detach(id, Some(Error::new(condition::DETACH_FORCED, "The hub stops.")));
            }
        }
    }

    /// Gives up what the connection holds, and records its end.
    fn finish(&mut self) {
        let Over { reason, refusal } = std::mem::take(&mut self.over);
        let anybody = self.end_all_devices(&reason, refusal.as_deref());
        if let Some(refusal) = refusal.filter(|_| !anybody) {
            self.record(Act::Disconnect { reason: reason.into_owned(), ending: None }, None, Some(*refusal));
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
