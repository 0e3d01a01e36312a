//! `holdfast file`.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::Common;
use super::output::{Format, list, one};
use super::target::{Request, Target, TargetArgs, encoded};
use super::terminal::{self, outln};
use crate::files::read_private;

const PATH: &str = "/holdfast/v1/files";
const STORAGE_PATH: &str = "/holdfast/v1/file-storage";

/// The commands about files that devices uploaded.
#[derive(Subcommand)]
pub(crate) enum FileCommand {
    /// List the files of a device, or of all devices.
    #[command(after_help = "Examples:
  holdfast file list
  holdfast file list pump-1 -o json")]
    List {
        /// The device.
        device: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Fetch a file.
    #[command(after_help = "Examples:
  holdfast file get pump-1 logs/2026-11-22.txt > today.txt
  holdfast file get pump-1 logs/2026-11-22.txt --out today.txt")]
    Get {
        /// The device.
        device: String,
        /// The name of the file, without the device's folder.
        name: String,
        /// Write it here instead of to the standard output.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        target: TargetArgs,
    },
    /// Delete a file.
    #[command(after_help = "Example:
  holdfast file delete pump-1 logs/2026-11-22.txt")]
    Delete {
        /// The device.
        device: String,
        /// The name of the file, without the device's folder.
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show and change where files go: to the hub, or to an account of Azure's Blob storage.
    #[command(subcommand)]
    Storage(StorageCommand),
}

/// The commands about where files go.
#[derive(Subcommand)]
pub(crate) enum StorageCommand {
    /// Show where files go.
    Show {
        #[command(flatten)]
        common: Common,
    },
    /// Have devices write to a container of a storage account. Uploads that are open go on where they began.
    #[command(after_help = "Example:
  holdfast file storage set --connection-string-file account.txt --container uploads")]
    Set {
        /// The file with the connection string of the account, which has its key.
        #[arg(long, value_name = "FILE")]
        connection_string_file: PathBuf,
        /// The container.
        #[arg(long, value_name = "NAME")]
        container: String,
        /// The certificate authority of the storage, PEM, where it is none of the system's.
        #[arg(long, value_name = "FILE")]
        authority: Option<PathBuf>,
        #[command(flatten)]
        common: Common,
    },
    /// Have devices write to the hub itself again.
    Clear {
        #[command(flatten)]
        common: Common,
    },
}

const COLUMNS: &[(&str, &str)] =
    &[("DEVICE", "/device"), ("NAME", "/name"), ("BYTES", "/bytes"), ("MODIFIED", "/modified")];

const STORAGE_LINES: &[(&str, &str)] = &[
    ("Account", "/account"),
    ("Host", "/host"),
    ("Container", "/container"),
    ("Key fingerprint", "/keyFingerprint"),
    ("Key set", "/keySet"),
];

/// Runs a command about files.
pub(super) fn run(command: FileCommand) -> anyhow::Result<ExitCode> {
    match command {
        FileCommand::List { device, common } => {
            list(common.output, &all(&common.target.open()?, device.as_deref())?, COLUMNS);
        }
        FileCommand::Get { device, name, out, target } => {
            get(&target.open()?, &device, &name, out)?;
        }
        FileCommand::Delete { device, name, common } => {
            common.target.open()?.management(Request::new("DELETE", file_path(&device, &name)))?;
        }
        FileCommand::Storage(command) => storage(command)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn storage(command: StorageCommand) -> anyhow::Result<()> {
    let (request, common) = match command {
        StorageCommand::Show { common } => (Request::new("GET", STORAGE_PATH), common),
        StorageCommand::Clear { common } => (Request::new("DELETE", STORAGE_PATH), common),
        StorageCommand::Set { connection_string_file, container, authority, common } => {
            let text = read_private(&connection_string_file)?;
            let authority = authority.map(|file| {
                std::fs::read_to_string(&file).with_context(|| format!("could not read {}", file.display()))
            });
            let body = json!({
                "connectionString": text.trim(),
                "container": container,
                "authority": authority.transpose()?,
            });
            (Request::new("PUT", STORAGE_PATH).with(body), common)
        }
    };
    match common.target.open()?.management(request)? {
        Value::Null if matches!(common.output, Format::Table) => outln!("Files go to the hub itself."),
        account => one(common.output, &account, STORAGE_LINES),
    }
    Ok(())
}

/// All files, page by page.
fn all(target: &Target, device: Option<&str>) -> anyhow::Result<Vec<Value>> {
    let of = device.map(|device| format!("device={}", encoded(device)));
    let mut files: Vec<Value> = Vec::new();
    loop {
        let after = files.last().map(|last| {
            let text = |name: &str| encoded(last[name].as_str().unwrap_or_default());
            format!("afterDevice={}&afterName={}", text("device"), text("name"))
        });
        let query: Vec<String> = of.clone().into_iter().chain(after).collect();
        let page = target.management(Request::new("GET", format!("{PATH}?{}", query.join("&"))))?;
        match page {
            Value::Array(page) if page.is_empty() => return Ok(files),
            Value::Array(page) => files.extend(page),
            _ => bail!("the answer is no list: is this a hub?"),
        }
    }
}

fn file_path(device: &str, name: &str) -> String {
    format!("{PATH}/{}/{}", encoded(device), encoded(name))
}

fn get(target: &Target, device: &str, name: &str, out: Option<PathBuf>) -> anyhow::Result<()> {
    let mut content = target.download(&file_path(device, name))?;
    let broken = "the file broke off";
    match out {
        None => {
            terminal::copy(&mut content).context("the file could not be printed")?;
        }
        Some(file) => {
            let failed = || format!("could not write {}", file.display());
            let mut written = File::create(&file).with_context(failed)?;
            io::copy(&mut content, &mut written).context(broken)?;
            written.flush().with_context(failed)?;
        }
    }
    Ok(())
}
