//! Walking the batches of one segment file, from any batch on, over damaged stretches. Opening, indexing and reading
//! all walk here, so that they cannot disagree about what a file holds.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::batch::{self, HEAD_BYTES_MIN, Head, HeadError, Placed};
use super::disk::{DiskFile, read_full};

/// Walks one file up to a limit.
pub(super) struct Walk {
    file: Arc<dyn DiskFile>,
    salt: Option<u64>,
    partitions: Option<usize>,
    /// Nothing from here on is looked at.
    limit: u64,
    position: u64,
    window: Bytes,
    window_position: u64,
}

/// What comes next in the file.
#[derive(Debug)]
pub(super) enum Step {
    /// A batch with a whole head. Its sections are still to be checked.
    Batch(Head),
    /// Bytes that are no batch, with a batch after them.
    Damaged { position: u64, bytes: u64 },
    /// Bytes that are no batch, up to the limit.
    Tail { position: u64, bytes: u64 },
    /// The limit.
    End,
}

/// Why a file cannot be walked.
#[derive(Debug, thiserror::Error)]
pub(super) enum WalkError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(
        "the batch at {position} was written by a newer program (version {version}, flags {flags}, key {key})"
    )]
    Newer { position: u64, version: u16, flags: u16, key: u32 },
}

/// How much is read at once.
const WINDOW_BYTES: usize = 256 * 1024;

impl Walk {
    /// A walk from a position on. Without a salt or a number of partitions (the header is damaged) the first batch
    /// found tells them.
    pub(super) fn new(
        file: Arc<dyn DiskFile>,
        salt: Option<u64>,
        partitions: Option<usize>,
        position: u64,
        limit: u64,
    ) -> Self {
        Self { file, salt, partitions, limit, position, window: Bytes::new(), window_position: 0 }
    }

    /// The next step.
    pub(super) fn step(&mut self) -> Result<Step, WalkError> {
        let start = self.position;
        if start >= self.limit {
            return Ok(Step::End);
        }
        if let Some(head) = self.head_at(start)? {
            self.position = head.batch_end();
            return Ok(Step::Batch(head));
        }
        match self.search(start + 1)? {
            Some(position) => {
                self.position = position;
                Ok(Step::Damaged { position: start, bytes: position - start })
            }
            None => {
                self.position = self.limit;
                Ok(Step::Tail { position: start, bytes: self.limit - start })
            }
        }
    }

    /// The bytes of a section, or `None` when they are not what was written.
    pub(super) fn section(&mut self, placed: &Placed) -> Result<Option<Bytes>, WalkError> {
        let wanted = placed.section.bytes as usize;
        let mut bytes = self.bytes_at(placed.position, wanted)?;
        if bytes.len() < wanted {
            return Ok(None);
        }
        bytes.truncate(wanted);
        Ok((crc32c::crc32c(&bytes) == placed.section.crc).then_some(bytes))
    }

    fn search(&mut self, from: u64) -> Result<Option<u64>, WalkError> {
        let mut position = from;
        while position + HEAD_BYTES_MIN as u64 <= self.limit {
            let bytes = self.bytes_at(position, HEAD_BYTES_MIN)?;
            // A start may straddle the end of what was read.
            let starts = bytes.len().saturating_sub(HEAD_BYTES_MIN - 1);
            let found = bytes[..bytes.len().min(starts + batch::MAGIC.len() - 1)]
                .windows(batch::MAGIC.len())
                .position(|window| window == batch::MAGIC);
            match found {
                Some(at) => {
                    position += at as u64;
                    if self.head_at(position)?.is_some() {
                        return Ok(Some(position));
                    }
                    position += 1;
                }
                None => position += starts.max(1) as u64,
            }
        }
        Ok(None)
    }

    fn head_at(&mut self, position: u64) -> Result<Option<Head>, WalkError> {
        let bytes = self.bytes_at(position, HEAD_BYTES_MIN)?;
        if !Head::may_start(&bytes, self.salt, position) {
            return Ok(None);
        }
        let Some(claimed) = Head::claimed_bytes(&bytes) else { return Ok(None) };
        match Head::read(&self.bytes_at(position, claimed)?) {
            Ok(head) if self.partitions.is_none_or(|partitions| partitions == head.ends.len()) => {
                self.salt = Some(head.salt);
                self.partitions = Some(head.ends.len());
                Ok(Some(head))
            }
            Ok(_) | Err(HeadError::Damaged) => Ok(None),
            Err(HeadError::Newer { version, flags, key }) => {
                Err(WalkError::Newer { position, version, flags, key })
            }
        }
    }

    /// At least so many bytes from a position on, unless the limit or the end of the file comes first.
    fn bytes_at(&mut self, position: u64, wanted: usize) -> Result<Bytes, WalkError> {
        let held = position
            .checked_sub(self.window_position)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip + wanted <= self.window.len());
        if let Some(skip) = held {
            return Ok(self.window.slice(skip..));
        }
        let left = usize::try_from(self.limit.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut buffer = BytesMut::zeroed(wanted.max(WINDOW_BYTES).min(left));
        let filled = read_full(&*self.file, &mut buffer, position)?;
        buffer.truncate(filled);
        self.window = buffer.freeze();
        self.window_position = position;
        Ok(self.window.clone())
    }
}
