//! What a test may ask for while the program runs: words of 8 bytes in a mapped file.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::raw;

/// The mapped file. The test's side of it is `crates/holdfast/tests/integration/support/shim.rs`.
#[repr(C)]
pub(crate) struct Control {
    /// The sync of a file below `journal/` after so many more fails; below 0: none.
    fail_journal_sync: AtomicI64,
    /// The same for files elsewhere.
    fail_other_sync: AtomicI64,
    /// So many bytes may files grow before the disk is full; below 0: no such bound.
    space: AtomicI64,
    /// How many syncs of files were asked for.
    syncs: AtomicI64,
    /// How many of them failed on purpose.
    failed_syncs: AtomicI64,
    /// How many writes failed for want of space.
    failed_writes: AtomicI64,
    /// Not 0: the sync of a file below `journal/` says that it succeeded, and does nothing.
    lie: AtomicI64,
    unused: AtomicI64,
}

impl Control {
    pub(crate) fn map(path: &std::path::Path) -> Option<&'static Self> {
        let fd = raw::open(&raw::c_path(path), libc::O_RDWR, 0);
        if fd < 0 {
            return None;
        }
        let (access, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping of a file that the test made with this size; it is never unmapped.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Self>(), access, shared, fd, 0) };
        raw::close(fd);
        // SAFETY: the mapping is page-aligned and lives as long as the process; all fields are atomic.
        (at != libc::MAP_FAILED).then(|| unsafe { &*at.cast::<Self>() })
    }

    /// Counts a sync; says whether it shall fail.
    pub(crate) fn sync_fails(&self, of_journal: bool) -> bool {
        self.syncs.fetch_add(1, Ordering::SeqCst);
        let countdown = if of_journal { &self.fail_journal_sync } else { &self.fail_other_sync };
        let before = countdown.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| (n >= 0).then(|| n - 1));
        let fails = before == Ok(0);
        if fails {
            self.failed_syncs.fetch_add(1, Ordering::SeqCst);
        }
        fails
    }

    /// Whether a sync shall succeed without effect.
    pub(crate) fn sync_lies(&self, of_journal: bool) -> bool {
        of_journal && self.lie.load(Ordering::SeqCst) != 0
    }

    /// Takes room for a file that wants to grow by so many bytes; gives how many it may.
    pub(crate) fn take_space(&self, wanted: u64) -> u64 {
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let mut granted = wanted;
        let _ = self.space.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            granted = if left < 0 { wanted } else { wanted.min(left) };
            (left >= 0).then(|| left - granted)
        });
        if granted < wanted {
            self.failed_writes.fetch_add(1, Ordering::SeqCst);
        }
        granted as u64
    }
}
