//! The posture engine at work: it listens to the decisions, looks at the fleet when something changed, keeps what it
//! found, and carries fixes out. It runs on a thread of its own; nothing waits for it.

mod fix;
mod fleet;
mod gather;
mod keys;
mod look;
mod place;
mod usage;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub::decision::Decision;
use hub::finding::Finding;
use hub::hub::Hub;
use hub::identity::Identity;
use hub::record::Key;
use jiff::Timestamp;
use posture::Tally;
use posture::events::Events;
use posture::facts::ConfiguredSecret;
use posture::score::Score;
use posture::usage::Usage;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use crate::tls::ServerCertificate;
use crate::upkeep::Upkeep;

use self::fleet::Fleet;
pub(crate) use self::place::Place;

/// The shortest time between two looks that nobody asked for: a finding is to be visible within a minute of its cause.
const LOOK_EVERY_MIN: Duration = Duration::from_secs(20);
/// The longest: some findings come with time alone.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(45);
/// A look that takes longer is made on schedule only.
const QUICK_LOOK: Duration = Duration::from_secs(1);
/// A look takes one part in so many of a core, unless the fleet is so large that findings would be late.
const LOOK_SHARE: u32 = 20;

/// The guard of a hub.
pub(crate) struct Guard {
    hub: Arc<Hub>,
    place: Place,
    certificate: Arc<ServerCertificate>,
    upkeep: Arc<Upkeep>,
    configured_secrets: Vec<ConfiguredSecret>,
    observed: Mutex<Observed>,
    latest: Mutex<Option<Arc<Report>>>,
    /// One look at a time.
    fleet: tokio::sync::Mutex<Fleet>,
    stopping: Notify,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What was seen since it was written down or forgotten.
#[derive(Default)]
struct Observed {
    usage: Usage,
    changed: Changed,
    events: Events,
    /// Whether anything happened since the last look began.
    news: bool,
}

/// Identities whose records changed since they were read. `None`: none was read yet, or so many changed that all are read.
#[derive(Default)]
struct Changed(Option<HashSet<Identity>>);

/// Changed identities that are remembered. Beyond it reading all takes less.
const CHANGED_MAX: usize = 10_000;

impl Changed {
    fn insert(&mut self, identities: impl IntoIterator<Item = Identity>) {
        let Some(changed) = &mut self.0 else { return };
        changed.extend(identities);
        if changed.len() > CHANGED_MAX {
            self.0 = None;
        }
    }

    /// Leaves none behind.
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self(Some(HashSet::new())))
    }

    /// Takes back what could not be read.
    fn take_back(&mut self, before: Self) {
        match before.0 {
            Some(before) => self.insert(before),
            None => self.0 = None,
        }
    }
}

/// What a look gave.
#[derive(Debug)]
pub(crate) struct Report {
    /// When it was begun.
    pub(crate) time: Timestamp,
    /// How long it took.
    pub(crate) took: Duration,
    /// How good the fleet is, and how much of it is known.
    pub(crate) score: Score,
    /// What each check counted.
    pub(crate) tallies: Vec<Tally>,
    /// All findings, open ones first, the worst first.
    pub(crate) findings: Vec<Finding>,
}

impl Guard {
    pub(crate) fn new(
        hub: Arc<Hub>,
        place: Place,
        certificate: Arc<ServerCertificate>,
        upkeep: Arc<Upkeep>,
        configured_secrets: Vec<ConfiguredSecret>,
    ) -> Arc<Self> {
        Arc::new(Self {
            hub,
            place,
            certificate,
            upkeep,
            configured_secrets,
            observed: Mutex::default(),
            latest: Mutex::default(),
            fleet: tokio::sync::Mutex::default(),
            stopping: Notify::new(),
            thread: Mutex::default(),
        })
    }

    /// Takes a decision in. Called by the writer of decisions, after the one who asked has gone on.
    pub(crate) fn observe(&self, decision: &Decision) {
        let mut observed = self.observed();
        observed.usage.observe(decision);
        observed.events.observe(decision);
        observed.news = true;
    }

    /// Says that these records changed.
    pub(crate) fn changed(&self, keys: &[Key]) {
        let mut observed = self.observed();
        observed.changed.insert(keys.iter().filter_map(fleet::identity_of));
        observed.news = true;
    }

    /// Says that the next look may come to something else.
    pub(crate) fn look_again(&self) {
        self.observed().news = true;
    }

    /// Looks again and again, until the hub stops.
    pub(crate) fn watch(self: &Arc<Self>) {
        let guard = self.clone();
        let runtime = Handle::current();
        let watching = std::thread::Builder::new()
            .name("posture".to_owned())
            .spawn(move || keep_looking(&guard, &runtime));
        match watching {
            Ok(thread) => *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            Err(error) => {
                tracing::error!(%error, "the posture engine does not run: no finding will be opened or closed");
            }
        }
    }

    /// Ends the looking and writes down what was seen. Returns once no look is under way.
    pub(crate) async fn stop(&self) {
        self.stopping.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let ended = tokio::task::spawn_blocking(move || thread.map(std::thread::JoinHandle::join));
        if !matches!(ended.await, Ok(None | Some(Ok(())))) {
            tracing::error!("the posture engine did not end well");
        }
        // None is under way behind this.
        let mut fleet = self.fleet.lock().await;
        {
            // Where no look read the fleet, those who were used are enough.
            let mut observed = self.observed();
            let used: HashSet<Identity> = observed.usage.identities.keys().cloned().collect();
            observed.changed.0.get_or_insert(used);
        }
        if let Err(error) = self.catch_up(&mut fleet).await {
            tracing::warn!(%error, "the last use of some identities was not written down");
        }
    }

    /// What is known now: a new look, for files and certificates change without a word; of a fleet that takes long to
    /// look at the last one.
    pub(crate) async fn report(&self) -> Result<Arc<Report>, hub::error::HubError> {
        match self.latest() {
            Some(latest) if latest.took > QUICK_LOOK => Ok(latest),
            _ => Ok(self.look().await?),
        }
    }

    /// The data directory.
    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What is known of the hub's own certificate.
    pub(crate) fn server_certificate(&self) -> posture::facts::ServerCertificateFacts {
        self.certificate.facts()
    }

    /// What the hub does for its own files.
    pub(crate) fn upkeep(&self) -> &Upkeep {
        &self.upkeep
    }

    /// The last look, if there was one.
    pub(crate) fn latest(&self) -> Option<Arc<Report>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits. False when the hub stops.
    async fn rest(&self, length: Duration) -> bool {
        tokio::time::timeout(length, self.stopping.notified()).await.is_err()
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.observed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn keep_looking(guard: &Guard, runtime: &Handle) {
    let mut rest = LOOK_EVERY_MIN;
    let mut last = Instant::now();
    while runtime.block_on(guard.rest(rest)) {
        if !guard.observed().news && last.elapsed() < LOOK_EVERY_MAX {
            rest = LOOK_EVERY_MIN;
            continue;
        }
        last = Instant::now();
        // Outside the runtime: this thread reads the registry itself, and need not hand the fleet from thread to thread.
        if let Err(error) = futures_executor::block_on(guard.look()) {
            tracing::error!(%error, "the posture of the fleet could not be judged");
        }
        rest = (last.elapsed() * LOOK_SHARE).clamp(LOOK_EVERY_MIN, LOOK_EVERY_MAX);
    }
}
