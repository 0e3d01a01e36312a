//! The one thread that writes: take a batch, write it, sync, tell everybody, again.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hub::ports::event_log::AppendError;
use hub::telemetry::Millis;

use super::ahead::Ahead;
use super::batch::{self, End, Head, Placed, Section};
use super::disk::{DiskFile, write_all};
use super::index::Index;
use super::queue::{Gather, Pending, Work};
use super::reserve::Reserve;
use super::segment::{self, Header};
use super::segments::{Opened, Segment, save_index};
use super::{OnCommit, Shared, lock};

/// The state of the writing thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    /// The segment that takes batches; `None` after a failure ended it.
    active: Option<Active>,
    /// Where each partition stands durably.
    ends: Vec<End>,
    next_number: u64,
    gather: Gather,
    /// How long a commit takes, smoothed.
    commit_time: Duration,
    crowded: Crowded,
    reserve: Reserve,
}

/// The writer waits for senders that came back together last time for as long as so many commits take. Those whose packets come in at
/// another processor than the one that serves them come back one by one: with half of a commit's time a batch had 15 messages of
/// 100 senders, and a message took a third more of a processor.
const GATHER_COMMITS: u32 = 4;

/// What is known of a lack of descriptors, which must not end what goes on without one more.
#[derive(Debug, Default)]
struct Crowded {
    /// No segment is begun before this.
    until: Option<Instant>,
    /// When the operator was told last.
    told: Option<Instant>,
}

impl Crowded {
    /// Whether to wait for a descriptor instead of failing.
    fn takes(&mut self, error: &io::Error, now: Instant) -> bool {
        if !lacks_descriptors(error) {
            return false;
        }
        self.until = Some(now + DESCRIPTOR_RETRY);
        if self.told.is_none_or(|told| now.duration_since(told) >= TELL_EVERY) {
            self.told = Some(now);
            tracing::warn!(%error, "no new journal segment can be begun; the one that is full goes on");
        }
        true
    }

    fn waits(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

fn lacks_descriptors(error: &io::Error) -> bool {
    let lacks = [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE];
    lacks.iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

/// How long a full segment goes on before a descriptor for the next one is asked for again.
const DESCRIPTOR_RETRY: Duration = Duration::from_millis(200);
/// How often the operator is told of it.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// The segment that takes batches.
pub(super) struct Active {
    segment: Arc<Segment>,
    opened: Arc<Opened>,
    ahead: Ahead,
    /// The latest time in its first batch.
    begun: Option<Millis>,
}

impl Active {
    pub(super) fn new(segment: Arc<Segment>, opened: Arc<Opened>, begun: Option<Millis>) -> Self {
        let ahead = Ahead::of(segment.size());
        Self { segment, opened, ahead, begun }
    }
}

impl Active {
    /// Takes away the room that is ahead: the file ends with its last batch. Zeros that stay do no harm.
    fn end_here(&mut self) {
        let (file, size) = (&self.opened.file, self.segment.size());
        if !self.ahead.is_beyond(size) {
            return;
        }
        match file.truncate(size).and_then(|()| file.sync()) {
            Ok(()) => self.ahead.cut(size),
            Err(error) => tracing::debug!(%error, segment = self.segment.number, "a segment keeps its zeros"),
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, active: Option<Active>, ends: Vec<End>, next_number: u64) -> Self {
        let (gather, commit_time) = (Gather::default(), Duration::ZERO);
        let (crowded, reserve) = (Crowded::default(), Reserve::new(shared.config.reserve_bytes));
        Self { shared, active, ends, next_number, gather, commit_time, crowded, reserve }
    }

    /// Writes until the queue is closed and drained.
    pub(super) fn run(mut self) {
        let guard = Guard(Arc::clone(&self.shared));
        loop {
            match self.shared.queue.next(self.gather) {
                Work::Commit(batch) => {
                    let start = Instant::now();
                    match self.commit(&batch) {
                        Ok(()) => self.committed(batch, start.elapsed()),
                        Err(error) if self.refuse_until_writable(&error) => break,
                        Err(_) => {}
                    }
                }
                Work::Rotate(reply) => {
                    if let Err(error) = self.begin_segment() {
                        tracing::warn!(%error, "no new journal segment could be begun");
                    }
                    // Nobody waits any longer: nothing to tell.
                    let _ = reply.send(());
                }
                Work::Close => break,
            }
        }
        self.seal();
        drop(guard);
    }

    /// Tells the producers, and learns how many of them come back together.
    fn committed(&mut self, batch: Pending, time: Duration) {
        if let Some(OnCommit(told)) = &self.shared.config.on_commit {
            told(time);
        }
        let position = batch.position;
        // Room first: who is woken may append at once.
        let meanwhile = self.shared.queue.committed(batch);
        let settled = self.shared.tickets.settle(position, Ok(()));
        self.commit_time = (self.commit_time * 3 + time) / 4;
        let time = (self.commit_time * GATHER_COMMITS).min(self.shared.config.gather_max);
        self.gather = Gather { tickets: settled + meanwhile, time };
    }

    /// Makes sure that there is a segment to write to.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        if self.active.is_none() { self.begin_segment() } else { Ok(()) }
    }

    fn commit(&mut self, batch: &Pending) -> io::Result<()> {
        if batch.chunks().is_empty() {
            return Ok(());
        }
        self.reserve.allows(&*self.shared.segments.disk, batch.bytes() as u64, Instant::now())?;
        if self.active.as_ref().is_none_or(|active| self.is_full(active)) {
            self.follow_on()?;
        }
        let Some(active) = &mut self.active else { return Err(ErrorKind::NotFound.into()) };
        let position = active.segment.size();
        let (head, bytes) = encode(batch, &self.ends, active.segment.salt.unwrap_or_default(), position);
        let more = self.shared.config.ahead_bytes;
        active.ahead.make_room(&*active.opened.file, position, bytes.len(), more);
        if let Err(error) = write_durably(&*active.opened.file, &bytes, position) {
            active.ahead.cut(position);
            if error.ends_file {
                tracing::error!(segment = active.segment.number, error = %error.source, "a journal segment ends");
                active.segment.set_opened(None);
                self.active = None;
            }
            return Err(error.source);
        }
        if active.begun.is_none() {
            active.begun = head.sections.iter().map(|section| section.latest).max();
        }
        {
            let mut index = lock(&active.opened.index);
            head.placed().for_each(|placed| index.add(placed.section.partition, &placed.before, position));
        }
        active.segment.size.store(head.batch_end(), Ordering::Release);
        self.publish(&head, &bytes);
        Ok(())
    }

    fn publish(&mut self, head: &Head, bytes: &Bytes) {
        let slice = |placed: Placed| {
            let start = (placed.position - head.position) as usize;
            (placed, bytes.slice(start..start + placed.section.bytes as usize))
        };
        self.shared.recent.push(head.placed().map(slice));
        let after = head.ends_after();
        for (partition, (old, new)) in self.ends.iter().zip(&after).enumerate() {
            if old != new {
                self.shared.ends.publish(partition as u16, *new);
            }
        }
        self.ends = after;
    }

    fn is_full(&self, active: &Active) -> bool {
        let config = &self.shared.config;
        let newest = self.ends.iter().map(|end| end.last_time).max().unwrap_or_default();
        // Retention drops whole segments: a slow one must not hold a day's events back until it is full.
        let stretch = Millis::try_from((config.retention / SEGMENTS_PER_RETENTION).as_millis());
        let stretch = stretch.unwrap_or(Millis::MAX);
        // After a clock went back, stream time stands still, and what comes is older than it.
        let stood = active.segment.starts.iter().map(|start| start.last_time).max().unwrap_or_default();
        active.segment.size() >= config.segment_bytes
            || active.begun.is_some_and(|begun| newest.saturating_sub(begun.max(stood)) > stretch)
    }

    /// Begins a new segment, or goes on with the full one as long as there is no descriptor for another.
    fn follow_on(&mut self) -> io::Result<()> {
        let now = Instant::now();
        if self.active.is_some() && self.crowded.waits(now) {
            return Ok(());
        }
        match self.begin_segment() {
            Err(error) if self.active.is_some() && self.crowded.takes(&error, now) => Ok(()),
            outcome => {
                self.crowded.until = None;
                outcome
            }
        }
    }

    /// Begins a new segment. Nothing in it counts before its header and its name are durable.
    fn begin_segment(&mut self) -> io::Result<()> {
        if let Some(full) = &mut self.active {
            full.end_here();
        }
        let disk = &self.shared.segments.disk;
        let number = self.next_number;
        // A number is never used twice, so that what a failed attempt leaves behind is in nobody's way.
        self.next_number += 1;
        let header = Header::new(number, self.ends.clone());
        let bytes = header.write();
        let name = segment::name(number);
        let file = disk.create(&name)?;
        let begun = write_all(&*file, &bytes, 0).and_then(|()| file.sync()).and_then(|()| disk.sync());
        if let Err(error) = begun {
            let _ = disk.remove(&name);
            return Err(error);
        }
        if let Some(sealed) = self.active.take() {
            save_index(&**disk, &sealed.segment, &lock(&sealed.opened.index));
            // From now on it is opened when somebody reads that far back.
            sealed.segment.set_opened(None);
        }
        let size = bytes.len() as u64;
        let segment = Segment::new(number, Some(header.salt), header.starts, size, size);
        let opened = Arc::new(Opened::new(file, Index::new(self.ends.len())));
        segment.set_opened(Some(Arc::clone(&opened)));
        let segment = Arc::new(segment);
        self.shared.segments.push(Arc::clone(&segment));
        self.active = Some(Active::new(segment, opened, None));
        Ok(())
    }

    /// Fails all that waits, and takes nothing until the disk takes a probe. True when the queue closes first.
    fn refuse_until_writable(&mut self, error: &io::Error) -> bool {
        tracing::error!(%error, "the journal cannot be written; nothing is accepted until it can");
        let failure = explain(error);
        let position = self.shared.queue.refuse(failure.clone());
        self.shared.tickets.settle(position, Err(failure));
        while !self.shared.queue.closing_within(self.shared.config.retry_after) {
            match self.probe().and_then(|()| self.begin()) {
                Ok(()) => {
                    tracing::info!("the journal can be written again");
                    self.shared.queue.accept();
                    return false;
                }
                Err(error) => tracing::debug!(%error, "the journal still cannot be written"),
            }
        }
        true
    }

    /// Whether the disk takes and keeps a little.
    fn probe(&mut self) -> io::Result<()> {
        let disk = &self.shared.segments.disk;
        self.reserve.look(&**disk)?;
        if disk.names()?.iter().any(|name| name == PROBE_NAME) {
            disk.remove(PROBE_NAME)?;
        }
        let file = disk.create(PROBE_NAME)?;
        let written = write_all(&*file, &[0; PROBE_BYTES], 0).and_then(|()| file.sync());
        disk.remove(PROBE_NAME)?;
        written
    }

    /// Says in the file that nothing follows, so that damage to its last batch is not taken for a torn tail.
    fn seal(&mut self) {
        let Some(active) = &mut self.active else { return };
        active.end_here();
        let position = active.segment.size();
        let head = Head {
            flags: batch::CLOSED,
            salt: active.segment.salt.unwrap_or_default(),
            position,
            head_bytes: Head::bytes(self.ends.len(), 0) as u32,
            body_bytes: 0,
            ends: self.ends.clone(),
            sections: Vec::new(),
        };
        let mut bytes = Vec::with_capacity(head.head_bytes as usize);
        head.write(&mut bytes);
        if let Err(error) = write_durably(&*active.opened.file, &bytes, position) {
            tracing::warn!(error = %error.source, "the journal could not be closed in order");
        }
    }
}

/// When the thread ends, however it ends, nobody is left waiting.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.queue.close();
        let position = self.0.queue.refuse(AppendError::Closing);
        self.0.tickets.settle(position, Err(AppendError::Closing));
    }
}

/// One retention time is spread over at least so many segments.
const SEGMENTS_PER_RETENTION: u32 = 8;
const PROBE_NAME: &str = "probe";
/// More than a file system gives from its last free block.
const PROBE_BYTES: usize = 256 * 1024;

pub(super) fn encode(batch: &Pending, ends: &[End], salt: u64, position: u64) -> (Head, Bytes) {
    let section = |chunk: &super::queue::Chunk| Section {
        partition: chunk.partition,
        events: chunk.events,
        bytes: chunk.bytes.len() as u32,
        crc: crc32c::crc32c(&chunk.bytes),
        last: chunk.last,
        base: chunk.base,
        latest: chunk.latest,
    };
    let sections: Vec<_> = batch.chunks().iter().map(section).collect();
    let head_bytes = Head::bytes(ends.len(), sections.len());
    let head = Head {
        flags: 0,
        salt,
        position,
        head_bytes: head_bytes as u32,
        body_bytes: batch.bytes() as u32,
        ends: ends.to_vec(),
        sections,
    };
    let mut bytes = Vec::with_capacity(head_bytes + batch.bytes());
    head.write(&mut bytes);
    batch.chunks().iter().for_each(|chunk| bytes.extend_from_slice(&chunk.bytes));
    (head, bytes.into())
}

struct WriteFailure {
    source: io::Error,
    /// Whether the file can take nothing any more.
    ends_file: bool,
}

fn write_durably(file: &dyn DiskFile, bytes: &[u8], position: u64) -> Result<(), WriteFailure> {
    if let Err(source) = write_all(file, bytes, position) {
        // What was not written can be cut off again. If it cannot, or the disk is broken and not just full, the
        // next segment goes on from where this one is durable.
        let cut = file.truncate(position);
        return Err(WriteFailure { ends_file: cut.is_err() || !is_full(&source), source });
    }
    if let Err(source) = file.sync() {
        // A failed sync may have dropped the pages and called them clean: no later sync of this file means anything.
        // The next segment's header says that this batch does not count; cutting it off is for tidiness.
        let _ = file.truncate(position);
        return Err(WriteFailure { ends_file: true, source });
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge | ErrorKind::WriteZero
    )
}

fn explain(error: &io::Error) -> AppendError {
    if is_full(error) { AppendError::NoSpace } else { AppendError::Failed(error.to_string()) }
}

/// The shortest sensible pause between two probes.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(200);
