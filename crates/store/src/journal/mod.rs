//! The embedded event log: all partitions share one journal of segment files, so that one `fdatasync` serves
//! everybody.
//!
//! **Writing.** [`Journal::append`](EventLog::append) encodes into a shared queue and returns. One thread takes what
//! has gathered, writes it as one batch, syncs, and only then moves the watermarks that acknowledge devices and show
//! events to readers. There is never more than one batch in flight.
//!
//! **Power loss.** What was acknowledged or read was synced before. A batch that was being written is torn and cut
//! at the next start. A bad batch that something follows is damage: it is named ([`Journal::damages`]) and passed
//! over, and everything else is kept. Sequence numbers are given out once ever; see `batch` for how a single
//! readable head restores them.
//!
//! **Failures.** A failed sync ends the file: whatever its tail holds does not count, because the header of the
//! next segment says where this one ends. With the failed batch falls everything that waited behind it, and until a
//! probe can be written and synced, appends are refused; so no message of a device overtakes one that failed.
//!
//! **Files.** `segment` describes the segment files, `batch` and `record` what is in them, `index` the index files.
//! All integers on disk are little endian.
//!
//! **Bounds.** `pending_bytes_max` bounds what waits for the disk (beyond it: [`AppendError::Full`]),
//! `recent_bytes_max` what is kept for readers at the tail. A read holds about what it returns.

mod ahead;
mod batch;
mod codec;
#[doc(hidden)]
pub mod counting;
mod damage;
mod disk;
mod ends;
#[doc(hidden)]
pub mod fuzzing;
mod index;
mod placement;
mod prune;
mod queue;
mod reach;
mod reader;
mod recent;
mod record;
mod recovery;
mod reserve;
mod scan;
mod scrub;
mod section;
mod segment;
mod segments;
mod tickets;
mod wakers;
mod walk;
mod writer;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::Duration;

use hub::belongings::Reach;
use hub::placement::Placement;
use hub::ports::BoxFuture;
use hub::ports::event_log::{AppendError, Bounds, EventLog, ReadError, StartPosition, StoredEvent, Ticket};
use hub::telemetry::{Message, Millis};

pub use damage::{Damage, Harm, Lost};
pub use disk::{Directory, Disk, DiskFile, Space};
pub use recovery::{Cut, OpenError, Recovery};
pub use reserve::reserve_of;
pub(crate) use tickets::Tickets;

use ends::Ends;
use queue::Queue;
use recent::Recent;
use segments::Segments;
use writer::{Active, Writer};

/// How a journal is set up.
#[derive(Debug, Clone)]
pub struct JournalConfig {
    /// How many partitions a new journal gets, 1 to 128. An old one must have as many. Default 4.
    pub partitions: u16,
    /// A segment is ended when it is this large. Default 64 MiB.
    pub segment_bytes: u64,
    /// How much may wait for the disk. Default 32 MiB.
    pub pending_bytes_max: usize,
    /// How much of the newest events is kept in memory for readers. Default 16 MiB.
    pub recent_bytes_max: usize,
    /// How long events are kept at least. Default one day.
    pub retention: Duration,
    /// How large the journal may grow before older events are dropped early. Default: no such bound.
    pub bytes_max: Option<u64>,
    /// How much of the disk is left to others, in bytes; beyond that messages are refused as on a full disk. Default: a
    /// twentieth of the disk, 1 GiB at most.
    pub reserve_bytes: Option<u64>,
    /// How long the writer waits for more messages at most, and never longer than four commits take, when
    /// as many as last time may still be coming. Default 1 ms; zero writes at once.
    pub gather_max: Duration,
    /// How much room small batches find ahead of them, so that they overwrite instead of growing the file. Default 256 KiB; zero lets
    /// the file grow with each batch.
    pub ahead_bytes: u64,
    /// How long a disk that failed is left alone before it is tried again. Default 200 ms.
    pub retry_after: Duration,
    /// How far each partition reached, as far as is known. A journal that reaches less far does not open. Default: nothing
    /// is known.
    pub known: Vec<Reach>,
    /// Whether a journal that lacks events opens all the same, and goes on behind them. Default: false.
    pub accept_loss: bool,
    /// Is told how long each batch took to become durable; must return at once. Default: nobody.
    pub on_commit: Option<OnCommit>,
}

/// Is told how long a batch took to become durable.
#[derive(Clone)]
pub struct OnCommit(pub Arc<dyn Fn(Duration) + Send + Sync>);

impl std::fmt::Debug for OnCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnCommit")
    }
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self {
            partitions: 4,
            segment_bytes: 64 * 1024 * 1024,
            pending_bytes_max: 32 * 1024 * 1024,
            recent_bytes_max: 16 * 1024 * 1024,
            retention: Duration::from_secs(24 * 60 * 60),
            bytes_max: None,
            reserve_bytes: None,
            gather_max: Duration::from_millis(1),
            ahead_bytes: ahead::AHEAD_BYTES,
            retry_after: writer::RETRY_AFTER,
            known: Vec::new(),
            accept_loss: false,
            on_commit: None,
        }
    }
}

/// The embedded event log.
pub struct Journal {
    shared: Arc<Shared>,
    recovery: Recovery,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer, the producers and the readers share.
struct Shared {
    config: JournalConfig,
    placement: Placement,
    queue: Queue,
    tickets: Tickets,
    ends: Ends,
    recent: Recent,
    segments: Segments,
    damages: Mutex<Vec<Damage>>,
}

/// How many damages are remembered; all are logged.
const DAMAGES_MAX: usize = 1000;

impl Journal {
    /// Opens the journal in a directory, or makes one there. Blocks while it reads the newest segment.
    pub fn open(path: &Path, config: JournalConfig) -> Result<Self, OpenError> {
        match Directory::open(path) {
            Ok(directory) => Self::on_disk(Arc::new(directory), config),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Err(OpenError::Locked),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens the journal on a disk of the caller's making, which nobody else may use meanwhile.
    pub fn on_disk(disk: Arc<dyn Disk>, config: JournalConfig) -> Result<Self, OpenError> {
        if !(1..=128).contains(&config.partitions) {
            return Err(OpenError::PartitionCount(config.partitions));
        }
        let placement = placement::of(&*disk)?;
        let mut found = recovery::recover(&*disk, config.partitions)?;
        let goes_on_behind = reach::compare(&mut found, &config.known, config.accept_loss)?;
        let partitions = usize::from(config.partitions);
        let firsts = found.table.first().map_or(&found.ends, |oldest| &oldest.starts);
        let shared = Arc::new(Shared {
            queue: Queue::new(partitions, config.pending_bytes_max),
            tickets: Tickets::default(),
            ends: Ends::new(firsts, &found.ends),
            recent: Recent::new(partitions, config.recent_bytes_max),
            segments: Segments::new(disk, found.table.clone()),
            damages: Mutex::new(found.report.damages.clone()),
            config,
            placement,
        });
        let active = match found.table.last() {
            // The header of the next segment says where the events go on.
            Some(_) if goes_on_behind => None,
            Some(newest) => {
                let opened = shared.segments.open(newest, None)?;
                Some(Active::new(Arc::clone(newest), opened, found.begun))
            }
            None => None,
        };
        let mut writer = Writer::new(Arc::clone(&shared), active, found.ends, found.next_number);
        writer.begin()?;
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(|| writer.run())?;
        Ok(Self { shared, recovery: found.report, writer: Mutex::new(Some(thread)) })
    }

    /// What was found when the journal was opened.
    pub fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    /// All damage found so far, at opening or by a reader; at most the first thousand.
    pub fn damages(&self) -> Vec<Damage> {
        lock(&self.shared.damages).clone()
    }

    /// The space of the disk, and how much of it is left to others; `None` where the disk does not tell.
    pub fn space(&self) -> io::Result<Option<(Space, u64)>> {
        let space = self.shared.segments.disk.space()?;
        Ok(space.map(|space| (space, reserve_of(self.shared.config.reserve_bytes, space))))
    }

    /// How many bytes the segments take.
    pub fn bytes(&self) -> u64 {
        self.shared.segments.table().iter().map(|segment| segment.size()).sum()
    }

    /// Drops the segments whose events are all older than the retention, and the oldest ones beyond the size bound.
    /// Blocks; to be called now and then, off the asynchronous threads. Returns how many were dropped.
    pub fn prune(&self, now: Millis) -> io::Result<usize> {
        self.prune_telling(now, |_| {})
    }

    /// The same. Before the first segment goes, somebody is told of the first numbers that each partition will have.
    pub fn prune_telling(&self, now: Millis, tell: impl FnOnce(&[u64])) -> io::Result<usize> {
        self.shared.prune(now, tell)
    }

    /// How far each partition reaches.
    pub fn reach(&self) -> Vec<Reach> {
        let bounds =
            (0..self.shared.config.partitions).filter_map(|partition| self.shared.ends.bounds(partition));
        let reach = |bounds: Bounds| Reach {
            first: bounds.first_sequence,
            next: bounds.next_sequence,
            last_offset: bounds.last_offset.unwrap_or_default(),
        };
        bounds.map(reach).collect()
    }

    /// Reads the first segment behind the one of this number that takes no more batches, and names what is damaged
    /// ([`Self::damages`]). Gives its number and how many bytes were read; `None` when there is no other. Blocks.
    pub fn scrub(&self, after: Option<u64>) -> io::Result<Option<(u64, u64)>> {
        self.shared.scrub(after)
    }

    /// Takes nothing more, writes what waits, and ends. Blocks until that is done.
    pub fn close(&self) {
        self.shared.queue.close();
        let thread = lock(&self.writer).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the journal's thread panicked");
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.close();
    }
}

impl EventLog for Journal {
    fn partition_count(&self) -> u16 {
        self.shared.config.partitions
    }

    fn placement(&self) -> Placement {
        self.shared.placement
    }

    fn append(&self, partition: u16, messages: &[Message]) -> Result<Ticket, AppendError> {
        if usize::from(partition) >= self.shared.ends.count() {
            return Err(AppendError::NoPartition(partition));
        }
        let position = self.shared.queue.append(partition, messages)?;
        Ok(Ticket { partition, position })
    }

    fn poll_space(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.queue.poll_space(cx)
    }

    fn poll_durable(&self, ticket: Ticket, cx: &mut Context<'_>) -> Poll<Result<(), AppendError>> {
        self.shared.tickets.poll(ticket.position, cx)
    }

    fn bounds(&self, partition: u16) -> Option<Bounds> {
        self.shared.ends.bounds(partition)
    }

    fn find(&self, partition: u16, start: StartPosition) -> BoxFuture<'_, Result<u64, ReadError>> {
        match start {
            StartPosition::Offset { .. } | StartPosition::Enqueued { .. } => {
                let shared = Arc::clone(&self.shared);
                Box::pin(aside(move || shared.find_start(partition, start)))
            }
            // Known without a look into the files. Fixed now, not when the future is first polled.
            _ => Box::pin(std::future::ready(self.shared.find_start(partition, start))),
        }
    }

    fn read(
        &self,
        partition: u16,
        from: u64,
        events_max: usize,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Vec<StoredEvent>, ReadError>> {
        Box::pin(async move {
            if let Some(events) = self.shared.read_recent(partition, from, events_max, bytes_max)? {
                return Ok(events);
            }
            let shared = Arc::clone(&self.shared);
            aside(move || shared.read_files(partition, from, events_max, bytes_max)).await
        })
    }

    fn poll_readable(&self, partition: u16, from: u64, cx: &mut Context<'_>) -> Poll<()> {
        self.shared.ends.poll_readable(partition, from, cx)
    }
}

impl Shared {
    /// Remembers damage that a reader came upon, and tells the operator the first time.
    fn report(&self, damage: Damage) {
        let mut damages = lock(&self.damages);
        let known = |known: &Damage| {
            known.segment == damage.segment
                && known.position <= damage.position
                && damage.position < known.position + known.bytes.max(1)
        };
        if damages.iter().any(known) {
            return;
        }
        damage.log();
        if damages.len() < DAMAGES_MAX {
            damages.push(damage);
        }
    }
}

/// Runs what blocks on a thread for such work; without a runtime (a test, a tool) right here.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(ReadError::Failed(error.to_string())),
        },
        Err(_) => work(),
    }
}

/// Locks, whatever happened to the thread that held it last: nothing that is done under a lock here can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
