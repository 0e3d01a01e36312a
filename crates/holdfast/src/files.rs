//! Files that only their owner may read.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::Mode;
use zeroize::Zeroizing;

/// Has everything that the process makes from now on be its owner's alone, also what libraries make, whatever whoever started it
/// allowed. Those files that others may read are given to them one by one.
pub(crate) fn keep_to_owner() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Creates a directory, and those above it, that only its owner may enter.
pub(crate) fn create_private_directory(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("could not create the directory {}", path.display()))
}

/// Creates or replaces a file with mode 0600, all of it or nothing, and makes it durable.
pub(crate) fn create_private(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write(path, content, 0o600)
}

/// Creates or replaces a file that everybody may read, all of it or nothing, and makes it durable.
pub(crate) fn create_public(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write(path, content, 0o644)
}

fn write(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let failed = || format!("could not write {}", path.display());
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().with_context(failed)?.to_string_lossy();
    let part = directory.join(format!(".{name}.{}.part", std::process::id()));
    let _ = fs::remove_file(&part);
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).with_context(failed)?;
    // Whatever the umask takes away.
    file.set_permissions(Permissions::from_mode(mode)).with_context(failed)?;
    file.write_all(content).and_then(|()| file.sync_all()).with_context(failed)?;
    fs::rename(&part, path).with_context(failed)?;
    File::open(directory).and_then(|directory| directory.sync_all()).with_context(failed)
}

/// Reads a text file that holds a secret.
pub(crate) fn read_private(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    fs::read_to_string(path).map(Zeroizing::new).with_context(|| format!("could not read {}", path.display()))
}
