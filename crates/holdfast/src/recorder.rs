//! The way of decisions to the registry: a bounded queue that nobody waits for, and a writer that folds floods. Refusals
//! of a wrong signature make a detour by a search for the mistake, which is bounded too: see [`Searches`].

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hub::decision::{Act, Decision};
use hub::key_search::{Clue, KeySearch};
use hub::ports::clock::{Clock, Recorder};
use hub::ports::registry::Registry;
use hub::ports::secrets::Secrets;
use tokio::sync::{Notify, mpsc, oneshot};

/// Decisions that may wait for the writer.
const QUEUE_MAX: usize = 8_192;
/// Decisions written in one transaction.
const BATCH_MAX: usize = 1_024;
/// Records of one source and cause in a window; the rest become one record with their count.
const RECORDS_PER_WINDOW: u64 = 20;
/// The window of folding.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources and causes that are told apart in one window; beyond it all fold into one.
const SOURCES_MAX: usize = 10_000;
/// How long the writer lets decisions gather, so that one transaction holds many: each takes a sync, writes the edges of the
/// tables again, and has all who read the registry read them again. Whoever asks for what was decided has not to wait for it.
const GATHER: Duration = Duration::from_millis(100);

/// Is shown every decision, before folding, by the writer: after the one who asked has gone on.
pub(crate) type Observer = Arc<dyn Fn(&Decision) + Send + Sync>;

enum Item {
    Decision(Box<Decision>),
    /// For the observers only.
    Observation(Box<Decision>),
    /// Asks to be told when everything before it is written.
    Settle(oneshot::Sender<()>),
    /// The same, and what was folded is written too, though its window is not over.
    Finish(oneshot::Sender<()>),
}

/// The front end: takes decisions without waiting.
pub(crate) struct QueueRecorder {
    queue: mpsc::Sender<Item>,
    searches: mpsc::Sender<Search>,
    lost: Arc<AtomicU64>,
    observer: Arc<OnceLock<Observer>>,
    /// Ends the gathering, for somebody waits.
    hurry: Arc<Notify>,
}

/// Refusals that may wait to be looked into; beyond it they are recorded as they are.
const SEARCHES_MAX: usize = 64;

enum Search {
    For(Box<Decision>, Box<Clue>),
    /// Asks for the same of the searches before it.
    Settle(oneshot::Sender<()>),
}

impl QueueRecorder {
    /// Starts the writer.
    pub(crate) fn start(
        registry: Arc<dyn Registry>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let (searches, clues) = mpsc::channel(SEARCHES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let (observer, hurry) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
        let writer = Writer {
            registry: registry.clone(),
            clock,
            lost: lost.clone(),
            observer: observer.clone(),
            hurry: hurry.clone(),
        };
        tokio::spawn(writer.run(items));
        tokio::spawn(search(clues, KeySearch { registry, secrets }, queue.clone()));
        Arc::new(Self { queue, searches, lost, observer, hurry })
    }

    /// Shows every decision from now on to an observer, which must return at once. There is one.
    pub(crate) fn observe_with(&self, observer: Observer) {
        let _ = self.observer.set(observer);
    }

    /// Returns once everything that was recorded before is written.
    pub(crate) async fn settle(&self) {
        self.written(Item::Settle).await;
    }

    /// The same before the hub stops: what was folded is written too.
    pub(crate) async fn finish(&self) {
        self.written(Item::Finish).await;
    }

    async fn written(&self, ask: impl FnOnce(oneshot::Sender<()>) -> Item) {
        let (done, settled) = oneshot::channel();
        if self.searches.send(Search::Settle(done)).await.is_ok() {
            let _ = settled.await;
        }
        let (done, settled) = oneshot::channel();
        if self.queue.send(ask(done)).await.is_ok() {
            self.hurry.notify_one();
            let _ = settled.await;
        }
    }
}

impl Recorder for QueueRecorder {
    fn record(&self, decision: Decision) {
        if self.queue.try_send(Item::Decision(Box::new(decision))).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn observe(&self, decision: Decision) {
        // What goes on record keeps half of the queue for itself.
        if self.queue.capacity() > QUEUE_MAX / 2 {
            let _ = self.queue.try_send(Item::Observation(Box::new(decision)));
        }
    }

    fn search(&self, decision: Decision, clue: Box<Clue>) {
        if let Err(error) = self.searches.try_send(Search::For(Box::new(decision), clue))
            && let Search::For(decision, _) = error.into_inner()
        {
            self.record(*decision);
        }
    }
}

/// Looks into one refusal after the other: first what costs next to nothing, then, within the bounds of [`Searches`],
/// the keys of other devices.
async fn search(mut clues: mpsc::Receiver<Search>, keys: KeySearch, queue: mpsc::Sender<Item>) {
    let mut searches = Searches::new(Instant::now());
    while let Some(item) = clues.recv().await {
        let (mut decision, clue) = match item {
            Search::For(decision, clue) => (decision, clue),
            Search::Settle(done) => {
                let _ = done.send(());
                continue;
            }
        };
        let mut found = keys.nearby(&clue, decision.origin.address).await;
        if matches!(found, Ok(None)) && searches.allow(decision.origin.address, Instant::now()) {
            found = keys.fleet(&clue).await;
        }
        match found {
            Ok(Some(refusal)) => decision.refusal = Some(refusal),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "the mistake behind a signature was not looked for"),
        }
        if queue.send(Item::Decision(decision)).await.is_err() {
            return;
        }
    }
}

/// How often the keys of the whole fleet are tried: so that nobody makes the hub work by presenting wrong signatures.
struct Searches {
    begun: Instant,
    all: u32,
    of: HashMap<Option<IpAddr>, u32>,
}

/// Searches in a window for one address, and for all together.
const SEARCHES_PER_SOURCE: u32 = 20;
const SEARCHES_PER_WINDOW: u32 = 120;

impl Searches {
    fn new(now: Instant) -> Self {
        Self { begun: now, all: 0, of: HashMap::new() }
    }

    fn allow(&mut self, address: Option<IpAddr>, now: Instant) -> bool {
        if now.duration_since(self.begun) >= WINDOW {
            *self = Self::new(now);
        }
        if self.all >= SEARCHES_PER_WINDOW {
            return false;
        }
        // No more addresses than searches are counted.
        let of = self.of.entry(address).or_default();
        if *of >= SEARCHES_PER_SOURCE {
            return false;
        }
        *of += 1;
        self.all += 1;
        true
    }
}

/// Takes decisions and forgets them, to measure what the guard costs.
pub(crate) struct NoRecorder;

impl Recorder for NoRecorder {
    fn record(&self, _: Decision) {}

    fn observe(&self, _: Decision) {}
}

/// The writer: takes what is in the queue, shows it to the observer, and writes down what does not fold.
struct Writer {
    registry: Arc<dyn Registry>,
    clock: Arc<dyn Clock>,
    lost: Arc<AtomicU64>,
    observer: Arc<OnceLock<Observer>>,
    hurry: Arc<Notify>,
}

impl Writer {
    async fn run(self, mut items: mpsc::Receiver<Item>) {
        let mut folder = Folder::new(Instant::now());
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let window_left = folder.window_left(Instant::now());
            match tokio::time::timeout(window_left, items.recv_many(&mut batch, BATCH_MAX)).await {
                Ok(0) => return,
                Ok(_) => self.gather(&mut items, &mut batch).await,
                Err(_) => {}
            }
            self.write(&mut folder, &mut batch).await;
        }
    }

    /// Waits for more, unless there is enough or somebody waits. Nobody who records wakes this up meanwhile.
    async fn gather(&self, items: &mut mpsc::Receiver<Item>, batch: &mut Vec<Item>) {
        let is_awaited = |item: &Item| matches!(item, Item::Settle(_) | Item::Finish(_));
        if batch.len() >= BATCH_MAX || batch.iter().any(is_awaited) {
            return;
        }
        let _hurried = tokio::time::timeout(GATHER, self.hurry.notified()).await;
        while batch.len() < BATCH_MAX
            && let Ok(item) = items.try_recv()
        {
            batch.push(item);
        }
    }

    async fn write(&self, folder: &mut Folder, batch: &mut Vec<Item>) {
        let mut settled = Vec::new();
        let mut records = Vec::with_capacity(batch.len());
        folder.roll(Instant::now(), &mut records);
        for item in batch.drain(..) {
            if let (Item::Decision(decision) | Item::Observation(decision), Some(observer)) =
                (&item, self.observer.get())
            {
                observer(decision);
            }
            match item {
                Item::Decision(decision) => records.extend(folder.fold(decision)),
                Item::Observation(_) => {}
                Item::Settle(done) => settled.push(done),
                Item::Finish(done) => {
                    folder.close(Instant::now(), &mut records);
                    settled.push(done);
                }
            }
        }
        let gap = self.lost.swap(0, Ordering::Relaxed);
        if gap > 0 {
            let mut decision = Box::new(Decision::new(self.clock.now(), Act::Gap));
            decision.count = gap;
            records.push(decision);
        }
        if !records.is_empty() {
            let count = records.len() as u64;
            if let Err(error) = self.registry.record(records).await {
                tracing::error!(%error, count, "decisions could not be recorded");
                self.lost.fetch_add(count, Ordering::Relaxed);
            }
        }
        for done in settled {
            let _ = done.send(());
        }
    }
}

/// Folds the decisions of one source and cause beyond a number in a window into one counted record.
struct Folder {
    begun: Instant,
    /// By the hash of the source, whose text then needs not be kept: two of 10,000 have the same one once in 10^11 windows.
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
}

/// What decisions fold by.
#[derive(Hash)]
enum Source<'a> {
    /// Refusals by address and cause, for a flood may name a new device each time.
    Refused(Option<IpAddr>, &'static str),
    /// What is allowed by who it was allowed to.
    Allowed(Option<IpAddr>, Option<&'a str>, Discriminant<Act>),
    /// All beyond [`SOURCES_MAX`].
    Others,
}

impl<'a> Source<'a> {
    fn of(decision: &'a Decision) -> Self {
        let address = decision.origin.address;
        match &decision.refusal {
            Some(refusal) => Self::Refused(address, refusal.cause()),
            None => Self::Allowed(address, decision.identity.as_deref(), discriminant(&decision.act)),
        }
    }
}

struct Seen {
    count: u64,
    /// Most sources have none.
    last: Option<Box<Decision>>,
}

impl Folder {
    fn new(now: Instant) -> Self {
        Self { begun: now, seen: HashMap::new(), hasher: RandomState::new() }
    }

    fn window_left(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.duration_since(self.begun)).max(Duration::from_millis(10))
    }

    /// The decision itself while its source and cause have not filled their share; nothing after that.
    fn fold(&mut self, decision: Box<Decision>) -> Option<Box<Decision>> {
        let mut source = self.hasher.hash_one(Source::of(&decision));
        if self.seen.len() >= SOURCES_MAX && !self.seen.contains_key(&source) {
            source = self.hasher.hash_one(Source::Others);
        }
        let seen = self.seen.entry(source).or_insert(Seen { count: 0, last: None });
        seen.count += 1;
        if seen.count <= RECORDS_PER_WINDOW {
            return Some(decision);
        }
        seen.last = Some(decision);
        None
    }

    /// At the end of a window: what was folded, each with its count.
    fn roll(&mut self, now: Instant, records: &mut impl Extend<Box<Decision>>) {
        if now.duration_since(self.begun) >= WINDOW {
            self.close(now, records);
        }
    }

    /// Ends the window.
    fn close(&mut self, now: Instant, records: &mut impl Extend<Box<Decision>>) {
        self.begun = now;
        records.extend(self.seen.drain().filter_map(|(_, seen)| {
            let mut last = seen.last?;
            last.count = seen.count - RECORDS_PER_WINDOW;
            Some(last)
        }));
    }
}

#[cfg(test)]
mod tests {
    use hub::refusal::Refusal;

    use super::*;

    fn refused(n: u64) -> Box<Decision> {
        let mut decision = Box::new(Decision::new(jiff::Timestamp::UNIX_EPOCH, Act::Connect));
        decision.identity = Some(format!("device-{n}"));
        decision.refusal = Some(Refusal::NoCredential);
        decision
    }

    fn rolled(folder: &mut Folder, now: Instant) -> Vec<u64> {
        let mut records = Vec::new();
        folder.roll(now, &mut records);
        records.iter().map(|decision| decision.count).collect()
    }

    #[test]
    fn no_source_and_no_crowd_makes_the_hub_search_without_end() {
        let start = Instant::now();
        let mut searches = Searches::new(start);
        let address = |n: u8| Some(IpAddr::from([10, 0, 0, n]));
        assert_eq!((0..100).filter(|_| searches.allow(address(1), start)).count(), 20);
        let others = (2..200).flat_map(|n| [n; 5]).filter(|n| searches.allow(address(*n), start)).count();
        assert_eq!(others, 100);
        assert!(searches.allow(address(1), start + WINDOW), "a new window begins anew");
    }

    #[test]
    fn a_flood_of_one_cause_becomes_twenty_records_and_a_count() {
        let start = Instant::now();
        let mut folder = Folder::new(start);
        let kept = (0..1_000).filter_map(|n| folder.fold(refused(n))).count();
        assert_eq!(kept, 20);
        assert!(rolled(&mut folder, start + WINDOW / 2).is_empty());
        assert_eq!(rolled(&mut folder, start + WINDOW), [980]);
        assert!(folder.fold(refused(1)).is_some(), "a new window begins anew");
    }
}
