//! The way of decisions to the registry: a bounded queue that nobody waits for, and a writer that folds floods. Refusals
//! of a wrong signature make a detour by a search for the mistake, which is bounded too: see [`searches`].

mod folder;
mod searches;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use hub::decision::{Act, Decision};
use hub::key_search::{Clue, KeySearch};
use hub::limits::DECISIONS_WAITING_MAX as QUEUE_MAX;
use hub::ports::clock::{Clock, Recorder};
use hub::ports::registry::Registry;
use hub::ports::secrets::Secrets;
use hub::strangers::shorten;
use tokio::sync::{Notify, mpsc, oneshot};

use self::folder::Folder;
use self::searches::Searches;

/// Decisions written in one transaction.
const BATCH_MAX: usize = 1_024;
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
    searches: Searches,
    lost: Arc<AtomicU64>,
    observer: Arc<OnceLock<Observer>>,
    /// Ends the gathering, for somebody waits.
    hurry: Arc<Notify>,
}

impl QueueRecorder {
    /// Starts the writer.
    pub(crate) fn start(
        registry: Arc<dyn Registry>,
        secrets: Arc<dyn Secrets>,
        clock: Arc<dyn Clock>,
        kept: u64,
    ) -> Arc<Self> {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let (observer, hurry) = (Arc::new(OnceLock::new()), Arc::new(Notify::new()));
        let writer = Writer {
            registry: registry.clone(),
            clock,
            kept,
            lost: lost.clone(),
            observer: observer.clone(),
            hurry: hurry.clone(),
        };
        tokio::spawn(writer.run(items));
        let searches = Searches::start(KeySearch { registry, secrets }, queue.clone());
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

    fn enqueue(&self, decision: Box<Decision>) {
        if self.queue.try_send(Item::Decision(decision)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn written(&self, ask: impl FnOnce(oneshot::Sender<()>) -> Item) {
        self.searches.settle().await;
        let (done, settled) = oneshot::channel();
        if self.queue.send(ask(done)).await.is_ok() {
            self.hurry.notify_one();
            let _ = settled.await;
        }
    }
}

impl Recorder for QueueRecorder {
    fn record(&self, decision: Decision) {
        self.enqueue(Box::new(decision));
    }

    fn observe(&self, decision: Decision) {
        // What goes on record keeps half of the queue for itself.
        if self.queue.capacity() > QUEUE_MAX / 2 {
            let _ = self.queue.try_send(Item::Observation(Box::new(decision)));
        }
    }

    fn search(&self, decision: Decision, clue: Box<Clue>) {
        if let Err(decision) = self.searches.take(Box::new(decision), clue) {
            self.enqueue(decision);
        }
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
    /// How many records the log keeps.
    kept: u64,
    lost: Arc<AtomicU64>,
    observer: Arc<OnceLock<Observer>>,
    hurry: Arc<Notify>,
}

impl Writer {
    async fn run(self, mut items: mpsc::Receiver<Item>) {
        let mut folder = Folder::new(Instant::now(), self.kept);
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
        records.iter_mut().for_each(|record| shorten(record));
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

#[cfg(test)]
mod tests {
    use hub::decision::{DecisionFilter, Origin};
    use hub::ports::secrets::Secrets;
    use jiff::Timestamp;
    use store::memory::MemoryRegistry;

    use super::*;
    use crate::secrets::KeyRing;

    struct StillClock;

    impl Clock for StillClock {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }
    }

    /// On one thread the writer runs only while somebody waits, so that all of these are in the queue at once.
    #[tokio::test]
    async fn what_the_queue_has_no_room_for_is_counted_in_a_gap() {
        const BEYOND: usize = 100;
        let place = tempfile::tempdir().expect("a directory");
        let registry: Arc<dyn Registry> = Arc::new(MemoryRegistry::new(1_000_000));
        let secrets: Arc<dyn Secrets> = Arc::new(KeyRing::open(place.path(), None).expect("opens"));
        let recorder = QueueRecorder::start(registry.clone(), secrets, Arc::new(StillClock), 1_000_000);
        for number in 0..QUEUE_MAX + BEYOND {
            let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
            // Each of its own, so that none folds.
            decision.identity = Some(format!("d{number}"));
            decision.origin = Origin::default();
            recorder.record(decision);
        }
        recorder.finish().await;
        let filter = DecisionFilter { limit: QUEUE_MAX + BEYOND, ..DecisionFilter::default() };
        let written = registry.decisions(filter).await.expect("reads");
        let (gaps, records): (Vec<_>, Vec<_>) =
            written.iter().map(|numbered| &numbered.record).partition(|record| record.act == Act::Gap);
        assert_eq!(gaps.iter().map(|gap| gap.count).sum::<u64>(), BEYOND as u64);
        assert_eq!(records.iter().map(|record| record.count).sum::<u64>(), QUEUE_MAX as u64);
    }
}
