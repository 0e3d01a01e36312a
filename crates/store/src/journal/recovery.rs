//! Opening a journal: reading the headers, looking through the newest segment, cutting a torn tail.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hub::belongings::Loss;

use super::ahead;
use super::batch::End;
use super::damage::{Damage, Harm};
use super::disk::{Disk, DiskFile, read_full, write_all};
use super::index::Index;
use super::scan::{self, ScanError};
use super::segment::{self, HEADER_BYTES_MAX, Header, HeaderError};
use super::segments::{Opened, Segment};
use super::walk::{Step, Walk, WalkError};

/// What opening a journal found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// How many segments there are.
    pub segments: usize,
    /// Whether the journal had been closed in order (or is new).
    pub clean: bool,
    /// The torn tail that was cut, never acknowledged to anybody.
    pub cut: Option<Cut>,
    /// What is damaged and was passed over.
    pub damages: Vec<Damage>,
}

/// A torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The number of the segment.
    pub segment: u64,
    /// Where it was cut.
    pub position: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

/// Why a journal does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Somebody else has it open.
    #[error("the journal is in use by another process")]
    Locked,
    /// The number of partitions is fixed when a journal is made.
    #[error("the journal was made with {found} partitions, not {asked}; the number cannot be changed")]
    Partitions {
        /// What was asked for.
        asked: u16,
        /// What the journal has.
        found: u16,
    },
    /// The number of partitions is out of range.
    #[error("a journal has 1 to 128 partitions, not {0}")]
    PartitionCount(u16),
    /// It was written by a newer program.
    #[error("journal segment {segment} was written by a newer program: {problem}")]
    Newer {
        /// The number of the segment.
        segment: u64,
        /// What is not understood.
        problem: String,
    },
    /// Events that were there are missing.
    #[error("the journal lacks events")]
    Lost(Vec<Loss>),
    /// The disk failed.
    #[error("the journal cannot be opened")]
    Io(#[from] io::Error),
}

impl From<ScanError> for OpenError {
    fn from(error: ScanError) -> Self {
        match error {
            ScanError::Io(source) | ScanError::Walk { source: WalkError::Io(source), .. } => Self::Io(source),
            ScanError::Walk { segment, source } => Self::Newer { segment, problem: source.to_string() },
        }
    }
}

/// A journal as it was found.
pub(super) struct Recovered {
    pub(super) table: Vec<Arc<Segment>>,
    /// Where each partition stands.
    pub(super) ends: Vec<End>,
    pub(super) next_number: u64,
    /// The latest time in the first batch of the newest segment.
    pub(super) begun: Option<i64>,
    pub(super) report: Recovery,
}

/// Reads what is there and leaves it in order, on stable storage.
pub(super) fn recover(disk: &dyn Disk, partitions: u16) -> Result<Recovered, OpenError> {
    let names: HashSet<String> = disk.names()?.into_iter().collect();
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
    numbers.sort_unstable();
    let next_number = numbers.last().map_or(0, |newest| newest + 1);
    let mut report = Recovery::default();
    let mut table = Vec::new();
    // From the newest on: a file without a header is a leftover only while nothing newer is there.
    for number in numbers.into_iter().rev() {
        match read_segment(disk, number, partitions, &mut report)? {
            Found::Segment(segment) => table.push(Arc::new(*segment)),
            Found::NeverBegun if table.is_empty() => {
                tracing::warn!(segment = number, "a journal segment that was never begun is removed");
                disk.remove(&segment::name(number))?;
            }
            Found::NeverBegun | Found::Unreadable => {}
        }
    }
    table.reverse();
    report.segments = table.len();
    for pair in table.windows(2) {
        // A number between them belongs to an attempt that failed, or to a segment that is gone.
        let follows = pair[0].number + 1 == pair[1].number;
        if !follows || !names.contains(&segment::index_name(pair[0].number)) {
            index_sealed(disk, &pair[0], &pair[1], &mut report)?;
        }
    }
    let (ends, begun) = match table.last() {
        Some(newest) => settle_newest(disk, newest, &mut report)?,
        None => {
            report.clean = true;
            (vec![End::default(); partitions.into()], None)
        }
    };
    report.damages.iter().for_each(Damage::log);
    Ok(Recovered { table, ends, next_number, begun, report })
}

/// What a file named like a segment is.
enum Found {
    Segment(Box<Segment>),
    /// The header is durable before any batch is written; here it never was.
    NeverBegun,
    /// Nothing in it can be read. It is left as it is, for whoever can make something of it.
    Unreadable,
}

fn read_segment(
    disk: &dyn Disk,
    number: u64,
    partitions: u16,
    report: &mut Recovery,
) -> Result<Found, OpenError> {
    let file = disk.open(&segment::name(number))?;
    let size = file.size()?;
    let bytes = read_range(&*file, 0, size.min(HEADER_BYTES_MAX as u64) as usize)?;
    match Header::read(&bytes) {
        Ok(header) => {
            check_partitions(partitions, header.starts.len())?;
            let begin = Header::bytes(partitions.into()) as u64;
            Ok(Found::Segment(Box::new(Segment::new(number, Some(header.salt), header.starts, begin, size))))
        }
        Err(HeaderError::Newer { version }) => {
            Err(OpenError::Newer { segment: number, problem: format!("format version {version}") })
        }
        Err(HeaderError::Damaged) => read_headless(file, number, partitions, size, report),
    }
}

fn check_partitions(asked: u16, found: usize) -> Result<(), OpenError> {
    if usize::from(asked) == found {
        return Ok(());
    }
    Err(OpenError::Partitions { asked, found: found as u16 })
}

/// A segment without a good header: its first batch tells what the header did.
fn read_headless(
    file: Arc<dyn DiskFile>,
    number: u64,
    partitions: u16,
    size: u64,
    report: &mut Recovery,
) -> Result<Found, OpenError> {
    let begin = Header::bytes(partitions.into()) as u64;
    let damage = Damage { segment: number, position: 0, bytes: begin, harm: Harm::Header, lost: Vec::new() };
    let mut walk = Walk::new(file, None, None, 0, size);
    loop {
        match walk.step().map_err(|source| ScanError::Walk { segment: number, source })? {
            Step::Batch(head) => {
                check_partitions(partitions, head.ends.len())?;
                report.damages.push(damage);
                let segment = Segment::new(number, Some(head.salt), head.ends, begin, size);
                return Ok(Found::Segment(Box::new(segment)));
            }
            Step::Damaged { .. } => {}
            Step::Tail { .. } | Step::End if size <= begin => return Ok(Found::NeverBegun),
            Step::Tail { .. } | Step::End => {
                report.damages.push(Damage { bytes: size, ..damage });
                return Ok(Found::Unreadable);
            }
        }
    }
}

fn index_sealed(
    disk: &dyn Disk,
    segment: &Segment,
    next: &Segment,
    report: &mut Recovery,
) -> Result<(), OpenError> {
    let file = disk.open(&segment::name(segment.number))?;
    let found = scan::scan(segment, file, Some(&next.starts), false)?;
    super::segments::save_index(disk, segment, &found.index);
    report.damages.extend(found.damages);
    Ok(())
}

/// Looks through the newest segment, cuts its torn tail, and makes sure that what is left is on stable storage.
fn settle_newest(
    disk: &dyn Disk,
    newest: &Segment,
    report: &mut Recovery,
) -> Result<(Vec<End>, Option<i64>), OpenError> {
    let file = disk.open(&segment::name(newest.number))?;
    let found = scan::scan(newest, Arc::clone(&file), None, true)?;
    let size = file.size()?;
    if size > found.end {
        // Zeros were written ahead, and are no part of a batch.
        let bytes = ahead::zeros_begin(&*file, found.end, size)? - found.end;
        if bytes > 0 {
            let (segment, position) = (newest.number, found.end);
            tracing::warn!(segment, position, bytes, "a torn tail is cut");
            report.cut = Some(Cut { segment, position, bytes });
        }
        file.truncate(found.end)?;
    }
    report.clean = found.closed && report.cut.is_none();
    if !found.closed
        && let Some(position) = found.last_batch
    {
        // After a kill, or a failed sync that nobody lived to see, the page cache may show a batch that the disk
        // never took, and may take it for written. Writing it once more makes the sync below mean it.
        let bytes = read_range(&*file, position, (found.end - position) as usize)?;
        write_all(&*file, &bytes, position)?;
    }
    file.sync()?;
    disk.sync()?;
    newest.size.store(found.end, std::sync::atomic::Ordering::Release);
    newest.set_opened(Some(Arc::new(Opened::new(file, found.index))));
    report.damages.extend(found.damages);
    Ok((found.ends, found.begun))
}

fn read_range(file: &dyn DiskFile, position: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = BytesMut::zeroed(bytes);
    let filled = read_full(file, &mut buffer, position)?;
    buffer.truncate(filled);
    Ok(buffer.freeze())
}

impl Opened {
    pub(super) fn new(file: Arc<dyn DiskFile>, index: Index) -> Self {
        Self { file, index: std::sync::Mutex::new(index) }
    }
}
