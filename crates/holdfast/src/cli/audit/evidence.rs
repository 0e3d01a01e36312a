//! Where verification gets the log from: a running hub, or a data directory.

use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::audit::Hash;
use hub::audit::evidence::{Block, Head, Kept};
use hub::audit::note::VerifierKey;
use serde_json::Value;
use store::SqliteAudit;

use super::super::target::{Request, Target};
use super::read_value;
use crate::notary::verifier_in;

/// What is kept of a log.
pub(super) trait Evidence {
    /// What the log says that it is.
    fn head(&self) -> anyhow::Result<Head>;
    /// The key that the log names as its own.
    fn key(&self) -> anyhow::Result<VerifierKey>;
    /// Some of the kept checkpoints above this size, by rising size; none when there are no more.
    fn checkpoints(&self, above: u64) -> anyhow::Result<Vec<Kept>>;
    /// Some of the blocks from this one on, in order.
    fn blocks(&self, first: u64) -> anyhow::Result<Vec<Block>>;
}

/// A running hub, asked through its own API.
pub(super) struct Remote(Target);

impl Remote {
    pub(super) fn new(target: Target) -> Self {
        Self(target)
    }

    fn ask(&self, path: &str) -> anyhow::Result<Value> {
        self.0.management(Request::new("GET", format!("/holdfast/v1/audit{path}")))
    }

    pub(super) fn key(&self) -> anyhow::Result<VerifierKey> {
        let value = self.ask("")?;
        value["key"].as_str().unwrap_or_default().parse().context("the hub names no verifier key")
    }

    /// Has a checkpoint signed that is never thinned out.
    pub(super) fn sign_checkpoint(&self) -> anyhow::Result<Kept> {
        read_value(self.0.management(Request::new("POST", "/holdfast/v1/audit/checkpoints"))?)
    }

    /// The hashes of some of the blocks from this one on, in a log of this size.
    pub(super) fn hashes(&self, first: u64, size: u64) -> anyhow::Result<Vec<Vec<Hash>>> {
        let pages: Vec<String> = read_value(self.ask(&format!("/hashes?first={first}&size={size}"))?)?;
        pages.iter().map(|text| Ok(Hash::all_from_bytes(&STANDARD.decode(text)?)?)).collect()
    }
}

impl Evidence for Remote {
    fn head(&self) -> anyhow::Result<Head> {
        read_value(self.ask("")?)
    }

    fn key(&self) -> anyhow::Result<VerifierKey> {
        self.key()
    }

    fn checkpoints(&self, above: u64) -> anyhow::Result<Vec<Kept>> {
        read_value(self.ask(&format!("/checkpoints?above={above}"))?)
    }

    fn blocks(&self, first: u64) -> anyhow::Result<Vec<Block>> {
        read_value(self.ask(&format!("/blocks?first={first}"))?)
    }
}

/// The data directory of a hub that need not run.
pub(super) struct Offline<'a> {
    directory: &'a Path,
    audit: SqliteAudit,
}

/// What is read of a file at once.
const CHECKPOINTS: usize = 1_000;
const BLOCKS: usize = 16;

impl<'a> Offline<'a> {
    pub(super) fn open(directory: &'a Path) -> anyhow::Result<Self> {
        let file = directory.join("registry.db");
        let audit = SqliteAudit::open(&file).with_context(|| format!("could not open {}", file.display()))?;
        Ok(Self { directory, audit })
    }
}

impl Evidence for Offline<'_> {
    fn head(&self) -> anyhow::Result<Head> {
        Ok(self.audit.head()?)
    }

    fn key(&self) -> anyhow::Result<VerifierKey> {
        verifier_in(self.directory)
    }

    fn checkpoints(&self, above: u64) -> anyhow::Result<Vec<Kept>> {
        Ok(self.audit.checkpoints(above, CHECKPOINTS)?)
    }

    fn blocks(&self, first: u64) -> anyhow::Result<Vec<Block>> {
        Ok(self.audit.blocks(first, BLOCKS)?)
    }
}
