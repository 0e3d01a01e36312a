//! Writing the audit log: every decision becomes a row and a leaf in one transaction, and retention drops whole blocks.

use hub::audit::evidence::{Kept, entry};
use hub::audit::proof::{Nodes as _, full_path};
use hub::audit::tree::{Frontier, Node};
use hub::audit::{BLOCK_LEVEL, BLOCK_RECORDS, Hash, block_of, checkpoint, numbers_of, retention};
use hub::decision::Decision;
use hub::ports::registry::StoreError;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::audit::{Gone, StoredNodes, bytes_of, newest, size_of};
use super::rows::{device_of, store_error};

/// What writing needs to know of the log. A copy is worked on in each transaction, and takes its place with the commit.
#[derive(Debug, Clone)]
pub(super) struct Ledger {
    pub(super) frontier: Frontier,
    /// How many rows there are that the bound counts.
    bounded: u64,
    /// No row before this number is one of them.
    oldest: u64,
    /// The time of the newest record.
    newest: Timestamp,
}

/// Blocks that one step of retention looks at.
const STEP_BLOCKS_MAX: u64 = 1_024;

impl Ledger {
    /// Reads the right edge of the tree.
    pub(super) fn open(connection: &Connection) -> Result<Self, StoreError> {
        let nodes = StoredNodes::new(connection);
        let size = size_of(connection)?;
        let frontier = Frontier::from_nodes(size, |level, number| match nodes.node(level, number) {
            Err(Gone::Dropped) => {
                // The hub serves devices all the same; verification names what is missing, now and later.
                tracing::error!(
                    from = (number << level) + 1,
                    to = (number + 1) << level,
                    "the audit log lacks records that nobody may remove; run `holdfast audit verify`"
                );
                Ok(Hash::of_leaf(b""))
            }
            Err(Gone::Store(error)) => Err(error),
            Ok(hash) => Ok(hash),
        })?;
        let (bounded, oldest) = connection
            .query_row("SELECT bounded, oldest FROM audit_edge", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(store_error)?;
        Ok(Self { frontier, bounded, oldest, newest: Timestamp::UNIX_EPOCH })
    }

    /// Writes decisions.
    pub(super) fn append<'a>(
        &mut self,
        connection: &Connection,
        decisions: impl IntoIterator<Item = &'a Decision>,
    ) -> Result<(), StoreError> {
        let mut insert = connection
            .prepare_cached(
                "INSERT INTO decisions (number, changed, refused, device, address, leaf, body)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )
            .map_err(store_error)?;
        for decision in decisions {
            let number = self.frontier.size() + 1;
            let body = entry(number, decision)
                .map_err(|error| StoreError::Failed(format!("a decision cannot be written: {error}")))?;
            let leaf = Hash::of_leaf(body.as_bytes());
            let stays = retention::stays(decision);
            insert
                .execute(params![
                    number,
                    stays,
                    decision.refusal.is_some(),
                    device_of(decision),
                    decision.origin.address.map(|address| address.to_string()),
                    leaf.0,
                    body
                ])
                .map_err(store_error)?;
            self.push(connection, leaf)?;
            self.bounded += u64::from(!stays);
            self.newest = decision.time;
        }
        Ok(())
    }

    /// Writes down what [`Ledger::open`] reads, in the transaction of the records that it counts.
    pub(super) fn keep_edge(&self, connection: &Connection) -> Result<(), StoreError> {
        connection
            .prepare_cached("UPDATE audit_edge SET size = ?1, bounded = ?2, oldest = ?3")
            .and_then(|mut statement| statement.execute([self.frontier.size(), self.bounded, self.oldest]))
            .map(drop)
            .map_err(store_error)
    }

    fn push(&mut self, connection: &Connection, leaf: Hash) -> Result<(), StoreError> {
        let mut kept: Vec<Node> = Vec::new();
        self.frontier
            .push(leaf, |node| kept.extend(Some(node).filter(|node| node.level.is_multiple_of(BLOCK_LEVEL))));
        for node in kept {
            connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO audit_nodes (level, number, hash) VALUES (?1, ?2, ?3)",
                )
                .and_then(|mut statement| statement.execute(params![node.level, node.number, node.hash.0]))
                .map_err(store_error)?;
        }
        Ok(())
    }

    /// Drops the bodies of the oldest blocks when a step is due, and says so in the log.
    pub(super) fn retain(&mut self, connection: &Connection, bound: u64) -> Result<(), StoreError> {
        if self.bounded <= bound.saturating_add(retention::STEP_RECORDS) {
            return Ok(());
        }
        let oldest = block_of(self.oldest);
        let complete = (self.frontier.size() / BLOCK_RECORDS).min(oldest + STEP_BLOCKS_MAX);
        // No more blocks are counted than may go.
        let (mut counts, mut outcome) = (Vec::new(), Ok(()));
        let due = retention::due(
            self.bounded,
            bound,
            (oldest..complete).map_while(|block| match count(connection, block) {
                Ok(number) => {
                    counts.push(number);
                    Some(number)
                }
                Err(error) => {
                    outcome = Err(error);
                    None
                }
            }),
        );
        outcome?;
        if due == 0 {
            return Ok(());
        }
        let end = oldest + due as u64;
        let (first, last) = (oldest * BLOCK_RECORDS + 1, end * BLOCK_RECORDS);
        for block in oldest..end {
            drop_bodies(connection, block)?;
        }
        self.bounded = self.bounded.saturating_sub(counts[..due].iter().sum());
        self.oldest = last + 1;
        let statement =
            retention::statement(self.newest, first, last, numbers_left(connection, first, last)?);
        self.append(connection, [&statement])
    }

    /// Makes a tree of the rows that were written before there was one. A record that was dropped by then counts as an empty
    /// entry.
    pub(super) fn begin(connection: &Connection) -> Result<Self, StoreError> {
        let frontier = Frontier::default();
        let mut ledger = Self { frontier, bounded: 0, oldest: 1, newest: Timestamp::UNIX_EPOCH };
        let sequence: Option<u64> = connection
            .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'decisions'", [], |row| row.get(0))
            .optional()
            .map_err(store_error)?;
        let size = sequence.unwrap_or_default().max(newest(connection)?);
        for block in 0..hub::audit::blocks_in(size) {
            let mut leaves = Vec::new();
            let mut there = 0;
            for number in numbers_of(block, size) {
                let body = connection
                    .prepare_cached("SELECT body FROM decisions WHERE number = ?1")
                    .and_then(|mut statement| {
                        statement.query_row([number], |row| row.get::<_, String>(0)).optional()
                    })
                    .map_err(store_error)?;
                let leaf = Hash::of_leaf(body.as_deref().unwrap_or_default().as_bytes());
                if body.is_some() {
                    there += 1;
                    connection
                        .prepare_cached("UPDATE decisions SET leaf = ?2 WHERE number = ?1")
                        .and_then(|mut statement| statement.execute(params![number, leaf.0]))
                        .map_err(store_error)?;
                }
                leaves.push(leaf);
                ledger.push(connection, leaf)?;
            }
            let whole = leaves.len() as u64 == BLOCK_RECORDS;
            if there < leaves.len() && (there > 0 || !whole) {
                keep_leaves(connection, block, &leaves)?;
            }
        }
        Ok(ledger)
    }
}

/// How many rows of a block the bound counts.
fn count(connection: &Connection, block: u64) -> Result<u64, StoreError> {
    let numbers = numbers_of(block, u64::MAX);
    connection
        .prepare_cached("SELECT count(*) FROM decisions WHERE changed = 0 AND number BETWEEN ?1 AND ?2")
        .and_then(|mut statement| statement.query_row([numbers.start(), numbers.end()], |row| row.get(0)))
        .map_err(store_error)
}

fn numbers_left(connection: &Connection, first: u64, last: u64) -> Result<Vec<u64>, StoreError> {
    connection
        .prepare_cached("SELECT number FROM decisions WHERE number BETWEEN ?1 AND ?2 ORDER BY number")
        .and_then(|mut statement| statement.query_map([first, last], |row| row.get(0))?.collect())
        .map_err(store_error)
}

/// Drops what may go of a complete block. Its leaf hashes stay as long as a body does; without them, the checkpoints inside
/// get the path that they will need.
fn drop_bodies(connection: &Connection, block: u64) -> Result<(), StoreError> {
    let numbers = numbers_of(block, u64::MAX);
    let (first, last) = (*numbers.start(), *numbers.end());
    let nodes = StoredNodes::new(connection);
    // A hash that is missing, which only tampering does, is one that nothing has.
    let leaves: Vec<Hash> = nodes.leaves(block)?.iter().map(|leaf| leaf.unwrap_or(Hash([0; 32]))).collect();
    connection
        .prepare_cached("DELETE FROM decisions WHERE changed = 0 AND number BETWEEN ?1 AND ?2")
        .and_then(|mut statement| statement.execute([first, last]))
        .map_err(store_error)?;
    if !numbers_left(connection, first, last)?.is_empty() {
        return keep_leaves(connection, block, &leaves);
    }
    let sizes = connection
        .prepare_cached("SELECT size FROM checkpoints WHERE size >= ?1 AND size < ?2")
        .and_then(|mut statement| {
            statement.query_map([first, last], |row| row.get::<_, u64>(0))?.collect::<Result<Vec<_>, _>>()
        })
        .map_err(store_error)?;
    for size in sizes {
        // The nodes still hold the leaves, which were read before they went.
        let Ok(path) = full_path(&nodes, size, first - 1, last) else { continue };
        connection
            .prepare_cached("UPDATE checkpoints SET path = ?2 WHERE size = ?1")
            .and_then(|mut statement| statement.execute(params![size, bytes_of(&path)]))
            .map_err(store_error)?;
    }
    connection
        .prepare_cached("DELETE FROM audit_leaves WHERE block = ?1")
        .and_then(|mut statement| statement.execute([block]))
        .map(drop)
        .map_err(store_error)
}

fn keep_leaves(connection: &Connection, block: u64, leaves: &[Hash]) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO audit_leaves (block, leaves) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![block, bytes_of(leaves)]))
        .map(drop)
        .map_err(store_error)
}

/// Keeps a checkpoint, and thins out the others.
pub(super) fn keep_checkpoint(connection: &Connection, kept: &Kept) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO checkpoints (size, time, note, exported) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (size) DO UPDATE SET
                 time = excluded.time, note = excluded.note, exported = max(exported, excluded.exported)",
        )
        .and_then(|mut statement| {
            statement.execute(params![kept.size, kept.time.to_string(), kept.note, kept.exported])
        })
        .map_err(store_error)?;
    let sizes = connection
        .prepare_cached("SELECT size FROM checkpoints WHERE exported = 0 ORDER BY size")
        .and_then(|mut statement| {
            statement.query_map([], |row| row.get::<_, u64>(0))?.collect::<Result<Vec<_>, _>>()
        })
        .map_err(store_error)?;
    for size in checkpoint::thinned_out(&sizes) {
        connection
            .prepare_cached("DELETE FROM checkpoints WHERE size = ?1")
            .and_then(|mut statement| statement.execute([size]))
            .map_err(store_error)?;
    }
    Ok(())
}
