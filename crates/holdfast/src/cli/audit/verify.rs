//! `holdfast audit verify`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use hub::audit::blocks_in;
use hub::audit::checkpoint::Checkpoint;
use hub::audit::note::VerifierKey;
use hub::audit::verify::{Given, Verdict, Verifier};
use serde_json::json;

use super::super::Common;
use super::super::output::{Format, one};
use super::evidence::{Evidence, Offline, Remote};
use super::hashes::Hashes;
use super::read_text;
use crate::cli::terminal::{errln, outln};

/// The exit code for a log that was changed. 1 says that it could not be verified.
const TAMPERED: u8 = 3;
/// How long nothing is said of the progress, and how long between two words.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// `holdfast audit verify`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  holdfast audit verify
  holdfast audit verify --checkpoint monday.checkpoint --key hub.vkey
  holdfast audit verify --data /srv/hub --checkpoint monday.checkpoint --key hub.vkey     without asking the hub

Exit code 0: the log is sound. 3: it was changed. 1: it could not be verified.")]
pub(crate) struct VerifyArgs {
    /// A checkpoint that was exported earlier; may be given several times. FILE.hashes is read too when it is there.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// The verifier key of the log, as `holdfast audit checkpoint --key` printed it; else the one that the log names.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Read the data directory of a hub instead of asking a running one.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Verifies and says what it came to.
pub(super) fn run(args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let evidence: Box<dyn Evidence + '_> = match &args.data {
        Some(directory) => Box::new(Offline::open(directory)?),
        None => Box::new(Remote::new(args.common.target.open()?)),
    };
    let key = match &args.key {
        Some(file) => {
            read_text(file)?.parse().with_context(|| format!("{} cannot be used", file.display()))?
        }
        None => evidence.key()?,
    };
    let verdict = verify(&*evidence, &key, &args.checkpoint)?;
    print(args.common.output, &verdict, &key, args.key.is_some());
    Ok(match (verdict.sound, verdict.kind) {
        (true, _) => ExitCode::SUCCESS,
        (false, Some(_)) => ExitCode::from(TAMPERED),
        (false, None) => ExitCode::FAILURE,
    })
}

fn verify(evidence: &dyn Evidence, key: &VerifierKey, files: &[PathBuf]) -> anyhow::Result<Verdict> {
    let (mut given, mut hashes) = (Vec::new(), Vec::new());
    for file in files {
        let checkpoint = opened(file, key)?;
        hashes.push(Hashes::open(file, &checkpoint)?);
        given.push(Given::new(file.display().to_string(), checkpoint));
    }
    // The checkpoints come first: one that is signed meanwhile is for more records than the head has.
    let kept = all_checkpoints(evidence)?;
    let head = evidence.head()?;
    let mut verifier = Verifier::new(head, kept, key, given);
    let mut progress = Progress::new(head.size);
    let (mut next, end) = (0, blocks_in(head.size));
    while next < end {
        let page = evidence.blocks(next)?;
        ensure!(!page.is_empty(), "the log gave nothing from block {next} on");
        for block in page.into_iter().take_while(|block| block.number < end) {
            ensure!(block.number == next, "block {next} was asked for, and {} came", block.number);
            let known = hashes.iter_mut().map(Hashes::next).collect::<anyhow::Result<Vec<_>>>()?;
            verifier.block(&block, &known);
            next += 1;
        }
        progress.at(next * hub::audit::BLOCK_RECORDS);
    }
    if verifier.misses_bodies() {
        // What retention dropped since the beginning is accounted for by records that came since.
        let mut next = end.saturating_sub(1);
        while let Some(last) =
            evidence.blocks(next)?.iter().inspect(|block| verifier.late_block(block)).last()
        {
            next = last.number + 1;
        }
    }
    Ok(verifier.finish())
}

fn opened(file: &Path, key: &VerifierKey) -> anyhow::Result<Checkpoint> {
    let note = read_text(file)?;
    Checkpoint::open(&note, key).with_context(|| format!("{} is no checkpoint of this log", file.display()))
}

fn all_checkpoints(evidence: &dyn Evidence) -> anyhow::Result<Vec<hub::audit::evidence::Kept>> {
    let mut all = Vec::new();
    let mut above = 0;
    loop {
        let page = evidence.checkpoints(above)?;
        match page.last() {
            Some(last) if last.size > above => above = last.size,
            _ => return Ok(all),
        }
        all.extend(page);
    }
}

/// Says how far it is, once it takes long.
struct Progress {
    size: u64,
    said: Instant,
}

impl Progress {
    fn new(size: u64) -> Self {
        Self { size, said: Instant::now() }
    }

    fn at(&mut self, records: u64) {
        if self.said.elapsed() >= PROGRESS_EVERY {
            self.said = Instant::now();
            errln!("holdfast: verified {} of {} records", records.min(self.size), self.size);
        }
    }
}

fn print(format: Format, verdict: &Verdict, key: &VerifierKey, given: bool) {
    let mut shown = json!(verdict);
    shown["key"] = json!(key.to_string());
    shown["keyGiven"] = json!(given);
    if format != Format::Table {
        one(format, &shown, &[]);
        return;
    }
    let word = match (verdict.sound, verdict.kind) {
        (true, _) => "SOUND",
        (false, Some(_)) => "CHANGED",
        (false, None) => "NOT VERIFIED",
    };
    outln!("{word}: {}", verdict.explanation);
    for finding in &verdict.findings {
        outln!("  {}: {}", range(finding.first, finding.last), finding.explanation);
    }
    for reason in &verdict.unchecked {
        outln!("  {reason}");
    }
    let lines = [
        ("Records", "/size"),
        ("Texts read", "/read"),
        ("Dropped by retention", "/dropped"),
        ("Checkpoints that agree", "/checkpoints"),
        ("Root", "/root"),
        ("Key", "/key"),
    ];
    one(format, &shown, &lines);
    if !given {
        outln!("The key is the one that the log itself names; --key FILE takes one that you kept.");
    }
}

fn range(first: u64, last: u64) -> String {
    if first == last { format!("record {first}") } else { format!("one of {first} to {last}") }
}
