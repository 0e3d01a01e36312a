//! One MQTT connection from CONNECT to its end: the machine of `wire` on one side, the hub on the other. What a client
//! does on it stands in the files of this module; how it is spelt in topics, in those beside it.

mod connecting;
mod end;
mod operations;
mod reauthentication;
mod requests;
mod subscriptions;
mod telemetry;
mod to_client;
mod transport;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hub::hub::Hub;
use hub::inbox::Settlement;
use hub::limits::MQTT_UNACKNOWLEDGED_MAX as UNACKNOWLEDGED_MAX;
use hub::ports::bus::{Ending, Epoch, Holder as _};
use hub::ports::event_log::Ticket;
use hub::properties::stamp;
use hub::record::Session;
use hub::telemetry::{MESSAGE_BYTES_MAX, Message};
use tokio::time::Sleep;
use wire::mqtt::{Event, FiveLimits, Limits, PacketId, Server};

use self::end::{End, refusal_of};
use self::telemetry::Will;
use self::to_client::settlement_of;
use super::five::connect::Held;
use super::five::outcome::Outcome;
use super::inbox::Unsettled;
use super::live::Live;
use super::three::address::events_bag;
use super::three::properties;
use crate::drain::Drain;
use crate::fronts::mailbox::Wanted;
use crate::io::Stream;
use crate::listen::Visitor;
use crate::metrics::{Connected, DoorMetrics, Metrics};

static LIMITS: Limits = Limits {
    // A message of the largest size, its topic, and the headers of both.
    packet_bytes_max: MESSAGE_BYTES_MAX as u32 + 65_535 + 64,
    connect_timeout: Duration::from_secs(30),
    silence_max: Duration::from_secs(1_767),
    five: FiveLimits {
        packet_bytes_max: MESSAGE_BYTES_MAX as u32,
        receive_max: 16,
        topic_alias_max: 10,
        keep_alive_max: 19 * 60,
    },
};

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
        machine: Server::new(&LIMITS, Instant::now()),
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
    /// What is not acknowledged yet, in the order it came [MQTT-4.6.0-2], and its identifier, which is `None` for QoS 0.
    unacknowledged: VecDeque<(Due, Option<PacketId>)>,
    /// A message that the journal had no room for.
    stalled: Option<Box<(Message, Option<PacketId>)>>,
    unflushed: bool,
    online: Option<Box<Online>>,
}

/// When a message is answered, and how.
enum Due {
    /// Once it is on the disk.
    Durable(Ticket),
    /// In its turn: it waits for nothing.
    Done,
    /// In its turn, with an outcome that is no success (MQTT 5 only).
    Refused(Box<Outcome>),
}

/// The version that the client speaks.
enum Spoken {
    /// MQTT 3.1.1.
    Three,
    /// MQTT 5, and what a new authentication is held to.
    Five(Box<Held>),
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
    /// The client was told that it has a session of an earlier connection.
    session_goes_on: bool,
    will: Option<Box<Will>>,
    /// The highest version of the desired properties that the client was sent, if it was sent any.
    desired_seen: u64,
    /// Device-bound messages that the client has not acknowledged; `None` before the first one.
    unsettled: Option<Box<Unsettled>>,
    spoken: Spoken,
}

impl Online {
    /// Lets the hub know what the client is to be sent.
    fn follow_subscriptions(&self, hub: &Hub) {
        let calls = self.spoken.wants_calls(&self.session);
        let messages = self.spoken.messages(&self.session, self.live.grant().identity()).is_some();
        let mailbox = self.live.mailbox();
        mailbox.set_wanted(Wanted::Calls, calls);
        mailbox.set_wanted(Wanted::Desired, self.spoken.wants_desired(&self.session));
        mailbox.set_wanted(Wanted::Messages, messages);
        if calls {
            hub.bus.takes_calls(self.live.grant().identity());
        }
    }
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
                        && let keeps_places = matches!(online.spoken, Spoken::Five(_))
                        && online
                            .unsettled
                            .as_mut()
                            .is_some_and(|unsettled| unsettled.lapse(now, keeps_places))
                    {
                        online.live.mailbox().inbox_changed();
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
        while let Some((due, _)) = self.unacknowledged.front() {
            if let Due::Durable(ticket) = due {
                match self.hub.log.poll_durable(*ticket, cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Wake::Over(End::not_stored(&error)));
                    }
                    Poll::Pending => break,
                }
                if let Some(since) = self.waiting_since.take() {
                    self.door.acknowledged.observe(since.elapsed());
                }
            }
            match self.unacknowledged.pop_front() {
                Some((Due::Refused(outcome), Some(packet_id))) => {
                    self.machine.refuse_publish(packet_id, outcome.of_publish(), outcome.properties());
                }
                Some((_, Some(packet_id))) => self.machine.puback(packet_id),
                Some((_, None)) | None => {}
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
            && self.online.as_ref().is_some_and(|online| online.live.mailbox().has_outgoing())
        {
            self.send_outgoing();
            return Poll::Ready(Wake::Progress);
        }
        let send_max = self.machine.send_max();
        if self.machine.output().is_empty()
            && let Some(online) = &self.online
            && online.live.mailbox().may_have_message()
            && !online.unsettled.as_ref().is_some_and(|unsettled| unsettled.is_full(send_max))
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

    async fn on_event(&mut self, event: Event) -> Result<(), End> {
        match event {
            Event::Publish(publish) if self.machine.speaks_five() => self.on_operation(*publish).await,
            Event::Publish(publish) => {
                if let Some(bag) = events_bag(&publish.topic, self.identity()?) {
                    let (system, mut application) = properties::parse(bag);
                    if publish.retain {
                        stamp(&mut application, "mqtt-retain", "true");
                    }
                    let message = self.message(system, application, publish.payload)?;
                    return self.take(message, publish.packet_id);
                }
                Box::pin(self.on_request(&publish)).await?;
                self.unacknowledged.push_back((Due::Done, publish.packet_id));
                Ok(())
            }
            Event::Connect(connect) => Box::pin(self.on_connect(connect)).await,
            Event::Subscribe(packet_id, filters) => Box::pin(self.on_subscribe(packet_id, filters)).await,
            Event::Unsubscribe(packet_id, filters) => Box::pin(self.on_unsubscribe(packet_id, filters)).await,
            Event::PubAck(packet_id) => Box::pin(self.on_acknowledged(packet_id, Settlement::Complete)).await,
            Event::PubRefused(packet_id, properties) => {
                Box::pin(self.on_acknowledged(packet_id, settlement_of(&properties))).await
            }
            Event::ConnectFive(connect) => Box::pin(self.on_connect_five(connect)).await,
            Event::Reauthenticate(auth) => Box::pin(self.on_reauthenticate(auth)).await,
            Event::Disconnect(goodbye) => Err(End::Disconnected(goodbye)),
        }
    }

    fn identity(&self) -> Result<&hub::identity::Identity, End> {
        match &self.online {
            Some(online) => Ok(online.live.grant().identity()),
            None => Err(End::Failed("a packet came before the connection was admitted".to_owned())),
        }
    }
}
