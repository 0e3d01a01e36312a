//! Where the master key comes from, and that it does not stay in the environment of the process.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::ports::clock::Random as _;
use rustix::fs::{MemfdFlags, memfd_create};
use zeroize::Zeroizing;

use crate::config::SecretReference;
use crate::files::{create_private, read_private};
use crate::secrets::SystemRandom;

/// The environment variable that may carry the master key, 32 bytes in base64.
const VARIABLE: &str = "HOLDFAST_MASTER_KEY";
/// The variable by which the program tells itself which open file holds the key that it took out of its environment.
const HANDED_OVER: &str = "HOLDFAST_MASTER_KEY_FILE_NUMBER";

const KEY_BYTES: usize = 32;

/// A master key as the operator gave it.
pub(crate) struct GivenKey {
    text: Zeroizing<String>,
    source: String,
}

impl GivenKey {
    /// Takes the key that the operator gave, if one was. One in a variable does not stay there: what a program is started with
    /// cannot be wiped, so the program starts itself anew without it, before it has begun anything.
    pub(crate) fn take(configured: Option<&SecretReference>) -> anyhow::Result<Option<Self>> {
        let by_default = SecretReference::Environment(VARIABLE.to_owned());
        let is_set = |name| std::env::var_os(name).is_some();
        let reference = match configured {
            None if is_set(VARIABLE) || is_set(HANDED_OVER) => Some(&by_default),
            configured => configured,
        };
        let (text, source) = match reference {
            Some(SecretReference::Environment(name)) => (from_environment(name)?, format!("${name}")),
            Some(SecretReference::File(path)) => (read_private(path)?, path.display().to_string()),
            Some(SecretReference::Literal(text)) => {
                (text.clone(), "master-key of the configuration".to_owned())
            }
            None => return Ok(None),
        };
        Ok(Some(Self { text, source }))
    }
}

/// The master key: the one that was given, else that of the data directory, which is made on first start.
pub(crate) fn master_key(directory: &Path, given: Option<&GivenKey>) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    if let Some(GivenKey { text, source }) = given {
        return decoded(text, source);
    }
    let path = directory.join("master.key");
    if !path.exists() {
        if directory.join("keys.json").exists() {
            bail!(
                "{} is missing, and {VARIABLE} is not set: without the master key the sealed keys in this data directory \
                 cannot be opened",
                path.display()
            );
        }
        create_private(&path, new_key().as_bytes())?;
    }
    decoded(&read_private(&path)?, &path.display().to_string())
}

fn decoded(text: &str, source: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let key = Zeroizing::new(STANDARD.decode(text.trim()).unwrap_or_default());
    if key.len() != KEY_BYTES {
        bail!("{source} is no master key: it must be {KEY_BYTES} bytes in base64");
    }
    Ok(key)
}

/// A new key, as its file holds it.
pub(crate) fn new_key() -> Zeroizing<String> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    SystemRandom.fill(&mut *key);
    Zeroizing::new(STANDARD.encode(*key))
}

fn from_environment(name: &str) -> anyhow::Result<Zeroizing<String>> {
    let Some(text) = std::env::var_os(name) else {
        return match std::env::var(HANDED_OVER) {
            Ok(number) => received(&number).with_context(|| format!("the key of {name} did not arrive")),
            Err(_) => bail!("the variable {name} is not set"),
        };
    };
    // The text of the error would show the key.
    let Ok(text) = text.into_string().map(Zeroizing::new) else { bail!("the variable {name} is no text") };
    let error = start_anew_without(name, &text);
    tracing::warn!(error = %format!("{error:#}"), "the master key stays in the environment of the process");
    Ok(text)
}

/// Starts this program anew in this process, without the variable; returns only when that fails.
fn start_anew_without(name: &str, text: &str) -> anyhow::Error {
    let handed_over = || -> anyhow::Result<(File, Command)> {
        // Open in the new program too, and in no file system.
        let mut file = File::from(memfd_create("holdfast-key", MemfdFlags::empty())?);
        file.write_all(text.as_bytes())?;
        let mut arguments = std::env::args_os();
        let mut command = Command::new(std::env::current_exe()?);
        if let Some(own_name) = arguments.next() {
            command.arg0(own_name);
        }
        command.args(arguments).env_remove(name).env(HANDED_OVER, file.as_raw_fd().to_string());
        Ok((file, command))
    };
    match handed_over() {
        Ok((_open, mut command)) => command.exec().into(),
        Err(error) => error,
    }
}

/// Reads the key that was handed over, and empties the file.
fn received(number: &str) -> anyhow::Result<Zeroizing<String>> {
    let number: u32 = number.parse().with_context(|| format!("{HANDED_OVER} is no number of a file"))?;
    let mut file = OpenOptions::new().read(true).write(true).open(format!("/proc/self/fd/{number}"))?;
    let mut text = Zeroizing::new(String::with_capacity(256));
    file.read_to_string(&mut text).context("it is no text")?;
    file.set_len(0)?;
    Ok(text)
}
