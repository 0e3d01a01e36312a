//! The room of the disk that the journal leaves to others: the registry must be able to disable a device that fills it.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use super::disk::{Disk, Space};

/// How much of the disk is left free unless the owner says otherwise: one part in so many, and no more than so much.
const SHARE: u64 = 20;
const BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How long what was seen counts, and for how many bytes that are written meanwhile.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOK_BYTES: u64 = 8 * 1024 * 1024;

/// Looks now and then how much is free.
#[derive(Debug)]
pub(super) struct Reserve {
    bytes: Option<u64>,
    looked: Option<Instant>,
    written: u64,
}

/// How much a journal leaves free on a disk; `asked` is what the owner says.
pub fn reserve_of(asked: Option<u64>, space: Space) -> u64 {
    asked.unwrap_or((space.total / SHARE).min(BYTES_MAX))
}

impl Reserve {
    pub(super) fn new(bytes: Option<u64>) -> Self {
        Self { bytes, looked: None, written: 0 }
    }

    /// Whether so much may be written now.
    pub(super) fn allows(&mut self, disk: &dyn Disk, bytes: u64, now: Instant) -> io::Result<()> {
        self.written += bytes;
        let is_fresh = self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK_EVERY);
        if self.bytes == Some(0) || is_fresh && self.written < LOOK_BYTES {
            return Ok(());
        }
        self.look(disk)?;
        (self.looked, self.written) = (Some(now), 0);
        Ok(())
    }

    /// Whether the disk has more free than is to be left.
    pub(super) fn look(&mut self, disk: &dyn Disk) -> io::Result<()> {
        self.looked = None;
        let Some(space) = disk.space()? else { return Ok(()) };
        let reserve = reserve_of(self.bytes, space);
        if space.free >= reserve {
            return Ok(());
        }
        let text =
            format!("{} bytes of the disk are free, and {reserve} are kept for the registry", space.free);
        Err(io::Error::new(ErrorKind::StorageFull, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_is_left_free_and_no_more_than_a_gibibyte() {
        let gibibyte = 1024 * 1024 * 1024;
        let space = |total| Space { total, free: 0 };
        assert_eq!(reserve_of(None, space(10 * gibibyte)), gibibyte / 2);
        assert_eq!(reserve_of(None, space(1_000 * gibibyte)), gibibyte);
        assert_eq!(reserve_of(Some(7), space(gibibyte)), 7);
    }
}
