//! What waits to be written. Producers encode into it under one lock; the writer takes it batch by batch.
//!
//! Buffers are used again, so an append allocates only until they have grown to the size of the load.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hub::ports::event_log::AppendError;
use hub::telemetry::{Message, Millis};

use super::lock;
use super::record::{self, Before};
use super::wakers::Wakers;

/// The queue between the producers and the writer.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    work: Condvar,
    bytes_max: usize,
}

#[derive(Debug)]
struct State {
    batches: VecDeque<Pending>,
    spare: Vec<Pending>,
    /// All that is not durable yet, what the writer holds included.
    bytes: usize,
    /// The position of the last ticket given.
    position: u64,
    /// The position of the last ticket that the writer took.
    taken: u64,
    /// The position that ends the writer's gathering.
    wake_at: u64,
    /// Set while the disk takes nothing.
    refusing: Option<AppendError>,
    closing: bool,
    /// The writer waits.
    idle: bool,
    rotate: Option<mpsc::Sender<()>>,
    /// Producers that were told that the queue is full.
    space_wanted: Wakers,
    partitions: usize,
}

/// The records of one commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    chunks: Vec<Chunk>,
    used: usize,
    /// The chunk that takes the next record of each partition.
    open: Vec<Option<usize>>,
    bytes: usize,
    /// The position of its last ticket.
    pub(super) position: u64,
}

/// A section in the making.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) partition: u16,
    pub(super) bytes: Vec<u8>,
    pub(super) events: u32,
    pub(super) last: u32,
    pub(super) base: Millis,
    pub(super) latest: Millis,
    before: Before,
}

/// What the writer waits for when something is there to write already.
///
/// Devices that send one message at a time all come back at once after a commit. Taking the first of them alone would
/// make the others wait for two syncs, and in the end split them into two crowds that take turns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Gather {
    /// So many tickets are enough.
    pub(super) tickets: u64,
    /// And so long at most.
    pub(super) time: Duration,
}

/// A shorter wait than this is over before the system has put the thread to sleep.
const GATHER_MIN: Duration = Duration::from_micros(20);

/// What the writer is to do next.
#[derive(Debug)]
pub(super) enum Work {
    Commit(Pending),
    /// Begin a new segment.
    Rotate(mpsc::Sender<()>),
    Close,
}

/// A section is closed when it is this large: readers check and decode whole sections.
const CHUNK_BYTES: usize = 128 * 1024;
/// A batch is closed when it is this large.
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many emptied batches are kept for their buffers.
const SPARE_MAX: usize = 2;

impl Queue {
    pub(super) fn new(partitions: usize, bytes_max: usize) -> Self {
        let state = State {
            batches: VecDeque::new(),
            spare: Vec::new(),
            bytes: 0,
            position: 0,
            taken: 0,
            wake_at: u64::MAX,
            refusing: None,
            closing: false,
            idle: false,
            rotate: None,
            space_wanted: Wakers::default(),
            partitions,
        };
        Self { state: Mutex::new(state), work: Condvar::new(), bytes_max }
    }

    /// Takes all messages or none, and gives the position of the ticket.
    pub(super) fn append(&self, partition: u16, messages: &[Message]) -> Result<u64, AppendError> {
        let needed = messages.iter().try_fold(0_usize, |sum, message| {
            let bytes = record::bytes_max(message).ok_or_else(|| {
                AppendError::Failed("the message has no form in this version of the journal".to_owned())
            })?;
            Ok(sum + bytes)
        })?;
        let mut state = lock(&self.state);
        if state.closing {
            return Err(AppendError::Closing);
        }
        if let Some(error) = &state.refusing {
            return Err(error.clone());
        }
        if state.bytes > 0 && state.bytes + needed > self.bytes_max {
            return Err(AppendError::Full { bytes: state.bytes });
        }
        state.position += 1;
        let position = state.position;
        let batch = state.open_batch();
        let before = batch.bytes;
        for message in messages {
            batch.push(partition, message);
        }
        batch.position = position;
        let added = batch.bytes - before;
        state.bytes += added;
        let wake = std::mem::take(&mut state.idle) || position >= state.wake_at;
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(position)
    }

    /// Ready once half of the queue is free again, so that those who waited do not meet a full one at once. Ready too
    /// when the queue takes nothing for another reason, which the next append then tells.
    pub(super) fn poll_space(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.closing || state.refusing.is_some() || state.bytes <= self.bytes_max / 2 {
            return Poll::Ready(());
        }
        state.space_wanted.add(cx.waker());
        Poll::Pending
    }

    /// Waits for work. Batches come first, so that closing drains.
    pub(super) fn next(&self, gather: Gather) -> Work {
        let mut state = lock(&self.state);
        let mut deadline = None;
        loop {
            if state.gathers(gather) {
                let now = Instant::now();
                let left = deadline.get_or_insert(now + gather.time).saturating_duration_since(now);
                if !left.is_zero() {
                    state.wake_at = state.taken + gather.tickets;
                    (state, _) = self.work.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
                    state.wake_at = u64::MAX;
                    continue;
                }
            }
            if let Some(batch) = state.batches.pop_front() {
                state.taken = batch.position;
                return Work::Commit(batch);
            }
            if let Some(reply) = state.rotate.take() {
                return Work::Rotate(reply);
            }
            if state.closing {
                return Work::Close;
            }
            state.idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Gives a committed batch back, and says how many tickets were given meanwhile.
    pub(super) fn committed(&self, mut batch: Pending) -> u64 {
        let mut state = lock(&self.state);
        state.bytes -= batch.bytes;
        if state.spare.len() < SPARE_MAX {
            batch.clear();
            state.spare.push(batch);
        }
        let meanwhile = state.position - state.taken;
        let ready =
            if state.bytes <= self.bytes_max / 2 { state.space_wanted.take() } else { Wakers::default() };
        drop(state);
        ready.wake();
        meanwhile
    }

    /// Drops all that waits and refuses what comes, until [`Queue::accept`]. Returns the last position given: all
    /// tickets up to it that are not durable have failed. What a device sent after a message that failed must
    /// not overtake it, so what waits behind falls with it.
    pub(super) fn refuse(&self, error: AppendError) -> u64 {
        let mut state = lock(&self.state);
        state.batches.clear();
        state.bytes = 0;
        state.rotate = None;
        state.taken = state.position;
        state.refusing = Some(error);
        let (position, ready) = (state.position, state.space_wanted.take());
        drop(state);
        ready.wake();
        position
    }

    /// Takes messages again.
    pub(super) fn accept(&self) {
        lock(&self.state).refusing = None;
    }

    /// Waits a while; true when the queue is closing.
    pub(super) fn closing_within(&self, time: Duration) -> bool {
        let state = lock(&self.state);
        let (state, _) = self
            .work
            .wait_timeout_while(state, time, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        state.closing
    }

    /// Takes nothing from now on; what waits is still written.
    pub(super) fn close(&self) {
        let mut state = lock(&self.state);
        state.closing = true;
        let ready = state.space_wanted.take();
        drop(state);
        self.work.notify_one();
        ready.wake();
    }

    /// Asks the writer to begin a new segment, and waits until it has. False when it did not.
    pub(super) fn rotate(&self) -> bool {
        let (reply, done) = mpsc::channel();
        {
            let mut state = lock(&self.state);
            if state.closing || state.refusing.is_some() || state.rotate.is_some() {
                return false;
            }
            state.rotate = Some(reply);
            state.idle = false;
        }
        self.work.notify_one();
        done.recv().is_ok()
    }
}

impl State {
    /// Whether the writer should wait for more before it takes the one batch that there is.
    fn gathers(&self, gather: Gather) -> bool {
        let alone = self.batches.len() == 1 && self.batches[0].bytes < BATCH_BYTES;
        alone && !self.closing && gather.time >= GATHER_MIN && self.position - self.taken < gather.tickets
    }

    fn open_batch(&mut self) -> &mut Pending {
        if self.batches.back().is_none_or(|batch| batch.bytes >= BATCH_BYTES) {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.open.resize(self.partitions, None);
            self.batches.push_back(batch);
        }
        self.batches.back_mut().expect("a batch was pushed if there was none")
    }
}

impl Pending {
    /// The sections, in the order in which they were begun.
    pub(super) fn chunks(&self) -> &[Chunk] {
        &self.chunks[..self.used]
    }

    /// How many bytes the sections have together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn push(&mut self, partition: u16, message: &Message) {
        let at = match self.open[usize::from(partition)] {
            Some(at) if self.chunks[at].bytes.len() < CHUNK_BYTES => at,
            _ => self.begin_chunk(partition, message.enqueued),
        };
        self.bytes += self.chunks[at].push(message);
    }

    fn begin_chunk(&mut self, partition: u16, base: Millis) -> usize {
        let at = self.used;
        if at == self.chunks.len() {
            self.chunks.push(Chunk::default());
        }
        self.used += 1;
        self.open[usize::from(partition)] = Some(at);
        let chunk = &mut self.chunks[at];
        (chunk.partition, chunk.base, chunk.latest) = (partition, base, base);
        at
    }

    fn clear(&mut self) {
        for chunk in &mut self.chunks[..self.used] {
            chunk.bytes.clear();
            chunk.before.clear();
            (chunk.events, chunk.last) = (0, 0);
        }
        self.open.fill(None);
        (self.used, self.bytes, self.position) = (0, 0, 0);
    }
}

impl Chunk {
    fn push(&mut self, message: &Message) -> usize {
        let start = self.bytes.len();
        record::write(&mut self.bytes, message, self.base, &mut self.before);
        self.last = start as u32;
        self.events += 1;
        self.latest = self.latest.max(message.enqueued);
        self.bytes.len() - start
    }
}
