//! The data directory as the guard sees it: who may read what in it.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use hub::finding::ChangedFile;
use posture::facts::FileFacts;

/// Names within the data directory that hold keys or what keys protect; `.` is the directory itself.
const FILES: [&str; 12] = [
    ".",
    "master.key",
    "keys.json",
    "ca.key",
    "server.key",
    "server-rsa.key",
    "management.credential",
    "registry.db",
    "registry.db-wal",
    "registry.db-shm",
    "journal",
    "uploads",
];

/// What others than the owner may do.
const OTHERS: u32 = 0o077;

/// The data directory.
pub(crate) struct Place(PathBuf);

impl Place {
    /// This directory.
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    /// The mode and owner of everything that is there.
    pub(super) fn files(&self) -> Vec<FileFacts> {
        let own = rustix::process::geteuid().as_raw();
        let facts = |name: &&str| match fs::symlink_metadata(self.path(name)) {
            Ok(metadata) => Some(FileFacts {
                name: (*name).to_owned(),
                mode: Some(metadata.permissions().mode() & 0o7777),
                own: metadata.uid() == own,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => Some(FileFacts { name: (*name).to_owned(), mode: None, own: false }),
        };
        FILES.iter().filter_map(facts).collect()
    }

    /// The modes of everything that is there, as an export has them.
    pub(crate) fn modes(&self) -> serde_json::Value {
        let files = self.files().into_iter();
        files.map(|file| (file.name, file.mode.map(|mode| format!("{mode:04o}")))).collect()
    }

    /// How many bytes lie in one of [`FILES`], or in all files whose names begin with it.
    pub(crate) fn bytes(&self, name: &str) -> u64 {
        let path = self.path(name);
        let size = |entry: fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
        if path.is_dir() {
            return fs::read_dir(path).map_or(0, |entries| entries.flatten().map(size).sum());
        }
        let begins = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().starts_with(name);
        fs::read_dir(&self.0).map_or(0, |entries| entries.flatten().filter(begins).map(size).sum())
    }

    /// Takes the rights of others off one of [`FILES`].
    pub(super) fn restrict(&self, name: &str) -> io::Result<ChangedFile> {
        let mode_before = self.mode(name)?;
        let mode_after = mode_before & !OTHERS;
        self.set_mode(name, mode_after)?;
        Ok(ChangedFile { file: name.to_owned(), mode_before, mode_after, kept_as: None })
    }

    /// The mode that [`Self::restrict`] would give, and the one there is.
    pub(super) fn restriction(&self, name: &str) -> io::Result<(u32, u32)> {
        let mode = self.mode(name)?;
        Ok((mode, mode & !OTHERS))
    }

    /// Keeps a copy of a file beside it.
    pub(super) fn keep(&self, name: &str, suffix: &str) -> io::Result<ChangedFile> {
        let mode = self.mode(name)?;
        let kept = format!("{name}.{suffix}");
        fs::copy(self.path(name), self.path(&kept))?;
        Ok(ChangedFile { file: name.to_owned(), mode_before: mode, mode_after: mode, kept_as: Some(kept) })
    }

    /// Whether a file can be made what it was before: it was not changed since.
    pub(super) fn restorable(&self, changed: &ChangedFile) -> io::Result<()> {
        if let Some(kept) = &changed.kept_as {
            return fs::metadata(self.path(kept)).map(drop);
        }
        let mode = self.mode(&changed.file)?;
        if mode != changed.mode_after {
            return Err(io::Error::other(format!(
                "its mode is {mode:04o} by now, not {:04o}",
                changed.mode_after
            )));
        }
        Ok(())
    }

    /// Makes a file what it was before.
    pub(super) fn restore(&self, changed: &ChangedFile) -> io::Result<()> {
        match &changed.kept_as {
            Some(kept) => fs::rename(self.path(kept), self.path(&changed.file)),
            None => self.set_mode(&changed.file, changed.mode_before),
        }
    }

    fn mode(&self, name: &str) -> io::Result<u32> {
        Ok(fs::metadata(self.path(name))?.permissions().mode() & 0o7777)
    }

    fn set_mode(&self, name: &str, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode))
    }

    fn path(&self, name: &str) -> PathBuf {
        match name {
            "." => self.0.clone(),
            name => self.0.join(name),
        }
    }
}
