//! Room on the disk for the index of the write-ahead log (`registry.db-shm`), which SQLite maps into memory.
//!
//! A process that stores to a mapped page without a block, on a disk that is full, is killed (SIGBUS). SQLite writes one byte of each
//! 4 KiB of the index before it maps them, which gives them blocks where blocks are as large. Where they are smaller, three quarters of
//! the index have none. So the registry is opened only where there is room for all of them, and later telemetry leaves some
//! (`reserve-megabytes`).
//!
//! The hub must not open the index itself to ask for its blocks: a process that closes a file loses all its POSIX locks of it, those of
//! SQLite included, and the next process that opens the database then empties the index of the hub.

use std::io;
use std::path::Path;

use rustix::fs::statvfs;

/// The room: an index for half a GiB of write-ahead log, which is folded into the database every 4 MiB.
const ROOM_BYTES: u64 = 1024 * 1024;

/// Fails where the disk has not as much free as an index takes, before SQLite makes one.
pub(super) fn check(database: &Path) -> io::Result<()> {
    let folder = database.parent().filter(|parent| !parent.as_os_str().is_empty());
    let disk = statvfs(folder.unwrap_or(Path::new(".")))?;
    is_enough(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn is_enough(free: u64) -> io::Result<()> {
    if free >= ROOM_BYTES {
        return Ok(());
    }
    let text = format!(
        "the disk is full: {free} bytes are free, and the registry takes {ROOM_BYTES} to open. Make room on it"
    );
    Err(io::Error::new(io::ErrorKind::StorageFull, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_for_the_index_is_named() {
        assert!(is_enough(ROOM_BYTES).is_ok());
        let error = is_enough(ROOM_BYTES - 1).expect_err("too little");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("the disk is full: 1048575 bytes are free"), "{error}");
    }
}
