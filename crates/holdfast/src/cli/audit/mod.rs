//! `holdfast audit`: the log of everything that was decided, and the proof that it was not changed.

mod evidence;
mod hashes;
mod list;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use self::evidence::Remote;
pub(super) use self::list::row;
use super::Common;
use super::output::{Format, one};
use super::target::Request;
use crate::cli::terminal::{self, outln};
use crate::files::create_public;

/// The commands about the audit log.
#[derive(Subcommand)]
pub(crate) enum AuditCommand {
    /// List the records: who did what, from where, and what came of it; the newest first.
    List(list::ListArgs),
    /// Recompute the whole log, and hold it against its hashes and against earlier checkpoints.
    Verify(verify::VerifyArgs),
    /// Prove to somebody else that a record is in the log, or that the log goes on from an earlier checkpoint.
    Prove(ProveArgs),
    /// Export a signed checkpoint, to be kept where the hub's machine cannot change it.
    Checkpoint(CheckpointArgs),
}

/// `holdfast audit prove`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast audit prove 1234 --out proof.json            then, anywhere: audit-check proof.json hub.vkey
  holdfast audit prove --since monday.checkpoint --out grown.json")]
pub(crate) struct ProveArgs {
    /// The number of the record.
    #[arg(required_unless_present = "since", conflicts_with = "since")]
    number: Option<u64>,
    /// Prove instead that the log of now begins with the log of this checkpoint.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// Where to write the proof; else it is printed.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// `holdfast audit checkpoint`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast audit checkpoint --key > hub.vkey            once, when you trust the hub
  holdfast audit checkpoint --out monday.checkpoint     with monday.checkpoint.hashes beside it, by which a later
                                                        verification names the first changed record exactly")]
pub(crate) struct CheckpointArgs {
    /// Where to write the signed note; the hashes of the records go to FILE.hashes, 44 bytes for each record.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the verifier key of the log instead.
    #[arg(long, conflicts_with = "out")]
    key: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs a command about the audit log.
pub(super) fn run(command: AuditCommand) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::List(args) => list::run(args),
        AuditCommand::Verify(args) => verify::run(args),
        AuditCommand::Prove(args) => prove(&args),
        AuditCommand::Checkpoint(args) => checkpoint(&args),
    }
}

fn prove(args: &ProveArgs) -> anyhow::Result<ExitCode> {
    let target = args.common.target.open()?;
    let proof = match (args.number, &args.since) {
        (Some(number), _) => {
            target.management(Request::new("GET", format!("/holdfast/v1/audit/records/{number}/proof")))?
        }
        (None, Some(file)) => {
            let request = Request::new("POST", "/holdfast/v1/audit/consistency");
            target.management(request.with(json!({ "old": read_text(file)? })))?
        }
        (None, None) => bail!("name the number of a record, or a checkpoint by --since FILE"),
    };
    match &args.out {
        Some(file) => create_public(file, format!("{}\n", terminal::json(&format!("{proof:#}"))).as_bytes())?,
        None => terminal::document(&proof),
    }
    Ok(ExitCode::SUCCESS)
}

fn checkpoint(args: &CheckpointArgs) -> anyhow::Result<ExitCode> {
    let remote = Remote::new(args.common.target.open()?);
    if args.key {
        let key = remote.key()?.to_string();
        match args.common.output {
            Format::Table => outln!("{key}"),
            format => one(format, &json!({ "key": key }), &[]),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let kept = remote.sign_checkpoint()?;
    let mut shown = json!({ "size": kept.size, "time": kept.time, "note": kept.note });
    if let Some(file) = &args.out {
        let hashes = hashes::beside(file);
        hashes::export(&remote, &kept, &hashes)?;
        create_public(file, kept.note.as_bytes())?;
        shown["file"] = json!(file);
        shown["hashes"] = json!(hashes);
    }
    match (args.common.output, &args.out) {
        (Format::Table, None) => terminal::lines(&kept.note),
        (format, _) => {
            one(format, &shown, &[("Records", "/size"), ("Checkpoint", "/file"), ("Hashes", "/hashes")]);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}

fn read_value<T: serde::de::DeserializeOwned>(value: Value) -> anyhow::Result<T> {
    serde_json::from_value(value).context("the hub's answer is not what this version of the command expects")
}
