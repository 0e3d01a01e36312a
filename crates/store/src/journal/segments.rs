//! The segments that there are, oldest first, and the few of them that are open to read.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use bytes::BytesMut;

use super::batch::End;
use super::disk::{Disk, DiskFile, read_full, write_all};
use super::index::{Index, Target};
use super::scan::{self, ScanError};
use super::{lock, segment};

/// One segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: Option<u64>,
    /// Where each partition stood at its start.
    pub(super) starts: Vec<End>,
    /// Where the header ends.
    pub(super) begin: u64,
    /// How much of the file is durable.
    pub(super) size: AtomicU64,
    opened: Mutex<Option<Arc<Opened>>>,
}

/// A segment that is open to read.
pub(super) struct Opened {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) index: Mutex<Index>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").finish_non_exhaustive()
    }
}

impl Segment {
    pub(super) fn new(number: u64, salt: Option<u64>, starts: Vec<End>, begin: u64, size: u64) -> Self {
        Self { number, salt, starts, begin, size: AtomicU64::new(size), opened: Mutex::new(None) }
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    pub(super) fn set_opened(&self, opened: Option<Arc<Opened>>) {
        *lock(&self.opened) = opened;
    }
}

/// All segments.
pub(super) struct Segments {
    pub(super) disk: Arc<dyn Disk>,
    table: RwLock<Vec<Arc<Segment>>>,
    /// The numbers of the sealed segments that are open, the one used longest ago first.
    open: Mutex<VecDeque<u64>>,
}

/// How many sealed segments are open at once: each costs a file descriptor and its index.
const OPEN_MAX: usize = 16;

impl Segments {
    pub(super) fn new(disk: Arc<dyn Disk>, table: Vec<Arc<Segment>>) -> Self {
        Self { disk, table: RwLock::new(table), open: Mutex::default() }
    }

    pub(super) fn push(&self, segment: Arc<Segment>) {
        self.table.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// A copy of the table: it is short, and no lock is held while files are read.
    pub(super) fn table(&self) -> Vec<Arc<Segment>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The segment to look for a target in, and the one after it.
    pub(super) fn holding(
        &self,
        partition: u16,
        target: Target,
    ) -> Option<(Arc<Segment>, Option<Arc<Segment>>)> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let after =
            table.partition_point(|segment| target.not_before(&segment.starts[usize::from(partition)]));
        let at = after.saturating_sub(1);
        Some((Arc::clone(table.get(at)?), table.get(at + 1).cloned()))
    }

    /// Takes the oldest segment out of the table, if it is this one and not the newest, and returns the new oldest.
    pub(super) fn forget_oldest(&self, number: u64) -> Option<Arc<Segment>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if table.len() < 2 || table[0].number != number {
            return None;
        }
        let gone = table.remove(0);
        gone.set_opened(None);
        lock(&self.open).retain(|open| *open != number);
        table.first().cloned()
    }

    /// Opens a segment to read. `next` is the one after it; there is one unless the segment is being written.
    pub(super) fn open(&self, segment: &Segment, next: Option<&Segment>) -> Result<Arc<Opened>, ScanError> {
        let opened = {
            let mut slot = lock(&segment.opened);
            match &*slot {
                Some(opened) => Arc::clone(opened),
                None => {
                    let opened = Arc::new(self.open_file(segment, next)?);
                    *slot = Some(Arc::clone(&opened));
                    opened
                }
            }
        };
        if next.is_some() {
            self.used(segment.number);
        }
        Ok(opened)
    }

    fn open_file(&self, segment: &Segment, next: Option<&Segment>) -> Result<Opened, ScanError> {
        let file = self.disk.open(&segment::name(segment.number))?;
        let index = match self.load_index(segment) {
            Some(index) => index,
            None => {
                let limit = next.map(|next| next.starts.as_slice());
                let found = scan::scan(segment, Arc::clone(&file), limit, false)?;
                if next.is_some() {
                    save_index(&*self.disk, segment, &found.index);
                }
                found.index
            }
        };
        Ok(Opened::new(file, index))
    }

    fn used(&self, number: u64) {
        let evicted = {
            let mut open = lock(&self.open);
            open.retain(|other| *other != number);
            open.push_back(number);
            if open.len() > OPEN_MAX { open.pop_front() } else { None }
        };
        let Some(evicted) = evicted else { return };
        if let Some(segment) = self.table().iter().find(|segment| segment.number == evicted) {
            segment.set_opened(None);
        }
    }

    fn load_index(&self, segment: &Segment) -> Option<Index> {
        let file = self.disk.open(&segment::index_name(segment.number)).ok()?;
        let size = usize::try_from(file.size().ok()?).ok().filter(|size| *size <= INDEX_BYTES_MAX)?;
        let mut bytes = BytesMut::zeroed(size);
        let filled = read_full(&*file, &mut bytes, 0).ok()?;
        bytes.truncate(filled);
        Index::read(&bytes.freeze(), segment.number, segment.salt?, segment.starts.len())
    }
}

/// Writes the index of a sealed segment beside it. It is not synced: a torn one is made again.
pub(super) fn save_index(disk: &dyn Disk, segment: &Segment, index: &Index) {
    let Some(salt) = segment.salt else { return };
    let name = segment::index_name(segment.number);
    let write = || -> io::Result<()> {
        if let Err(error) = disk.remove(&name)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        write_all(&*disk.create(&name)?, &index.write(segment.number, salt), 0)
    };
    if let Err(error) = write() {
        tracing::warn!(segment = segment.number, %error, "the index of a segment could not be written");
        // Half an index does not fit its checksum, so it is only in the way.
        let _ = disk.remove(&name);
    }
}

/// No index file is larger: an entry for each 64 KiB of each of 128 partitions in the largest segment.
const INDEX_BYTES_MAX: usize = 256 * 1024 * 1024;
