//! Links by which services receive feedback and notices of files (`docs/protocol/amqp.md` §9.2, §9.3).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hub::access::PolicyName;
use hub::decision::Act;
use hub::error::{HubError, HubErrorCode};
use hub::hub::Hub;
use hub::inbox::{LockToken, Settlement};
use hub::refusal::Refusal;
use hub::service_bound::{Delivery, Lane, Next};
use hub::service_grant::ServicePlace;
use wire::amqp::connection::{AttachAnswer, Connection, DeliveryId, LinkId, SendError, SendOptions};
use wire::amqp::message::{Header, MessageWriter, Properties};
use wire::amqp::performative::{DeliveryState, DeliveryTag, Error, condition};

use super::attach::Declined;
use super::{Conversation, Link};
use crate::io::Stream;
use crate::outgoing::{Listener, Outgoing};

/// Messages that a receiver may have without settling them, whatever its credit.
const HELD_MAX: usize = 64;

type Taking = Pin<Box<dyn Future<Output = Result<Next, HubError>> + Send>>;

/// A link by which messages go out to a service.
pub(super) struct ToService {
    lane: Lane,
    hub: Arc<Hub>,
    outgoing: Arc<Outgoing>,
    /// Wakes the connection when there is something.
    _listener: Listener,
    taking: Option<Taking>,
    /// The changes of the lane before what is looked for, or was last.
    seen: u64,
    /// Nothing was found then; what another receiver has may come back at this time.
    idle: Option<Option<Instant>>,
    /// The client wants back what credit is left once nothing more is there.
    is_draining: bool,
    /// What the service has and has not settled.
    held: Vec<(DeliveryId, LockToken)>,
}

impl ToService {
    /// Sends what there is, as far as the link lets it.
    fn poll(&mut self, link: LinkId, machine: &mut Connection, cx: &mut Context<'_>) -> Result<(), HubError> {
        loop {
            if let Some(taking) = &mut self.taking {
                let Poll::Ready(next) = taking.as_mut().poll(cx) else { return Ok(()) };
                self.taking = None;
                match next? {
                    Next::Message(delivery) => self.send(link, machine, &delivery),
                    Next::Nothing(back) => {
                        self.idle = Some(back.map(|back| instant(back, self.hub.now())));
                        self.drained(link, machine);
                    }
                }
            }
            // Nothing is taken ahead of credit.
            if machine.sendable(link).is_err() || self.held.len() >= HELD_MAX {
                self.drained(link, machine);
                return Ok(());
            }
            let changes = self.outgoing.changes(self.lane);
            let comes_back = self.next_look().is_some_and(|back| back <= Instant::now());
            if self.idle.is_some() && changes == self.seen && !comes_back {
                return Ok(());
            }
            (self.seen, self.idle) = (changes, None);
            let (hub, lane) = (self.hub.clone(), self.lane);
            self.taking = Some(Box::pin(async move { hub.take_service_bound(lane).await }));
        }
    }

    /// Gives credit back, if the client asked for it.
    fn drained(&mut self, link: LinkId, machine: &mut Connection) {
        if std::mem::take(&mut self.is_draining) {
            let _ = machine.drained(link);
        }
    }

    fn send(&mut self, link: LinkId, machine: &mut Connection, delivery: &Delivery) {
        // The SDKs of .NET read the tag as a GUID.
        let tag = Some(DeliveryTag::from(delivery.token.0.to_bytes_le()));
        let options = SendOptions { tag, ..SendOptions::default() };
        let hub_name = self.hub.settings.name();
        match machine.send(link, options, |w| write(w, self.lane, hub_name, delivery)) {
            Ok(id) => self.held.push((id, delivery.token)),
            // The client took its credit back in the meantime, or takes no message of this size.
            Err(SendError::Blocked(_) | SendError::Command(_) | SendError::MessageTooLarge { .. }) => {
                self.give_back(vec![delivery.token]);
            }
        }
    }

    /// When to look again although nothing is announced.
    fn next_look(&self) -> Option<Instant> {
        self.idle.flatten()
    }

    /// What a delivery was of, which is settled with this.
    fn settled(&mut self, id: DeliveryId) -> Option<LockToken> {
        let at = self.held.iter().position(|(held, _)| *held == id)?;
        Some(self.held.swap_remove(at).1)
    }

    /// Gives messages back that the service will not settle.
    fn give_back(&self, tokens: Vec<LockToken>) {
        if tokens.is_empty() {
            return;
        }
        let (hub, lane) = (self.hub.clone(), self.lane);
        tokio::spawn(async move {
            for token in tokens {
                // What cannot be given back comes back when its lock lapses.
                if let Err(error) = hub.release_service_bound(lane, token).await {
                    tracing::debug!(%error, "a message to a service was not given back");
                }
            }
        });
    }
}

impl Drop for ToService {
    fn drop(&mut self) {
        self.give_back(self.held.iter().map(|(_, token)| *token).collect());
    }
}

impl<S: Stream> Conversation<S> {
    /// The policy by whose token a service may have a link to this place.
    pub(super) fn may_go_by(&self, place: &ServicePlace) -> Result<&PolicyName, Refusal> {
        let mut because = Refusal::NoCredential;
        for grant in &self.grants {
            match grant.opens(place, &self.front.hub.settings) {
                Ok(()) => return Ok(&grant.policy),
                // A right that is missing says more than a token for something else.
                Err(_) if matches!(because, Refusal::MissingRight { .. }) => {}
                Err(refusal) => because = refusal,
            }
        }
        Err(because)
    }

    /// Whether a service may have a link to this place.
    pub(super) fn may_go(&self, place: &ServicePlace) -> Result<(), Refusal> {
        self.may_go_by(place).map(drop)
    }

    pub(super) fn open_to_service(&self, lane: Lane) -> Result<(Link, AttachAnswer), Declined> {
        self.may_go(&ServicePlace::ToServices(lane)).map_err(|refusal| {
            let text = "Unauthorized access. The right ServiceConnect is required to receive here.";
            Declined::because(Error::new(condition::UNAUTHORIZED_ACCESS, text), refusal)
        })?;
        let signals = self.signals.clone();
        let listener: Listener = Arc::new(move || signals.waker.wake());
        self.front.outgoing.listen(lane, &listener);
        let link = ToService {
            lane,
            hub: self.front.hub.clone(),
            outgoing: self.front.outgoing.clone(),
            _listener: listener,
            taking: None,
            seen: 0,
            idle: None,
            is_draining: false,
            held: Vec::new(),
        };
        Ok((Link::ToService(Box::new(link)), AttachAnswer::default()))
    }

    pub(super) fn poll_to_services(&mut self, cx: &mut Context<'_>) {
        let mut failed = Vec::new();
        self.services.retain(|id| {
            let Some(Link::ToService(to_service)) = self.links.get_mut(id) else { return false };
            if let Err(error) = to_service.poll(*id, &mut self.machine, cx) {
                failed.push((*id, error));
            }
            true
        });
        for (id, error) in failed {
            tracing::error!(%error, "messages to a service could not be read");
            self.detach(id, Error::new(condition::INTERNAL_ERROR, "The messages could not be read."));
        }
    }

    /// A client wants what there is, and the rest of its credit back; false for any other link.
    pub(super) fn drain_to_service(&mut self, link: LinkId) -> bool {
        let Some(Link::ToService(to_service)) = self.links.get_mut(&link) else { return false };
        // It is polled in this round.
        (to_service.is_draining, to_service.idle) = (true, None);
        true
    }

    /// When a message may come back from another receiver of a lane.
    pub(super) fn next_to_service(&self) -> Option<Instant> {
        let looks = self.services.iter().filter_map(|id| match self.links.get(id) {
            Some(Link::ToService(to_service)) => to_service.next_look(),
            _ => None,
        });
        looks.min()
    }

    /// A client told what it makes of a message. `is_settled` says that it has forgotten it.
    pub(super) async fn on_service_outcome(
        &mut self,
        link: LinkId,
        delivery: DeliveryId,
        state: Option<DeliveryState>,
        is_settled: bool,
    ) {
        let Some(Link::ToService(to_service)) = self.links.get_mut(&link) else { return };
        let lane = to_service.lane;
        if let Some(token) = to_service.settled(delivery) {
            let settlement = match state {
                Some(DeliveryState::Accepted) => Settlement::Complete,
                Some(DeliveryState::Rejected(_)) => Settlement::Reject,
                _ => Settlement::Abandon,
            };
            let hub = self.front.hub.clone();
            match hub.settle_service_bound(lane, token, settlement).await {
                Ok(()) => {}
                Err(error) if error.code == HubErrorCode::DeviceMessageLockLost => {
                    tracing::debug!("a service settled a message after its lock had lapsed");
                }
                Err(error) => tracing::error!(%error, "a message to a service could not be settled"),
            }
        }
        if !is_settled {
            let _ = self.machine.settle(delivery, state.unwrap_or(DeliveryState::Released));
        }
    }

    /// Ends the links of a service whose right ended.
    pub(super) fn end_services_without_right(&mut self, text: &str, refusal: &Refusal) {
        let ended = self.links.iter().filter(|(_, link)| match link {
            Link::ToDevices => self.may_go(&ServicePlace::ToDevices).is_err(),
            Link::ToService(to_service) => self.may_go(&ServicePlace::ToServices(to_service.lane)).is_err(),
            Link::Reader(_, place) => self.may_go(place).is_err(),
            Link::ManagementRequests | Link::ManagementAnswers(_) => {
                self.may_go(&ServicePlace::Stream).is_err()
            }
            Link::CbsRequests | Link::CbsAnswers(_) | Link::Device(..) => false,
        });
        let ended: Vec<LinkId> = ended.map(|(id, _)| *id).collect();
        if !ended.is_empty() {
            self.record(
                Act::Disconnect { reason: text.to_owned(), ending: None },
                None,
                Some(refusal.clone()),
            );
        }
        for id in ended {
            self.detach(id, Error::new(condition::UNAUTHORIZED_ACCESS, text));
        }
    }
}

fn write(w: &mut MessageWriter<'_>, lane: Lane, hub_name: &str, delivery: &Delivery) {
    w.header(&Header { delivery_count: delivery.abandoned, ..Header::default() });
    w.message_annotations(|map| map.timestamp("iothub-enqueuedtime", delivery.enqueued.as_millisecond()));
    w.properties(&Properties {
        user_id: Some(hub_name.as_bytes()),
        content_type: Some(lane.content_type()),
        ..Properties::default()
    });
    w.data(delivery.body.as_bytes());
}

fn instant(time: jiff::Timestamp, now: jiff::Timestamp) -> Instant {
    Instant::now() + Duration::try_from(time.duration_since(now)).unwrap_or_default()
}
