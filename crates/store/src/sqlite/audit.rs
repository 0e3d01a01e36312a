//! Reading the audit log: what is kept of it, and proofs out of that.

use std::cell::RefCell;
use std::path::Path;

use hub::audit::evidence::{Block, Head, Inclusion, Kept, KeptNode, Stored};
use hub::audit::proof::{self, Nodes};
use hub::audit::tree::Frontier;
use hub::audit::{BLOCK_LEVEL, BLOCK_RECORDS, Hash, block_of, numbers_of, retention};
use hub::decision::Decision;
use hub::ports::registry::StoreError;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{device_of, store_error};
use super::schema::{self, OpenError};

/// The audit log of a data directory whose hub need not run, read without changing it.
pub struct SqliteAudit {
    connection: Connection,
}

impl SqliteAudit {
    /// Opens the registry's file.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = schema::open_reader(path)?;
        schema::check_current(&connection)?;
        Ok(Self { connection })
    }

    /// What the log is.
    pub fn head(&self) -> Result<Head, StoreError> {
        let nodes = StoredNodes::new(&self.connection);
        let size = size_of(&self.connection)?;
        let root = match Frontier::from_nodes(size, |level, number| nodes.node(level, number)) {
            Ok(frontier) => frontier.root(),
            // Verification says what is missing.
            Err(Gone::Dropped) => Hash::of_nothing(),
            Err(Gone::Store(error)) => return Err(error),
        };
        Ok(Head { size, root, newest: newest(&self.connection)? })
    }

    /// What is kept of the blocks from this one on, at most so many, in order.
    pub fn blocks(&self, first: u64, count: usize) -> Result<Vec<Block>, StoreError> {
        blocks(&self.connection, first, count)
    }

    /// The kept checkpoints above this size, at most so many, by rising size.
    pub fn checkpoints(&self, above: u64, limit: usize) -> Result<Vec<Kept>, StoreError> {
        checkpoints(&self.connection, above, limit)
    }
}

/// How many records were ever written, which each transaction that writes some writes down.
pub(super) fn size_of(connection: &Connection) -> Result<u64, StoreError> {
    let size: u64 =
        connection.query_row("SELECT size FROM audit_edge", [], |row| row.get(0)).map_err(store_error)?;
    Ok(size.max(newest(connection)?))
}

pub(super) fn newest(connection: &Connection) -> Result<u64, StoreError> {
    let newest: Option<u64> = connection
        .query_row("SELECT max(number) FROM decisions", [], |row| row.get(0))
        .map_err(store_error)?;
    Ok(newest.unwrap_or_default())
}

/// Hashes behind each other, as they rest.
pub(super) fn bytes_of(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|hash| hash.0).collect()
}

/// Why a hash cannot be had.
#[derive(Debug)]
pub(super) enum Gone {
    /// It was dropped.
    Dropped,
    /// It could not be read.
    Store(StoreError),
}

impl From<StoreError> for Gone {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// The tree as it rests. The leaf hashes of the block that was asked for last are remembered.
pub(super) struct StoredNodes<'a> {
    connection: &'a Connection,
    last: RefCell<Option<(u64, Vec<Option<Hash>>)>>,
}

impl<'a> StoredNodes<'a> {
    pub(super) fn new(connection: &'a Connection) -> Self {
        Self { connection, last: RefCell::default() }
    }

    /// The leaf hashes of a block that are there: those beside the bodies, and those kept where bodies went.
    pub(super) fn leaves(&self, block: u64) -> Result<Vec<Option<Hash>>, StoreError> {
        if let Some((number, leaves)) = &*self.last.borrow()
            && *number == block
        {
            return Ok(leaves.clone());
        }
        let numbers = numbers_of(block, u64::MAX);
        let kept = kept_leaves(self.connection, block)?.unwrap_or_default();
        let mut leaves: Vec<Option<Hash>> = kept.into_iter().map(Some).collect();
        leaves.resize(BLOCK_RECORDS as usize, None);
        let rows = self
            .connection
            .prepare_cached("SELECT number, leaf FROM decisions WHERE number BETWEEN ?1 AND ?2")
            .and_then(|mut statement| {
                let row = |row: &Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?));
                statement.query_map([numbers.start(), numbers.end()], row)?.collect::<Result<Vec<_>, _>>()
            })
            .map_err(store_error)?;
        for (number, leaf) in rows {
            leaves[(number - numbers.start()) as usize] = Hash::from_bytes(&leaf).ok();
        }
        *self.last.borrow_mut() = Some((block, leaves.clone()));
        Ok(leaves)
    }
}

impl Nodes for StoredNodes<'_> {
    type Error = Gone;

    fn node(&self, level: u8, number: u64) -> Result<Hash, Gone> {
        if level == 0 {
            let at = (number % BLOCK_RECORDS) as usize;
            return self.leaves(number / BLOCK_RECORDS)?[at].ok_or(Gone::Dropped);
        }
        if level.is_multiple_of(BLOCK_LEVEL)
            && let Some(hash) = stored_node(self.connection, level, number)?
        {
            return Ok(hash);
        }
        Ok(Hash::of_node(self.node(level - 1, number * 2)?, self.node(level - 1, number * 2 + 1)?))
    }

    fn kept_path(&self, size: u64) -> Result<Option<Vec<Hash>>, Gone> {
        let path = self
            .connection
            .prepare_cached("SELECT path FROM checkpoints WHERE size = ?1")
            .and_then(|mut statement| {
                statement.query_row([size], |row| row.get::<_, Option<Vec<u8>>>(0)).optional()
            })
            .map_err(store_error)?;
        Ok(path.flatten().and_then(|path| Hash::all_from_bytes(&path).ok()))
    }
}

fn stored_node(connection: &Connection, level: u8, number: u64) -> Result<Option<Hash>, StoreError> {
    let hash = connection
        .prepare_cached("SELECT hash FROM audit_nodes WHERE level = ?1 AND number = ?2")
        .and_then(|mut statement| {
            statement.query_row(params![level, number], |row| row.get::<_, Vec<u8>>(0)).optional()
        })
        .map_err(store_error)?;
    Ok(hash.and_then(|hash| Hash::from_bytes(&hash).ok()))
}

fn kept_leaves(connection: &Connection, block: u64) -> Result<Option<Vec<Hash>>, StoreError> {
    let leaves = connection
        .prepare_cached("SELECT leaves FROM audit_leaves WHERE block = ?1")
        .and_then(|mut statement| statement.query_row([block], |row| row.get::<_, Vec<u8>>(0)).optional())
        .map_err(store_error)?;
    Ok(leaves.and_then(|leaves| Hash::all_from_bytes(&leaves).ok()))
}

pub(super) fn blocks(connection: &Connection, first: u64, count: usize) -> Result<Vec<Block>, StoreError> {
    let end = hub::audit::blocks_in(size_of(connection)?).min(first.saturating_add(count as u64));
    (first..end).map(|number| block(connection, number)).collect()
}

fn block(connection: &Connection, number: u64) -> Result<Block, StoreError> {
    let numbers = numbers_of(number, u64::MAX);
    let records = connection
        .prepare_cached(
            "SELECT number, changed, refused, device, address, leaf, body FROM decisions
             WHERE number BETWEEN ?1 AND ?2 ORDER BY number",
        )
        .and_then(|mut statement| statement.query_map([numbers.start(), numbers.end()], stored)?.collect())
        .map_err(store_error)?;
    let mut nodes = Vec::new();
    let (mut level, mut node) = (BLOCK_LEVEL, number);
    while let Some(hash) = stored_node(connection, level, node)? {
        nodes.push(KeptNode { level, hash });
        // The next level has a node that ends here after every 256th of this one.
        if (node + 1) % BLOCK_RECORDS != 0 {
            break;
        }
        (level, node) = (level + BLOCK_LEVEL, node / BLOCK_RECORDS);
    }
    Ok(Block { number, records, leaves: kept_leaves(connection, number)?, nodes })
}

fn stored(row: &Row<'_>) -> Result<Stored, rusqlite::Error> {
    // Bytes that are no text are shown as something else, whose hash is another one too.
    let text = |at: usize| row.get_ref(at).map(|value| value.as_bytes_or_null().ok().flatten().map(lossy));
    let entry = text(6)?.unwrap_or_default();
    let filed = (row.get::<_, bool>(1)?, row.get::<_, bool>(2)?, text(3)?, text(4)?);
    let misfiled = serde_json::from_str::<Decision>(&entry).is_ok_and(|says| {
        let address = says.origin.address.map(|address| address.to_string());
        filed
            != (retention::stays(&says), says.refusal.is_some(), device_of(&says).map(str::to_owned), address)
    });
    let leaf = Hash::from_bytes(&row.get::<_, Vec<u8>>(5)?).ok();
    Ok(Stored { number: row.get(0)?, entry, leaf, misfiled })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(super) fn checkpoints(
    connection: &Connection,
    above: u64,
    limit: usize,
) -> Result<Vec<Kept>, StoreError> {
    connection
        .prepare_cached(
            "SELECT size, time, note, exported, path FROM checkpoints WHERE size > ?1 ORDER BY size LIMIT ?2",
        )
        .and_then(|mut statement| {
            let kept = |row: &Row<'_>| {
                let path: Option<Vec<u8>> = row.get(4)?;
                Ok(Kept {
                    size: row.get(0)?,
                    time: row.get::<_, String>(1)?.parse().unwrap_or_default(),
                    note: row.get(2)?,
                    exported: row.get(3)?,
                    path: path.and_then(|path| Hash::all_from_bytes(&path).ok()),
                })
            };
            statement.query_map(params![above, super::rows::limit_of(limit)], kept)?.collect()
        })
        .map_err(store_error)
}

pub(super) fn inclusion(
    connection: &Connection,
    number: u64,
    size: u64,
) -> Result<Option<Inclusion>, StoreError> {
    if number == 0 || number > size || size > size_of(connection)? {
        return Ok(None);
    }
    let found = block(connection, block_of(number))?;
    let Some(record) = found.records.into_iter().find(|record| record.number == number) else {
        return Ok(None);
    };
    let index = number - 1;
    let path = if_there(proof::inclusion(&StoredNodes::new(connection), index, size))?;
    Ok(path.map(|path| Inclusion { entry: record.entry, index, size, path }))
}

pub(super) fn consistency(
    connection: &Connection,
    old: u64,
    new: u64,
) -> Result<Option<Vec<Hash>>, StoreError> {
    if old > new || new > size_of(connection)? {
        return Ok(None);
    }
    if_there(proof::consistency(&StoredNodes::new(connection), old, new))
}

fn if_there<T>(found: Result<T, Gone>) -> Result<Option<T>, StoreError> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Gone::Dropped) => Ok(None),
        Err(Gone::Store(error)) => Err(error),
    }
}
