//! The hashes that are exported beside a checkpoint: a line of base64 for each block of 256 records, with the hash of each
//! record, or the one of the block where nothing else was left. They are trusted only as far as the signed root is theirs.

use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Lines, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::audit::checkpoint::Checkpoint;
use hub::audit::evidence::Kept;
use hub::audit::tree::Frontier;
use hub::audit::{BLOCK_LEVEL, BLOCK_RECORDS, Hash, blocks_in, numbers_of};

use super::evidence::Remote;

/// The file of the hashes beside that of a checkpoint.
pub(super) fn beside(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".hashes");
    name.into()
}

/// Writes the hashes of a checkpoint that a hub just signed, and sees that they are its.
pub(super) fn export(remote: &Remote, kept: &Kept, path: &Path) -> anyhow::Result<()> {
    let failed = || format!("could not write {}", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(failed)?);
    let checkpoint = Checkpoint::unverified(&kept.note)?;
    let mut tree = Frontier::default();
    let mut block = 0;
    while block < blocks_in(kept.size) {
        let page = remote.hashes(block, kept.size)?;
        ensure!(!page.is_empty(), "the hub gave no hashes from record {} on", tree.size() + 1);
        for hashes in page.into_iter().take((blocks_in(kept.size) - block) as usize) {
            let bytes: Vec<u8> = hashes.iter().flat_map(|hash| hash.0).collect();
            writeln!(file, "{}", STANDARD.encode(bytes)).with_context(failed)?;
            grow(&mut tree, block, kept.size, &hashes)?;
            block += 1;
        }
    }
    let file = file.into_inner().with_context(failed)?;
    file.sync_all().with_context(failed)?;
    ensure!(
        tree.root() == checkpoint.root,
        "the hub signed a root that is not that of its records: `holdfast audit verify` says what was changed"
    );
    Ok(())
}

/// Appends the hashes of a block to a tree.
fn grow(tree: &mut Frontier, block: u64, size: u64, hashes: &[Hash]) -> anyhow::Result<()> {
    let records = numbers_of(block, size).count();
    match hashes {
        [node] if records as u64 == BLOCK_RECORDS => tree.push_subtree(BLOCK_LEVEL, *node, |_| {}),
        leaves if leaves.len() == records => leaves.iter().for_each(|leaf| tree.push(*leaf, |_| {})),
        _ => bail!("block {block} has {} hashes, and {records} records", hashes.len()),
    }
    Ok(())
}

/// The exported hashes, read block by block.
pub(super) struct Hashes(Option<(PathBuf, Lines<BufReader<File>>)>);

impl Hashes {
    /// Opens the hashes beside a checkpoint, if there are any, and sees that they are those of its root.
    pub(super) fn open(file: &Path, checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let path = beside(file);
        if !path.exists() {
            return Ok(Self(None));
        }
        let open = || File::open(&path).with_context(|| format!("could not read {}", path.display()));
        let mut hashes = Self(Some((path.clone(), BufReader::new(open()?).lines())));
        let mut tree = Frontier::default();
        for block in 0..blocks_in(checkpoint.size) {
            let line = hashes.next()?;
            grow(&mut tree, block, checkpoint.size, &line)
                .with_context(|| format!("{} is damaged", path.display()))?;
        }
        ensure!(
            tree.root() == checkpoint.root,
            "{} does not hold the hashes of {}: remove it to verify by the checkpoint alone",
            path.display(),
            file.display()
        );
        Ok(Self(Some((path.clone(), BufReader::new(open()?).lines()))))
    }

    /// The hashes of the next block; none behind the last.
    pub(super) fn next(&mut self) -> anyhow::Result<Vec<Hash>> {
        let Some((path, lines)) = &mut self.0 else { return Ok(Vec::new()) };
        let damaged = || format!("{} is damaged", path.display());
        let Some(line) = lines.next().transpose().with_context(damaged)? else { return Ok(Vec::new()) };
        Hash::all_from_bytes(&STANDARD.decode(line.trim()).with_context(damaged)?).with_context(damaged)
    }
}
