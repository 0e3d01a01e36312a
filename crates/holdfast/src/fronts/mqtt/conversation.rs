//! One MQTT connection from CONNECT to its end: the machine of `wire` on one side, the hub on the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytestring::ByteString;
use hub::authenticate::Grant;
use hub::backoff::Pace;
use hub::decision::{Act, cut};
use hub::error::{HubError, HubErrorCode};
use hub::hub::{Credential, Hub, NotAdmitted, NotTaken};
use hub::inbox::{Receiver, Settlement};
use hub::method::{MethodAnswer, MethodError};
use hub::ports::bus::{Ending, Epoch, Holder as _};
use hub::ports::event_log::{AppendError, Ticket};
use hub::record::{Session, Subscription};
use hub::refusal::Refusal;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message, PropertyValue, Sender};
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Sleep;
use wire::mqtt::{
    Connect, ConnectAckReason, Event, LastWill, Limits, PacketError, PacketId, Publish, QoS, Server,
    SubscribeReturnCode, Violation,
};

use super::address::{Request, TwinRequest, UserName, client_id, events_bag, may_subscribe};
use super::inbox::Unsettled;
use super::live::Live;
use super::{inbox, properties, requests};
use crate::drain::Drain;
use crate::fronts::mailbox::{Outgoing, Wanted};
use crate::fronts::twin::Outcome;
use crate::io::Stream;
use crate::listen::{Visitor, spoken};
use crate::metrics::{Connected, DoorMetrics, Metrics};

const LIMITS: Limits = Limits {
    // A message of the largest size, its topic, and the headers of both.
    packet_bytes_max: MESSAGE_BYTES_MAX as u32 + 65_535 + 64,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(1_767),
};
/// Messages that may wait for the disk before the socket is read again.
const UNACKNOWLEDGED_MAX: usize = 256;
/// Bytes read at once; they live on the stack, so that no waiting connection holds a buffer.
const READ_BYTES: usize = 16 * 1024;
/// Output that is worth a write, in bytes.
const OUTPUT_BYTES: usize = 16 * 1024;
/// How long the last bytes to a client may take.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);

/// Serves one connection to its end.
pub(crate) async fn serve<S: Stream>(
    stream: S,
    visitor: Box<Visitor>,
    hub: Arc<Hub>,
    metrics: &Metrics,
    drain: &Drain,
) {
    let mut conversation = Conversation {
        stream,
        door: metrics.door(visitor.origin.door),
        waiting_since: None,
        visitor,
        hub,
        machine: Server::new(LIMITS, Instant::now()),
        unacknowledged: VecDeque::new(),
        stalled: None,
        unflushed: false,
        online: None,
    };
    let mut sleep = Box::pin(tokio::time::sleep_until(conversation.machine.next_timeout().into()));
    let end = conversation.run(sleep.as_mut()).await;
    drop(sleep);
    Box::pin(conversation.finish(end, drain)).await;
}

struct Conversation<S> {
    stream: S,
    visitor: Box<Visitor>,
    hub: Arc<Hub>,
    door: Arc<DoorMetrics>,
    /// Since when the oldest unacknowledged message that is timed waits.
    waiting_since: Option<Instant>,
    machine: Server,
    /// What is not acknowledged yet, in the order it came [MQTT-4.6.0-2]: what it waits for on the disk, if for
    /// anything, and its identifier, which is `None` for QoS 0.
    unacknowledged: VecDeque<(Option<Ticket>, Option<PacketId>)>,
    /// A message that the journal had no room for.
    stalled: Option<Box<(Message, Option<PacketId>)>>,
    unflushed: bool,
    online: Option<Box<Online>>,
}

/// What there is once the client is admitted.
struct Online {
    live: Arc<Live>,
    _connected: Connected,
    epoch: Epoch,
    /// When the token ends.
    ends: Option<Instant>,
    session: Session,
    keeps_session: bool,
    will: Option<LastWill>,
    /// The highest version of the desired properties that the client was sent, if it was sent any.
    desired_seen: u64,
    /// Device-bound messages that the client has not acknowledged; `None` before the first one.
    unsettled: Option<Box<Unsettled>>,
}

impl Online {
    /// Lets the hub know what the client is to be sent.
    fn follow_subscriptions(&self, hub: &Hub) {
        let calls = requests::wants_calls(&self.session);
        let messages = inbox::granted(&self.session, self.live.grant().identity()).is_some();
        let mailbox = &self.live.mailbox;
        mailbox.set_wanted(Wanted::Calls, calls);
        mailbox.set_wanted(Wanted::Desired, requests::wants_desired(&self.session));
        mailbox.set_wanted(Wanted::Messages, messages);
        if calls {
            hub.bus.takes_calls(self.live.grant().identity());
        }
    }
}

/// Why a connection is over.
enum End {
    /// The client said good-bye.
    Disconnected,
    /// The socket is gone.
    Lost(String),
    /// The client was not admitted; the answer is in the output, if it gets one.
    NotAdmitted(Box<Pace>),
    /// The client did what it may not.
    Refused(Refusal),
    /// The hub ends it.
    Ended(Ending),
    /// The hub cannot go on with it.
    Failed(String),
}

/// Why the conversation goes on.
enum Wake {
    /// Bytes came, or acknowledgements went out, or there is room again.
    Progress,
    /// A device-bound message may wait.
    Inbox,
    /// A deadline has come.
    Timeout,
    /// It is over.
    Over(End),
}

impl<S: Stream> Conversation<S> {
    async fn run(&mut self, mut sleep: Pin<&mut Sleep>) -> End {
        loop {
            while self.stalled.is_none() && self.unacknowledged.len() < UNACKNOWLEDGED_MAX {
                match self.machine.poll_event() {
                    Ok(Some(event)) => {
                        if let Err(end) = self.on_event(event).await {
                            return end;
                        }
                    }
                    Ok(None) => break,
                    Err(violation) => return End::Refused(refusal_of(&violation, self.machine.first_byte())),
                }
            }
            match poll_fn(|cx| self.poll(sleep.as_mut(), cx)).await {
                Wake::Progress => {}
                Wake::Inbox => {
                    if let Err(end) = Box::pin(self.deliver()).await {
                        return end;
                    }
                }
                Wake::Timeout => {
                    let now = Instant::now();
                    if self.online.as_ref().and_then(|online| online.ends).is_some_and(|ends| ends <= now) {
                        return End::Ended(Ending::TokenEnded);
                    }
                    if let Some(online) = &mut self.online
                        && online.unsettled.as_mut().is_some_and(|unsettled| unsettled.lapse(now))
                    {
                        online.live.mailbox.inbox_changed();
                    }
                    if let Err(violation) = self.machine.handle_timeout(now) {
                        return End::Refused(refusal_of(&violation, self.machine.first_byte()));
                    }
                }
                Wake::Over(end) => return end,
            }
        }
    }

    /// Acknowledges what became durable, writes, reads, and watches the deadlines, in this order.
    fn poll(&mut self, mut sleep: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Some(ending) = self.online.as_ref().and_then(|online| online.live.poll_ending(cx)) {
            return Poll::Ready(Wake::Over(End::Ended(ending)));
        }
        let was_full = self.unacknowledged.len() >= UNACKNOWLEDGED_MAX;
        while let Some((ticket, packet_id)) = self.unacknowledged.front().copied() {
            let durable = ticket.map_or(Poll::Ready(Ok(())), |ticket| self.hub.log.poll_durable(ticket, cx));
            match durable {
                Poll::Ready(Ok(())) => {
                    self.unacknowledged.pop_front();
                    if let Some(since) = self.waiting_since.take_if(|_| ticket.is_some()) {
                        self.door.acknowledged.observe(since.elapsed());
                    }
                    if let Some(packet_id) = packet_id {
                        self.machine.puback(packet_id);
                    }
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Wake::Over(End::Failed(error.to_string()))),
                Poll::Pending => break,
            }
        }
        if self.stalled.is_some() && self.hub.log.poll_space(cx).is_ready() {
            return Poll::Ready(match self.take_stalled() {
                Ok(()) => Wake::Progress,
                Err(end) => Wake::Over(end),
            });
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Wake::Over(End::Lost(error.to_string())));
        }
        if self.machine.output().is_empty()
            && self.online.as_ref().is_some_and(|online| online.live.mailbox.has_outgoing())
        {
            self.send_outgoing();
            return Poll::Ready(Wake::Progress);
        }
        if self.machine.output().is_empty()
            && let Some(online) = &self.online
            && online.live.mailbox.may_have_message()
            && !online.unsettled.as_ref().is_some_and(|unsettled| unsettled.is_full())
        {
            return Poll::Ready(Wake::Inbox);
        }
        if was_full && self.unacknowledged.len() < UNACKNOWLEDGED_MAX {
            // Packets that came already wait in the machine: nothing else would wake for them.
            return Poll::Ready(Wake::Progress);
        }
        // A client that does not read its acknowledgements, or whose messages wait for the disk, is not read.
        let may_read = self.machine.output().is_empty()
            && self.stalled.is_none()
            && self.unacknowledged.len() < UNACKNOWLEDGED_MAX;
        if may_read && let Poll::Ready(wake) = self.poll_read(cx) {
            return Poll::Ready(wake);
        }
        let deadline = self.next_deadline();
        // The timer is set anew only when it fires too early or is due too late, not with every packet.
        while sleep.as_mut().poll(cx).is_ready() || sleep.deadline() > deadline.into() {
            if deadline <= Instant::now() {
                return Poll::Ready(Wake::Timeout);
            }
            sleep.as_mut().reset(deadline.into());
        }
        Poll::Pending
    }

    /// When the client was silent for too long, its token ends, or a message that it does not acknowledge goes back.
    fn next_deadline(&self) -> Instant {
        let online = self.online.as_ref();
        let ends = online.and_then(|online| online.ends);
        let lapse = online.and_then(|online| online.unsettled.as_ref()?.next_lapse());
        [ends, lapse].into_iter().flatten().fold(self.machine.next_timeout(), Instant::min)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        while !self.machine.output().is_empty() {
            let written = match Pin::new(&mut self.stream).poll_write(cx, self.machine.output()) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                Poll::Ready(written) => written?,
                Poll::Pending => return Poll::Pending,
            };
            let output = self.machine.output();
            match written == output.len() {
                true => *output = bytes::BytesMut::new(),
                false => bytes::Buf::advance(output, written),
            }
            self.unflushed = true;
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
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                Poll::Ready(Wake::Over(End::Lost("the client closed the connection".to_owned())))
            }
            Poll::Ready(Ok(())) => {
                self.machine.handle_bytes(buffer.filled(), Instant::now());
                Poll::Ready(Wake::Progress)
            }
            Poll::Ready(Err(error)) => Poll::Ready(Wake::Over(End::Lost(error.to_string()))),
            Poll::Pending => Poll::Pending,
        }
    }

    async fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Publish(publish) => {
                if let Some(bag) = events_bag(&publish.topic, self.identity()?) {
                    let message = self.message(bag, publish.payload, publish.retain)?;
                    return self.take(message, publish.packet_id);
                }
                Box::pin(self.on_request(&publish)).await?;
                self.unacknowledged.push_back((None, publish.packet_id));
                Ok(())
            }
            Event::Connect(connect) => Box::pin(self.on_connect(connect)).await,
            Event::Subscribe(packet_id, filters) => Box::pin(self.on_subscribe(packet_id, filters)).await,
            Event::Unsubscribe(packet_id, filters) => Box::pin(self.on_unsubscribe(packet_id, filters)).await,
            Event::PubAck(packet_id) => Box::pin(self.on_acknowledged(packet_id)).await,
            Event::Disconnect => Err(End::Disconnected),
        }
    }

    /// A message of this connection, as the hub takes it.
    fn message(&self, bag: &str, body: bytes::Bytes, retain: bool) -> Result<Message, End> {
        let (system, mut application) = properties::parse(bag);
        if retain {
            application.push(("mqtt-retain".into(), PropertyValue::Text("true".into())));
        }
        let sender = match &self.online {
            Some(online) => online.live.grant().sender.clone(),
            None => return Err(End::Failed("a message came before the connection was admitted".to_owned())),
        };
        Ok(Message { enqueued: self.hub.now().as_millisecond(), sender, system, application, body })
    }

    fn take(&mut self, message: Message, packet_id: Option<PacketId>) -> Result<(), End> {
        match self.hub.take(std::slice::from_ref(&message)) {
            Ok(ticket) => {
                self.door.accepted(1, message.metered_bytes() as u64);
                self.waiting_since.get_or_insert_with(Instant::now);
                self.unacknowledged.push_back((Some(ticket), packet_id));
            }
            Err(NotTaken::Log(AppendError::Full { .. })) => {
                self.door.full();
                self.stalled = Some(Box::new((message, packet_id)))
            }
            Err(NotTaken::TooLarge { size }) => {
                self.door.too_large();
                return Err(End::Refused(Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX }));
            }
            Err(error) => return Err(End::Failed(error.to_string())),
        }
        Ok(())
    }

    /// Does what is asked about the twin, durably, and hands on what is answered to a call.
    async fn on_request(&mut self, publish: &Publish) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let size = publish.payload.len();
        if size > MESSAGE_BYTES_MAX {
            return Err(End::Refused(Refusal::MessageTooLarge { size, limit: MESSAGE_BYTES_MAX }));
        }
        let request = match Request::parse(&publish.topic) {
            Some(Request::Twin(request)) => request,
            Some(Request::MethodAnswer { status, request_id }) => {
                // Python escapes it.
                let request_id = percent_decode_str(request_id).decode_utf8_lossy();
                let payload = publish.payload.clone();
                online
                    .live
                    .mailbox
                    .answer(|call| call.to_string() == request_id, || MethodAnswer::judge(status, payload));
                return Ok(());
            }
            None => return Err(End::Refused(Refusal::Topic { topic: cut(&publish.topic) })),
        };
        let sender = online.live.grant().sender.clone();
        let outcome = requests::twin_request(&self.hub, &sender, request, &publish.payload).await;
        match request {
            TwinRequest::Get { .. } => self.door.twin_read(outcome.is_ok()),
            TwinRequest::Report { .. } => self.door.twin_update(outcome.is_ok()),
        }
        // Who asks and does not listen gets no answer.
        let listens = requests::wants_twin_answers(&online.session);
        let Some(request_id) = request.request_id().filter(|_| listens) else { return Ok(()) };
        if let Ok(Outcome::Read(twin)) = &outcome {
            online.desired_seen = twin.desired.version;
        }
        let answer = requests::twin_answer(&outcome, request_id, self.hub.now());
        self.machine.publish(&answer.topic, answer.body, QoS::AtMostOnce);
        Ok(())
    }

    /// Sends what the hub has for the client of its own accord, until the output is worth writing.
    fn send_outgoing(&mut self) {
        let Some(online) = self.online.as_mut() else { return };
        while self.machine.output().len() < OUTPUT_BYTES {
            match online.live.mailbox.next_outgoing() {
                // What the client has read already would only take it back.
                Some(Outgoing::Desired(change)) if change.version > online.desired_seen => {
                    online.desired_seen = change.version;
                    let topic = requests::desired_topic(change.version);
                    self.machine.publish(&topic, change.body.clone(), QoS::AtMostOnce);
                }
                Some(Outgoing::Desired(_)) => {}
                Some(Outgoing::Call { id, name, payload }) => {
                    let topic = requests::call_topic(&name, id);
                    match requests::wants(&online.session, &topic) {
                        true => drop(self.machine.publish(&topic, payload, QoS::AtMostOnce)),
                        // It subscribed to other methods only.
                        false => {
                            online.live.mailbox.answer(|call| call == id, || Err(MethodError::NotOnline));
                        }
                    }
                }
                None => return,
            }
        }
    }

    /// Sends device-bound messages while there are any and the client acknowledges what it has.
    async fn deliver(&mut self) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let sender = online.live.grant().sender.clone();
        let (identity, generation) = (&sender.identity, sender.generation.as_str());
        let failed = |error: HubError| End::Failed(format!("the inbox could not be read: {error}"));
        let Some(qos) = inbox::granted(&online.session, identity) else {
            online.live.mailbox.looks_into_inbox();
            return Ok(());
        };
        if online.unsettled.is_none() {
            // What an earlier connection had and never acknowledged, perhaps before a crash of the hub.
            self.hub.release_inbox(identity, generation).await.map_err(failed)?;
        }
        let unsettled = online.unsettled.get_or_insert_default();
        online.live.mailbox.looks_into_inbox();
        while !unsettled.is_full() {
            let delivery = self.hub.take_from_inbox(identity, generation, Receiver::Connection).await;
            let Some(delivery) = delivery.map_err(failed)? else { return Ok(()) };
            let topic = inbox::topic(identity, &delivery.content);
            match self.machine.publish(&topic, delivery.content.body, qos) {
                Some(packet_id) => unsettled.push(packet_id, delivery.token, Instant::now()),
                // Nobody acknowledges QoS 0: what is sent is done with.
                None => {
                    let settled =
                        self.hub.settle(identity, generation, delivery.token, Settlement::Complete).await;
                    settled.map_err(failed)?;
                }
            }
        }
        // There may be more than the client may have at a time.
        online.live.mailbox.inbox_changed();
        Ok(())
    }

    /// A PUBACK completes a device-bound message.
    async fn on_acknowledged(&mut self, packet_id: PacketId) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let Some(token) = online.unsettled.as_mut().and_then(|unsettled| unsettled.acknowledged(packet_id))
        else {
            return Ok(());
        };
        let sender = online.live.grant().sender.clone();
        let settled =
            self.hub.settle(&sender.identity, &sender.generation, token, Settlement::Complete).await;
        match settled {
            Ok(()) => Ok(()),
            // It came too late, and the message is sent again.
            Err(error) if error.code == HubErrorCode::DeviceMessageLockLost => Ok(()),
            Err(error) => Err(End::Failed(format!("a message could not be completed: {error}"))),
        }
    }

    fn take_stalled(&mut self) -> Result<(), End> {
        match self.stalled.take() {
            Some(stalled) => self.take(stalled.0, stalled.1),
            None => Ok(()),
        }
    }

    fn identity(&self) -> Result<&hub::identity::Identity, End> {
        match &self.online {
            Some(online) => Ok(online.live.grant().identity()),
            None => Err(End::Failed("a packet came before the connection was admitted".to_owned())),
        }
    }

    async fn on_connect(&mut self, connect: Box<Connect>) -> Result<(), End> {
        let mut claimed = connect.client_id.to_string();
        let admitted = self.admit(&connect, &mut claimed).await;
        let (refusal, code) = match &admitted {
            Ok(_) => (None, ConnectAckReason::ConnectionAccepted),
            Err(NotAdmitted::Refused(refusal)) => (Some(refusal.clone()), ConnectAckReason::NotAuthorized),
            Err(NotAdmitted::Unavailable(error)) => {
                tracing::error!(%error, device.id = claimed, "could not decide on a connection");
                (None, ConnectAckReason::ServiceUnavailable)
            }
        };
        let claimed = cut(&claimed);
        let address = self.visitor.origin.address;
        let pace =
            refusal.as_ref().map(|_| self.hub.backoff.refused(address, Some(&claimed), Instant::now()));
        let pace = pace.unwrap_or_default();
        if !matches!(admitted, Err(NotAdmitted::Unavailable(_))) {
            let (origin, mut facts) = (self.visitor.origin.clone(), self.visitor.facts.clone());
            facts.slowed.clone_from(&pace.slowed);
            self.hub.record(Act::Connect, Some(claimed), origin, facts, refusal);
        }
        let Ok((grant, session, session_present)) = admitted else {
            if !pace.unanswered {
                self.machine.refuse(code);
            }
            return Err(End::NotAdmitted(Box::new(pace)));
        };
        let now = Instant::now();
        let ends = grant.ends.map(|ends| now + until(ends, self.hub.now()));
        let live = Arc::new(Live::new(grant));
        let epoch = self.hub.claim(live.clone());
        let keeps_session = !connect.clean_session;
        let _connected = self.door.connected(&live.grant().basis);
        let mut online = Box::new(Online {
            live,
            _connected,
            epoch,
            ends,
            session,
            keeps_session,
            will: None,
            desired_seen: 0,
            unsettled: None,
        });
        let confirmed = self.hub.clone().confirm(online.live.grant()).await;
        if matches!(confirmed, Err(NotAdmitted::Refused(_))) {
            self.machine.refuse(ConnectAckReason::NotAuthorized);
            self.online = Some(online);
            return Err(End::Ended(Ending::RightEnded));
        }
        self.machine.accept(&connect, session_present, now);
        online.will = connect.last_will;
        online.follow_subscriptions(&self.hub);
        self.online = Some(online);
        // Nobody reads the facts of the handshake from here on.
        self.visitor.facts = hub::decision::Facts::default();
        self.visitor.chain = None;
        Ok(())
    }

    async fn admit(
        &mut self,
        connect: &Connect,
        claimed: &mut String,
    ) -> Result<(Grant, Session, bool), NotAdmitted> {
        let user_name = connect.username.as_deref().unwrap_or_default();
        let name = UserName::parse(user_name).map_err(|problem| Refusal::UserName { problem })?;
        *claimed = name.identity.to_string();
        self.visitor.facts.sdk = name.client_type.as_deref().map(cut);
        self.visitor.facts.api_version = name.api_version.as_deref().map(cut);
        let hosts = &self.hub.settings.hosts;
        if !hosts.iter().any(|host| host.eq_ignore_ascii_case(hub::sas::host_without_port(&name.host))) {
            return Err(Refusal::UnknownHost { presented: cut(&name.host), names: hosts.clone() }.into());
        }
        if *connect.client_id != client_id(&name.identity) {
            let user_name = name.identity.to_string();
            return Err(Refusal::ClientId { client_id: cut(&connect.client_id), user_name }.into());
        }
        if let Some(will) =
            connect.last_will.as_ref().filter(|will| events_bag(&will.topic, &name.identity).is_none())
        {
            return Err(Refusal::Topic { topic: cut(&will.topic) }.into());
        }
        let password = connect.password.as_deref().unwrap_or_default();
        let password = std::str::from_utf8(password)
            .map_err(|_| Refusal::TokenMalformed { problem: "it is not UTF-8".to_owned() })?;
        let credential = match (&self.visitor.chain, password) {
            (Some(chain), "") => Credential::Certificate(chain),
            (None, "") => Credential::Nothing,
            (_, password) => Credential::Token(password),
        };
        let hub = self.hub.clone();
        let (chain, facts) = (name.auth_chain.as_deref(), &mut self.visitor.facts);
        let mut grant = hub.admit_client(&name.identity, credential, chain, facts).await?;
        if let Some(model_id) = name.model_id {
            if let Err(error) = hub.announce_model(&name.identity, &grant.sender.generation, &model_id).await
            {
                tracing::warn!(device.id = %name.identity, %error, "the model of a device could not be noted");
            }
            grant.sender = Arc::new(Sender { model_id: Some(model_id), ..(*grant.sender).clone() });
        }
        let (mut session, stored) = hub.session(&name.identity, &grant.sender.generation).await?;
        if connect.clean_session && stored.is_some() {
            session.subscriptions.clear();
            hub.store_session(&name.identity, session.clone()).await?;
        }
        let present = !session.subscriptions.is_empty();
        Ok((grant, session, present))
    }

    async fn on_subscribe(
        &mut self,
        packet_id: PacketId,
        filters: Vec<(ByteString, QoS)>,
    ) -> Result<(), End> {
        let identity = self.identity()?.clone();
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let mut session = online.session.clone();
        let mut status = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            if !may_subscribe(&filter, &identity) {
                return Err(End::Refused(Refusal::TopicFilter { filter: cut(&filter) }));
            }
            // QoS 2 is granted as 1.
            let granted = if qos == QoS::AtMostOnce { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            session.subscriptions.retain(|have| *have.filter != *filter);
            session.subscriptions.push(Subscription { filter: filter.to_string(), qos: granted.into() });
            // Asked for each, so that no packet makes the list longer than this.
            if session.subscriptions.len() > SUBSCRIPTIONS_MAX {
                let problem = format!("it subscribes to more than {SUBSCRIPTIONS_MAX} filters");
                return Err(End::Refused(Refusal::Protocol { problem }));
            }
            status.push(SubscribeReturnCode::Success(granted));
        }
        self.remember(identity, session).await?;
        self.machine.suback(packet_id, status);
        Ok(())
    }

    async fn on_unsubscribe(&mut self, packet_id: PacketId, filters: Vec<ByteString>) -> Result<(), End> {
        let identity = self.identity()?.clone();
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        let mut session = online.session.clone();
        session.subscriptions.retain(|have| !filters.iter().any(|filter| **filter == *have.filter));
        self.remember(identity, session).await?;
        self.machine.unsuback(packet_id);
        Ok(())
    }

    /// Makes the subscriptions durable before the client is told, where the session lasts.
    async fn remember(&mut self, identity: hub::identity::Identity, session: Session) -> Result<(), End> {
        let Some(online) = self.online.as_mut() else { return Ok(()) };
        if online.session == session {
            return Ok(());
        }
        if online.keeps_session {
            let stored = self.hub.store_session(&identity, session.clone()).await;
            stored.map_err(|error| End::Failed(format!("the subscriptions could not be stored: {error}")))?;
        }
        online.session = session;
        online.follow_subscriptions(&self.hub);
        Ok(())
    }

    /// Gives the identity up, publishes the will where there is one, records the end, and closes the socket.
    async fn finish(mut self, end: End, drain: &Drain) {
        if let Some(online) = self.online.take() {
            let grant = online.live.grant();
            let identity = grant.identity().clone();
            self.hub.release(&identity, online.epoch);
            online.live.mailbox.close();
            if let Some(unsettled) = &online.unsettled
                && let Err(error) =
                    self.hub.give_back(&identity, &grant.sender.generation, &unsettled.tokens()).await
            {
                tracing::warn!(device.id = %identity, %error, "unacknowledged messages wait for their locks to lapse");
            }
            if let (Some(will), false) = (&online.will, matches!(end, End::Disconnected)) {
                self.publish_will(will, grant.sender.clone(), &identity);
            }
            let (reason, refusal) = match &end {
                End::Disconnected => ("the client said good-bye".to_owned(), None),
                End::Lost(how) => (how.clone(), None),
                End::NotAdmitted(_) => ("it was not admitted".to_owned(), None),
                End::Refused(refusal) => {
                    (format!("it was refused: {}", refusal.cause()), Some(refusal.clone()))
                }
                End::Ended(ending) => {
                    (ending.as_str().to_owned(), self.hub.cause_of_end(*ending, grant).await)
                }
                End::Failed(how) => {
                    tracing::error!(device.id = %identity, error = how, "a connection could not go on");
                    (how.clone(), None)
                }
            };
            let facts = hub::decision::Facts::default();
            let origin = self.visitor.origin.clone();
            self.hub.record(Act::Disconnect { reason }, Some(identity.to_string()), origin, facts, refusal);
        } else if let End::Refused(refusal) = end {
            let (origin, facts) = (self.visitor.origin.clone(), std::mem::take(&mut self.visitor.facts));
            self.hub.record(Act::Connect, None, origin, facts, Some(refusal));
        } else if let End::NotAdmitted(pace) = end {
            let facts = std::mem::take(&mut self.visitor.facts);
            drop((facts, self.visitor.chain.take()));
            tokio::select! {
                () = linger(&mut self.stream, pace.wait) => {}
                () = drain.begun() => {}
            }
        }
        let farewell = async {
            let _ = self.stream.write_all(self.machine.output()).await;
            let _ = self.stream.shutdown().await;
        };
        let _ = tokio::time::timeout(FAREWELL_TIMEOUT, farewell).await;
    }

    fn publish_will(&self, will: &LastWill, sender: Arc<Sender>, identity: &hub::identity::Identity) {
        let Some(bag) = events_bag(&will.topic, identity) else { return };
        let (system, mut application) = properties::parse(bag);
        application.push(("iothub-MessageType".into(), PropertyValue::Text("Will".into())));
        if will.retain {
            application.push(("mqtt-retain".into(), PropertyValue::Text("true".into())));
        }
        let enqueued = self.hub.now().as_millisecond();
        let message = Message { enqueued, sender, system, application, body: will.message.clone() };
        if let Err(error) = self.hub.take(&[message]) {
            tracing::warn!(device.id = %identity, %error, "a will was lost");
        }
    }
}

/// Keeps a connection open without a word, unless the client goes first.
async fn linger(stream: &mut (impl AsyncRead + Unpin), wait: Duration) {
    if wait.is_zero() {
        return;
    }
    let mut byte = [0];
    let mut over = std::pin::pin!(tokio::time::sleep(wait));
    tokio::select! {
        () = over.as_mut() => {}
        // Nobody wants what it sends; it only has to wait like the others.
        read = stream.read(&mut byte) => if matches!(read, Ok(1..)) { over.await },
    }
}

/// More filters than any SDK uses, fewer than would weigh.
const SUBSCRIPTIONS_MAX: usize = 50;

/// How long from now to a time in seconds since 1970.
fn until(ends: i64, now: jiff::Timestamp) -> Duration {
    let left = ends.saturating_mul(1_000).saturating_sub(now.as_millisecond());
    // A century is as good as for ever, and does not overflow a clock.
    Duration::from_millis(u64::try_from(left).unwrap_or(0).min(100 * 365 * 86_400_000))
}

fn refusal_of(violation: &Violation, first_byte: Option<u8>) -> Refusal {
    match violation {
        Violation::Packet(PacketError::TooLarge { size, .. }) => {
            Refusal::MessageTooLarge { size: *size, limit: MESSAGE_BYTES_MAX }
        }
        Violation::Packet(PacketError::ProtocolLevel) => Refusal::MqttVersion,
        Violation::FirstPacketNotConnect => match first_byte.and_then(spoken) {
            Some(spoken) => Refusal::WrongPort { spoken: spoken.to_owned(), served: "MQTT".to_owned() },
            None => Refusal::Protocol { problem: violation.to_string() },
        },
        Violation::QosTwo => Refusal::QosTwo,
        Violation::ConnectTimeout => Refusal::ConnectTimeout,
        Violation::KeepAlive(seconds) => Refusal::KeepAliveMissed { seconds: *seconds },
        Violation::Packet(PacketError::Malformed(_))
        | Violation::SecondConnect
        | Violation::ServersPacket => Refusal::Protocol { problem: violation.to_string() },
    }
}
