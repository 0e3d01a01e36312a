//! An auditor beside the hub: takes a checkpoint away now and then, and holds the log against it after every loss of power.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Hub;

/// The auditor, whose files lose no power.
pub(crate) struct Auditor {
    checkpoint: PathBuf,
    /// How often a log was held against a checkpoint.
    pub(crate) compared: u64,
}

impl Auditor {
    pub(crate) fn new(place: &Path) -> Self {
        Self { checkpoint: place.join("auditor.checkpoint"), compared: 0 }
    }

    /// Takes a checkpoint away, while the hub is busy. One that does not come, as from a full disk, leaves none.
    pub(crate) fn take(&self, hub: &Hub) {
        let out =
            [OsStr::new("audit"), OsStr::new("checkpoint"), OsStr::new("--out"), self.checkpoint.as_os_str()];
        let done = run(out, [OsStr::new("--ready-file"), hub.ready_file().as_os_str()]);
        if !done.status.success() {
            let _ = fs::remove_file(&self.checkpoint);
        }
    }

    /// What is wrong with the log in a data directory, if anything is.
    pub(crate) fn judge(&mut self, data: &Path) -> Option<String> {
        let verify = ["audit", "verify", "-o", "json"].map(OsStr::new);
        let mut options = vec![OsStr::new("--data"), data.as_os_str()];
        if self.checkpoint.exists() {
            options.extend([OsStr::new("--checkpoint"), self.checkpoint.as_os_str()]);
            self.compared += 1;
        }
        let done = run(verify, options);
        let said = || String::from_utf8_lossy(&[done.stdout.as_slice(), &done.stderr].concat()).into_owned();
        (!done.status.success()).then(|| format!("the audit log is not sound: {}", said()))
    }
}

fn run<'a>(
    command: impl IntoIterator<Item = &'a OsStr>,
    options: impl IntoIterator<Item = &'a OsStr>,
) -> Output {
    let binary = std::env::var_os("HOLDFAST_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_holdfast").into());
    Command::new(binary).args(command).args(options).output().unwrap()
}
