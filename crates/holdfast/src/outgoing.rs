//! What the hub does by the clock: expires device-bound messages, puts feedback into messages, removes what uploads left,
//! and tells receivers when there is something for them. The rules are the hub's; here are the ticks and the wakers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hub::error::HubError;
use hub::hub::Hub;
use hub::record::Key;
use hub::service_bound::{BATCH_EVERY, BATCH_MAX, Lane};
use jiff::Timestamp;
use tokio::sync::Notify;

/// How often expired messages are looked for when nothing else is to be done, and how long a failure waits.
const AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// Called when there may be a message for a receiver.
pub(crate) type Listener = Arc<dyn Fn() + Send + Sync>;

/// The way of messages to services.
#[derive(Default)]
pub(crate) struct Outgoing {
    lanes: [News; Lane::ALL.len()],
    /// There is feedback, or another message expires first.
    work: Notify,
}

#[derive(Default)]
struct News {
    count: AtomicU64,
    listeners: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

impl Outgoing {
    /// Starts the work for a hub; it ends with it.
    pub(crate) fn start(self: &Arc<Self>, hub: &Arc<Hub>) {
        let (outgoing, hub) = (self.clone(), Arc::downgrade(hub));
        tokio::spawn(async move {
            let mut batches = Batches::default();
            while let Some(hub) = hub.upgrade() {
                // Asked for before the look, so that what comes during it is not missed.
                let more = outgoing.work.notified();
                let wait = match look(&hub, &mut batches).await {
                    Ok(wait) => wait,
                    Err(error) => {
                        tracing::error!(%error, "messages to services could not be looked through");
                        AT_LEAST_EVERY
                    }
                };
                drop(hub);
                tokio::select! {
                    () = more => {}
                    () = tokio::time::sleep(wait) => {}
                }
            }
        });
    }

    /// Takes notice of a committed change. Called by the registry's own thread.
    pub(crate) fn committed(&self, keys: &[Key]) {
        for key in keys {
            match key {
                Key::ServiceBound(lane, _) => self.news(*lane).tell(),
                Key::Feedback(_) | Key::InboxDeadline(_) | Key::Duty(_) => self.work.notify_one(),
                _ => {}
            }
        }
    }

    /// Counts the changes of a lane: while it does not, nothing more is there for a receiver than was before, but for
    /// locks that lapse.
    pub(crate) fn changes(&self, lane: Lane) -> u64 {
        self.news(lane).count.load(Ordering::Acquire)
    }

    /// Calls the listener after each change of a lane, for as long as somebody else holds it.
    pub(crate) fn listen(&self, lane: Lane, listener: &Listener) {
        let mut listeners = self.news(lane).listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(listener));
    }

    fn news(&self, lane: Lane) -> &News {
        &self.lanes[lane as usize]
    }
}

impl News {
    fn tell(&self) {
        self.count.fetch_add(1, Ordering::Release);
        for listener in &*self.listeners.lock().unwrap_or_else(PoisonError::into_inner) {
            if let Some(listener) = listener.upgrade() {
                listener();
            }
        }
    }
}

/// When the last message of feedback was made.
#[derive(Default)]
struct Batches {
    last: Option<Instant>,
}

/// Does what is due, and says after what time something is again.
async fn look(hub: &Hub, batches: &mut Batches) -> Result<Duration, HubError> {
    let mut wait = AT_LEAST_EVERY;
    if let Some(next) = hub.expire_inboxes().await? {
        wait = wait.min(until(next, hub.now()));
    }
    match hub.sweep_uploads().await {
        Ok(next) => wait = next.map_or(wait, |next| wait.min(until(next, hub.now()))),
        // A disk that does not remove files holds up no message.
        Err(error) => tracing::error!(%error, "what uploads left was not removed"),
    }
    for lane in Lane::ALL {
        hub.expire_service_bound(lane).await?;
    }
    while hub.batch_feedback(BATCH_MAX).await? > 0 {
        batches.last = Some(Instant::now());
    }
    let quiet = batches.last.map_or(BATCH_EVERY, |last| last.elapsed());
    if quiet < BATCH_EVERY {
        // Too early for fewer.
        return Ok(wait.min(BATCH_EVERY - quiet));
    }
    if hub.batch_feedback(1).await? > 0 {
        batches.last = Some(Instant::now());
        wait = wait.min(BATCH_EVERY);
    }
    Ok(wait)
}

fn until(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(now)).unwrap_or_default()
}
