//! The ready file: what clients need of a running hub. It says which process wrote it, so that one that outlived its hub is
//! told from one that holds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::files::create_private;

/// A process, told from a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    pid: u32,
    /// When it was started, in ticks since the machine was.
    started: u64,
    /// Which start of which machine that was.
    boot: String,
    /// Where its number means it.
    pid_namespace: String,
}

/// Whether a process is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Runs,
    Gone,
    /// It is of another machine, another container or an earlier start, or hidden.
    Unknown,
}

impl Process {
    fn own() -> io::Result<Self> {
        let pid = std::process::id();
        let started = started(pid)?.ok_or_else(|| io::Error::other("the own process is not to be found"))?;
        Ok(Self { pid, started, boot: boot()?, pid_namespace: pid_namespace()? })
    }

    fn standing(&self) -> Standing {
        let is_here = boot().is_ok_and(|boot| boot == self.boot)
            && pid_namespace().is_ok_and(|namespace| namespace == self.pid_namespace);
        if !is_here {
            return Standing::Unknown;
        }
        match started(self.pid) {
            Ok(Some(started)) if started == self.started => Standing::Runs,
            Ok(Some(_)) => Standing::Gone,
            // Processes of others may be hidden.
            Ok(None) | Err(_) => {
                match i32::try_from(self.pid).ok().and_then(Pid::from_raw).map(test_kill_process) {
                    Some(Err(Errno::SRCH)) | None => Standing::Gone,
                    Some(_) => Standing::Unknown,
                }
            }
        }
    }
}

/// When a process was started; `None` where none of this number is seen.
fn started(pid: u32) -> io::Result<Option<u64>> {
    let stat = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        stat => stat?,
    };
    // The name, in brackets, may hold anything; the 20th field behind it is the time.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields);
    let started = fields.and_then(|fields| fields.split_ascii_whitespace().nth(19)?.parse().ok());
    started.map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not understood")))
}

fn boot() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn pid_namespace() -> io::Result<String> {
    Ok(fs::read_link("/proc/self/ns/pid")?.to_string_lossy().into_owned())
}

/// The ready file of this hub.
pub(super) struct ReadyFile {
    path: PathBuf,
    process: Process,
}

impl ReadyFile {
    /// Makes room for it: what a hub left there that is gone is removed, so that nobody takes it for the new one.
    pub(super) fn claim(path: &Path) -> anyhow::Result<Self> {
        let process = Process::own().context("the ready file cannot say which process wrote it")?;
        match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("could not read {}", path.display())),
            Ok(text) => match writer(&serde_json::from_str(&text).unwrap_or_default()) {
                Some(writer) if writer.standing() == Standing::Runs => bail!(
                    "{} is the ready file of a hub that runs (process {}); name another one",
                    path.display(),
                    writer.pid
                ),
                _ => fs::remove_file(path).with_context(|| format!("could not remove {}", path.display()))?,
            },
        }
        Ok(Self { path: path.to_owned(), process })
    }

    /// Writes it, with the process in it.
    pub(super) fn write(&self, ready: &Value) -> anyhow::Result<()> {
        let mut ready = ready.clone();
        ready["process"] = serde_json::to_value(&self.process)?;
        create_private(&self.path, serde_json::to_string_pretty(&ready)?.as_bytes())
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        let own = fs::read_to_string(&self.path).ok().and_then(|text| serde_json::from_str(&text).ok());
        if own.as_ref().and_then(writer).as_ref() == Some(&self.process) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The process that wrote a ready file; earlier builds did not say.
fn writer(ready: &Value) -> Option<Process> {
    Process::deserialize(ready.get("process")?).ok()
}

/// Reads the ready file of a hub, which must not be gone.
pub(super) fn read(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("could not read the ready file {} (is the hub running?)", path.display()))?;
    let ready =
        serde_json::from_str(&text).with_context(|| format!("{} is no ready file", path.display()))?;
    match writer(&ready) {
        Some(writer) if writer.standing() == Standing::Gone => bail!(
            "the ready file {} is left over: the hub that wrote it (process {}) ended without removing it. Start the hub again, \
             which writes a new one",
            path.display(),
            writer.pid
        ),
        _ => Ok(ready),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_process_is_told_from_one_that_ended_and_from_a_later_one_of_its_number() {
        let own = Process::own().expect("a process");
        assert_eq!(own.standing(), Standing::Runs);
        assert_eq!(Process { started: own.started - 1, ..own.clone() }.standing(), Standing::Gone);
        let mut ended = Command::new("true").spawn().expect("starts");
        ended.wait().expect("ends");
        assert_eq!(Process { pid: ended.id(), ..own.clone() }.standing(), Standing::Gone);
        for elsewhere in [
            Process { boot: "another".into(), ..own.clone() },
            Process { pid_namespace: "pid:[1]".into(), ..own.clone() },
        ] {
            assert_eq!(elsewhere.standing(), Standing::Unknown);
        }
    }

    #[test]
    fn a_ready_file_that_is_left_over_is_refused_and_replaced() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("ready.json");
        let left = Process { started: 1, ..Process::own().expect("a process") };
        fs::write(&path, json!({ "hostname": "old", "process": left }).to_string()).expect("writes");
        let refused = read(&path).expect_err("its hub is gone").to_string();
        assert!(refused.contains("left over") && refused.contains("Start the hub again"), "{refused}");

        let ready_file = ReadyFile::claim(&path).expect("nobody's");
        assert!(!path.exists(), "nobody takes it for the new one");
        ready_file.write(&json!({ "hostname": "new" })).expect("writes");
        assert_eq!(read(&path).expect("it holds")["hostname"], "new");
        let running = ReadyFile::claim(&path).err().expect("a hub that runs has it").to_string();
        assert!(running.contains("name another one"), "{running}");

        // What somebody else put there stays.
        fs::write(&path, "{}").expect("writes");
        drop(ready_file);
        assert!(path.exists());
    }
}
