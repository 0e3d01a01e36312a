//! The few things the journal asks of a file system, as a trait, so that tests can make any of them fail and can
//! take away everything that was not synced.
//!
//! A write may be short, as `pwrite(2)` may. Nothing is on stable storage before [`DiskFile::sync`] (contents and
//! length of a file) or [`Disk::sync`] (the names in the directory) returned without an error; after an error of
//! either, what was written since the last success may or may not be there.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One directory of files.
pub trait Disk: Send + Sync {
    /// The names in the directory, in any order.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Makes a new file; it is an error when there is one of this name.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file to read and write.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// How much of the disk there is and is free, where that is known.
    fn space(&self) -> io::Result<Option<Space>> {
        Ok(None)
    }
}

/// The space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What this process may still write.
    pub free: u64,
}

/// One file of a [`Disk`].
pub trait DiskFile: Send + Sync {
    /// How long the file is.
    fn size(&self) -> io::Result<u64>;
    /// Reads at a position; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// Writes at a position, maybe only a part.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize>;
    /// Cuts the file.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Makes contents and length durable.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of it, however many writes that takes.
pub(super) fn write_all(file: &dyn DiskFile, mut bytes: &[u8], mut position: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, position) {
            Ok(0) => return Err(io::Error::from(ErrorKind::WriteZero)),
            Ok(n) => {
                bytes = &bytes[n..];
                position += n as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills the buffer from a position on, as far as the file goes, and says how much that was. Pages that the disk
/// cannot read come back as zeros, which no checksum accepts: one bad page must not hide the good ones after it.
pub(super) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        let at = position + filled as u64;
        match file.read_at(&mut buffer[filled..], at) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let size = file.size()?;
                if at >= size {
                    return Err(error);
                }
                let page_end = (at / PAGE + 1) * PAGE;
                let end = buffer.len().min(filled + (page_end.min(size) - at) as usize);
                if let Ok(n @ 1..) = file.read_at(&mut buffer[filled..end], at) {
                    filled += n;
                } else {
                    tracing::error!(position = at, %error, "a page of the journal cannot be read");
                    buffer[filled..end].fill(0);
                    filled = end;
                }
            }
        }
    }
    Ok(filled)
}

const PAGE: u64 = 4096;

/// A directory of the operating system, locked for this process.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Open all the time: making names durable takes no descriptor that others may have taken.
    handle: File,
    _lock: File,
}

impl Directory {
    /// Opens the directory, making it when needed, and locks it. `ErrorKind::WouldBlock` says that another process
    /// (or another journal of this one) holds the lock.
    pub fn open(path: &Path) -> io::Result<Self> {
        let missing: Vec<_> = path.ancestors().take_while(|ancestor| !ancestor.is_dir()).collect();
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for made in missing {
            if let Some(parent) = made.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent)?.sync_all()?;
            }
        }
        let lock = options().create(true).truncate(false).open(path.join(LOCK_NAME))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), handle: File::open(path)?, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

/// The lock file of a [`Directory`].
const LOCK_NAME: &str = "lock";

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Telemetry is the owner's business alone.
    options.read(true).write(true).mode(0o600);
    options
}

impl Disk for Directory {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(options().create_new(true).open(self.path.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(options().open(self.path.join(name))?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn space(&self) -> io::Result<Option<Space>> {
        let disk = rustix::fs::fstatvfs(&self.handle)?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.f_frsize);
        Ok(Some(Space { total: bytes(disk.f_blocks), free: bytes(disk.f_bavail) }))
    }
}

impl DiskFile for File {
    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, position)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
