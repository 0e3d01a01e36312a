//! Room ahead of what is written.
//!
//! A sync of a file that has grown makes the file system write down its new size as well, which is a second and a third write to
//! the disk. Where batches are small, as on a quiet hub, that is most of what a message costs. So zeros are written ahead of them
//! now and then, and the batches overwrite those. Large batches come one after the other, and grow the file themselves: zeros
//! would only double what is written.
//!
//! Zeros are no batch: whoever opens a journal cuts them off, like the torn tail of a batch that nobody was told of.

use std::io;

use super::disk::{DiskFile, read_full, write_all};

/// How far ahead zeros reach when they are written.
pub(super) const AHEAD_BYTES: u64 = 256 * 1024;
/// A larger batch grows the file itself.
const SMALL_BATCH_BYTES: usize = 16 * 1024;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// How far a file reaches.
#[derive(Debug)]
pub(super) struct Ahead {
    end: u64,
    /// Whether zeros could not be written, for want of space as a rule: then the file grows as its batches do.
    failed: bool,
}

impl Ahead {
    /// Of a file that ends here.
    pub(super) fn of(end: u64) -> Self {
        Self { end, failed: false }
    }

    /// Makes room for a batch that is about to be written, and so much more.
    pub(super) fn make_room(&mut self, file: &dyn DiskFile, position: u64, bytes: usize, more: u64) {
        let end = position + bytes as u64;
        if end > self.end && bytes <= SMALL_BATCH_BYTES && more > 0 && !self.failed {
            match fill(file, self.end.max(position), end + more) {
                Ok(()) => self.end = end + more,
                Err(_) => self.failed = true,
            }
        }
        self.end = self.end.max(end);
    }

    /// Whether there is room beyond the batches, which end here.
    pub(super) fn is_beyond(&self, end: u64) -> bool {
        self.end > end
    }

    /// Takes notice that the file was cut.
    pub(super) fn cut(&mut self, end: u64) {
        self.end = end;
    }
}

fn fill(file: &dyn DiskFile, from: u64, to: u64) -> io::Result<()> {
    let mut position = from;
    while position < to {
        let length = (to - position).min(ZEROS.len() as u64);
        write_all(file, &ZEROS[..length as usize], position)?;
        position += length;
    }
    Ok(())
}

/// Where the zeros at the end of a file begin; not before `from`.
pub(super) fn zeros_begin(file: &dyn DiskFile, from: u64, size: u64) -> io::Result<u64> {
    let (mut begin, mut position) = (from, from);
    let mut buffer = vec![0; ZEROS.len()];
    while position < size {
        let length = (size - position).min(buffer.len() as u64) as usize;
        let filled = read_full(file, &mut buffer[..length], position)?;
        if let Some(last) = buffer[..filled].iter().rposition(|byte| *byte != 0) {
            begin = position + last as u64 + 1;
        }
        if filled == 0 {
            break;
        }
        position += filled as u64;
    }
    Ok(begin)
}
