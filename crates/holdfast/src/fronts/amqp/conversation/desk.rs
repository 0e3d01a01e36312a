//! What the hub does for a connection while it goes on. For each device or module one errand is run at a time, in the
//! order in which they were asked for; those of others run beside it. A gateway has hundreds of devices on one connection,
//! and each errand waits for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use hub::error::HubError;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::inbox::{Delivery, LockToken, NotEnqueued, Numbering, Receiver, Settlement, Submission};
use hub::telemetry::Sender;
use wire::amqp::connection::{DeliveryId, LinkId};

use super::to_devices::enqueue;
use crate::fronts::amqp::twin::Request;
use crate::fronts::twin::{self, Outcome};

/// Errands of a connection that are not done, beyond which its socket is not read.
const ERRANDS_MAX: usize = 128;

/// What is to be done for a device or module.
pub(super) enum Errand {
    /// Takes the next device-bound message for this link.
    Take {
        sender: Arc<Sender>,
        link: LinkId,
        /// Nothing was taken for the link before: what an earlier connection had is taken back.
        is_first: bool,
    },
    /// Settles a device-bound message.
    Settle {
        sender: Arc<Sender>,
        token: LockToken,
        settlement: Settlement,
        /// The delivery whose receiver waits for our word on it.
        told: Option<DeliveryId>,
    },
    /// Takes back device-bound messages that a link had and did not settle.
    GiveBack { sender: Arc<Sender>, tokens: Vec<LockToken> },
    /// Reads or changes the twin.
    Twin {
        sender: Arc<Sender>,
        request: Request,
        /// The request as it came; its answer repeats the id that is in it.
        message: Bytes,
    },
    /// Puts a message of a service into the queue of who it is for.
    Send {
        to: Vec<Identity>,
        submission: Box<Submission>,
        /// The delivery that is settled then.
        settles: Option<DeliveryId>,
    },
}

/// What came of an errand.
pub(super) enum Done {
    Taken { sender: Arc<Sender>, link: LinkId, result: Result<Option<Box<Delivery>>, HubError> },
    Settled { sender: Arc<Sender>, told: Option<DeliveryId>, result: Result<(), HubError> },
    GivenBack { sender: Arc<Sender> },
    Twin { sender: Arc<Sender>, request: Request, message: Bytes, result: Result<Option<Outcome>, HubError> },
    Sent { settles: Option<DeliveryId>, result: Result<(), NotEnqueued> },
}

/// The errands of a connection. Most connections have none, and hold nothing for them.
#[derive(Default)]
pub(super) struct Desk(Option<Box<Busy>>);

#[derive(Default)]
struct Busy {
    running: FuturesUnordered<Running>,
    /// Those for whom one runs, and what is to be done for them next.
    waiting: BTreeMap<Identity, VecDeque<Errand>>,
    count: usize,
}

type Running = Pin<Box<dyn Future<Output = (Identity, Done)> + Send>>;

impl Desk {
    /// Whether more may be asked.
    pub(super) fn has_room(&self) -> bool {
        self.0.as_ref().is_none_or(|busy| busy.count < ERRANDS_MAX)
    }

    /// Takes an errand for a device or module.
    pub(super) fn add(&mut self, hub: &Arc<Hub>, identity: Identity, errand: Errand) {
        let busy = self.0.get_or_insert_default();
        busy.count += 1;
        match busy.waiting.get_mut(&identity) {
            Some(waiting) => waiting.push_back(errand),
            None => {
                busy.waiting.insert(identity.clone(), VecDeque::new());
                busy.running.push(run(hub.clone(), identity, errand));
            }
        }
    }

    /// Whether something is done for a device or module.
    pub(super) fn is_busy_for(&self, identity: &Identity) -> bool {
        self.0.as_ref().is_some_and(|busy| busy.waiting.contains_key(identity))
    }

    /// What is done; `None` when there is nothing to do.
    pub(super) fn poll_done(&mut self, hub: &Arc<Hub>, cx: &mut Context<'_>) -> Poll<Option<Done>> {
        let Some(busy) = &mut self.0 else { return Poll::Ready(None) };
        let Some((identity, done)) = std::task::ready!(busy.running.poll_next_unpin(cx)) else {
            self.0 = None;
            return Poll::Ready(None);
        };
        busy.count -= 1;
        match busy.waiting.get_mut(&identity).and_then(VecDeque::pop_front) {
            Some(next) => busy.running.push(run(hub.clone(), identity, next)),
            None => drop(busy.waiting.remove(&identity)),
        }
        if busy.count == 0 {
            self.0 = None;
        }
        Poll::Ready(Some(done))
    }
}

fn run(hub: Arc<Hub>, identity: Identity, errand: Errand) -> Running {
    Box::pin(async move { (identity, errand.run(&hub).await) })
}

impl Errand {
    async fn run(self, hub: &Hub) -> Done {
        match self {
            Self::Take { sender, link, is_first } => {
                let result = take(hub, &sender, is_first).await;
                Done::Taken { sender, link, result }
            }
            Self::Settle { sender, token, settlement, told } => {
                let result = hub.settle(&sender.identity, &sender.generation, token, settlement).await;
                Done::Settled { sender, told, result }
            }
            Self::GiveBack { sender, tokens } => {
                if let Err(error) = hub.give_back(&sender.identity, &sender.generation, &tokens).await {
                    tracing::warn!(device.id = %sender.identity, %error, "unsettled messages wait for their locks to lapse");
                }
                Done::GivenBack { sender }
            }
            Self::Twin { sender, request, message } => {
                let result = match &request {
                    Request::Read => twin::read(hub, &sender).await.map(Some),
                    Request::Report { patch, version } => {
                        twin::report(hub, &sender, patch, *version).await.map(Some)
                    }
                    // It is the connection that remembers; in its turn, so that answers come in the order of the requests.
                    Request::Subscribe | Request::Unsubscribe => Ok(None),
                };
                Done::Twin { sender, request, message, result }
            }
            Self::Send { to, submission, settles } => {
                Done::Sent { settles, result: enqueue(hub, &to, &submission).await }
            }
        }
    }
}

async fn take(hub: &Hub, sender: &Sender, is_first: bool) -> Result<Option<Box<Delivery>>, HubError> {
    let (identity, generation) = (&sender.identity, sender.generation.as_str());
    if is_first {
        hub.release_inbox(identity, generation, false).await?;
    }
    let taken = hub.take_from_inbox(identity, generation, Receiver::Connection, Numbering::None).await;
    taken.map(|taken| taken.map(Box::new))
}
