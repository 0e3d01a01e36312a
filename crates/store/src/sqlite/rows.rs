//! The statements, and how keys, records and decisions become rows. Nothing else in here speaks SQL but the schema.

use std::collections::BTreeMap;

use hub::decision::{Decision, DecisionFilter, Numbered};
use hub::identity::DeviceId;
use hub::ports::registry::{Change, StoreError, Versioned, Write};
use hub::record::{Key, Kind, Record};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, ffi, params};

use super::ledger::Ledger;
use super::unreadable::{Unreadable, UnreadableRecord};

/// Says in the port's words what SQLite said.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    let full = error.sqlite_error().is_some_and(|failure| {
        failure.extended_code & 0xff == ffi::SQLITE_FULL || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    });
    if full { StoreError::NoSpace } else { StoreError::Failed(error.to_string()) }
}

fn load(
    connection: &Connection,
    unreadable: &Unreadable,
    key: &Key,
) -> Result<Option<Versioned>, StoreError> {
    let (owner, name) = key.parts();
    let mut statement = connection
        .prepare_cached("SELECT version, body, crc FROM records WHERE kind = ?1 AND owner = ?2 AND name = ?3")
        .map_err(store_error)?;
    let mut rows = statement.query(params![key.kind() as u8, owner, name]).map_err(store_error)?;
    let Some(row) = rows.next().map_err(store_error)? else { return Ok(None) };
    versioned(key, row, 0).map(Some).map_err(|problem| {
        let key = (key.kind(), owner.to_owned(), name.to_string());
        StoreError::Failed(report(unreadable, key, problem))
    })
}

/// Those records, in one transaction: SQLite asks once for its lock and whether the file has changed.
pub(super) fn load_many(
    connection: &Connection,
    unreadable: &Unreadable,
    keys: &[&Key],
) -> Result<Vec<Option<Versioned>>, StoreError> {
    if let [key] = keys {
        return Ok(vec![load(connection, unreadable, key)?]);
    }
    // It is rolled back when it is dropped, which is the same where nothing is written.
    let _reading = connection.unchecked_transaction().map_err(store_error)?;
    keys.iter().map(|key| load(connection, unreadable, key)).collect()
}

fn report(unreadable: &Unreadable, (kind, owner, name): (Kind, String, String), problem: String) -> String {
    let record = UnreadableRecord { kind, key: (owner, name), problem };
    let text = record.to_string();
    unreadable.report(record);
    text
}

/// Reads a record out of three columns, the version, the body and the checksum, where they lie; else what is wrong with it.
fn versioned(key: &Key, row: &rusqlite::Row<'_>, at: usize) -> Result<Versioned, String> {
    let (version, body) = (row.get(at).map_err(wrong)?, text(row, at + 1).map_err(wrong)?);
    let crc: Option<u32> = row.get(at + 2).map_err(wrong)?;
    if crc.is_some_and(|crc| crc != checksum(key, body)) {
        return Err("it is not what was written".to_owned());
    }
    let record = Record::from_json(key.kind(), body).map_err(wrong)?;
    Ok(Versioned { version, record })
}

fn wrong(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Of a record and its key.
fn checksum(key: &Key, body: &str) -> u32 {
    let (owner, name) = key.parts();
    let parts = [owner.as_bytes(), &[0], name.as_bytes(), &[0, key.kind() as u8], body.as_bytes()];
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part))
}

fn text<'a>(row: &'a rusqlite::Row<'_>, at: usize) -> Result<&'a str, StoreError> {
    row.get_ref(at).and_then(|text| Ok(text.as_str()?)).map_err(store_error)
}

pub(super) fn list(
    connection: &Connection,
    unreadable: &Unreadable,
    kind: Kind,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    // No owner is empty, so that the pair of empty texts comes before every key.
    let (owner, name) = after.map(Key::parts).unwrap_or_default();
    let sql = "SELECT owner, name, version, body, crc FROM records
               WHERE kind = ?1 AND (owner, name) > (?2, ?3) ORDER BY owner, name";
    select(connection, unreadable, kind, sql, params![kind as u8, owner, name], limit)
}

pub(super) fn list_of(
    connection: &Connection,
    unreadable: &Unreadable,
    kind: Kind,
    device: &DeviceId,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    let sql =
        "SELECT owner, name, version, body, crc FROM records WHERE kind = ?1 AND owner = ?2 ORDER BY name";
    select(connection, unreadable, kind, sql, params![kind as u8, device.as_str()], usize::MAX)
}

pub(super) fn children(
    connection: &Connection,
    unreadable: &Unreadable,
    scope: &str,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    // The expression is that of the index `devices_by_parent`, to the letter.
    let sql = "SELECT owner, name, version, body, crc FROM records
               WHERE kind = 1 AND json_extract(body, '$.parentScopes[0]') = ?1 AND owner > ?2
               ORDER BY owner";
    let after = after.map(DeviceId::as_str).unwrap_or_default();
    select(connection, unreadable, Kind::Device, sql, params![scope, after], limit)
}

/// The first records that can be read, at most `limit`: a page that is shorter is the last one, whatever was passed over.
fn select(
    connection: &Connection,
    unreadable: &Unreadable,
    kind: Kind,
    sql: &str,
    values: &[&dyn ToSql],
    limit: usize,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(values).map_err(store_error)?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next().map_err(store_error)?
    {
        match keyed(kind, row) {
            Ok(record) => found.push(record),
            Err(problem) => {
                let part =
                    |at| row.get_ref(at).ok().and_then(|text| text.as_bytes().ok()).unwrap_or_default();
                let part = |at| String::from_utf8_lossy(part(at)).into_owned();
                report(unreadable, (kind, part(0), part(1)), problem);
            }
        }
    }
    Ok(found)
}

fn keyed(kind: Kind, row: &rusqlite::Row<'_>) -> Result<(Key, Versioned), String> {
    let (owner, name) = (text(row, 0).map_err(wrong)?, text(row, 1).map_err(wrong)?);
    let key = Key::from_parts(kind, owner, name).ok_or("its key is none of its kind")?;
    let found = versioned(&key, row, 2)?;
    Ok((key, found))
}

pub(super) fn count(connection: &Connection, kind: Kind) -> Result<u64, StoreError> {
    let sql = match is_counted(kind) {
        true => "SELECT records FROM kinds WHERE kind = ?1",
        false => "SELECT count(*) FROM records WHERE kind = ?1",
    };
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([kind as u8], |row| row.get(0)).optional())
        .map(Option::unwrap_or_default)
        .map_err(store_error)
}

/// Whether the number of records is kept in `kinds`: not of those that are noted, for nobody asks often.
fn is_counted(kind: Kind) -> bool {
    !matches!(kind, Kind::Activity | Kind::PolicyUse | Kind::ReadPositions)
}

/// Keeps the numbers of records in step with a change.
fn keep_counts(connection: &Connection, writes: &[Write]) -> Result<(), StoreError> {
    let mut grown: BTreeMap<u8, i64> = BTreeMap::new();
    for write in writes.iter().filter(|write| is_counted(write.key.kind())) {
        let by = i64::from(write.record.is_some()) - i64::from(write.replaces.is_some());
        *grown.entry(write.key.kind() as u8).or_default() += by;
    }
    grown.retain(|_, by| *by != 0);
    if grown.is_empty() {
        return Ok(());
    }
    let mut statement = connection
        .prepare_cached(
            "INSERT INTO kinds (kind, records) VALUES (?1, ?2)
             ON CONFLICT (kind) DO UPDATE SET records = records + excluded.records",
        )
        .map_err(store_error)?;
    grown
        .into_iter()
        .try_for_each(|(kind, by)| statement.execute(params![kind, by]).map(drop))
        .map_err(store_error)
}

pub(super) fn count_disabled(connection: &Connection) -> Result<u64, StoreError> {
    // The condition is that of the index `devices_disabled`, to the letter.
    let sql = "SELECT COUNT(*) FROM records WHERE kind = 1 AND json_extract(body, '$.status') = 'disabled'";
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([], |row| row.get(0)))
        .map_err(store_error)
}

/// The kind of decisions that have a column of their own.
const CHANGE: &str = "change";

pub(super) fn decisions(
    connection: &Connection,
    filter: &DecisionFilter,
) -> Result<Vec<Numbered<Decision>>, StoreError> {
    let mut sql = "SELECT number, body FROM decisions WHERE number < ?1".to_owned();
    let before = filter.before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
    let address = filter.address.map(|address| address.to_string());
    let mut values: Vec<&dyn ToSql> = vec![&before];
    if let Some(device) = &filter.device {
        values.push(device);
        sql.push_str(&format!(" AND device = ?{}", values.len()));
    }
    if let Some(address) = &address {
        values.push(address);
        sql.push_str(&format!(" AND address = ?{}", values.len()));
    }
    if filter.refused_only {
        sql.push_str(" AND refused = 1");
    }
    if filter.kind.as_deref() == Some(CHANGE) {
        sql.push_str(" AND changed = 1");
    }
    sql.push_str(" ORDER BY number DESC");
    let mut found = Vec::new();
    let mut statement = connection.prepare_cached(&sql).map_err(store_error)?;
    let mut rows = statement.query(&*values).map_err(store_error)?;
    while found.len() < filter.limit
        && let Some(row) = rows.next().map_err(store_error)?
    {
        let number = row.get(0).map_err(store_error)?;
        let record = text(row, 1).map_err(wrong).and_then(|body| serde_json::from_str(body).map_err(wrong));
        let record: Decision = match record {
            Ok(record) => record,
            Err(problem) => {
                // `holdfast audit verify` names it for ever.
                tracing::error!(number, problem, "a record of the audit log cannot be read");
                continue;
            }
        };
        if filter.admits(&record) {
            found.push(Numbered { number, record });
        }
    }
    Ok(found)
}

pub(super) fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Applies a change within a transaction; the versions after it.
pub(super) fn apply(
    connection: &Connection,
    ledger: &mut Ledger,
    change: &Change,
) -> Result<Vec<u64>, StoreError> {
    let versions =
        change.writes.iter().map(|write| apply_write(connection, write)).collect::<Result<Vec<_>, _>>()?;
    keep_counts(connection, &change.writes)?;
    if let Some(decision) = &change.decision {
        ledger.append(connection, [decision])?;
    }
    Ok(versions)
}

/// Writes records whatever was there.
pub(super) fn note(connection: &Connection, records: &[(Key, Record)]) -> Result<(), StoreError> {
    let mut upsert = connection
        .prepare_cached(
            "INSERT INTO records (kind, owner, name, version, body, crc) VALUES (?1, ?2, ?3, 1, ?4, ?5)
             ON CONFLICT (kind, owner, name) DO UPDATE
             SET version = version + 1, body = excluded.body, crc = excluded.crc",
        )
        .map_err(store_error)?;
    for (key, record) in records {
        let (owner, name) = key.parts();
        let (body, crc) = body(key, record)?;
        upsert.execute(params![key.kind() as u8, owner, name, body, crc]).map_err(store_error)?;
    }
    Ok(())
}

/// A record as it rests, and its checksum.
fn body(key: &Key, record: &Record) -> Result<(String, u32), StoreError> {
    let body = record
        .to_json()
        .map_err(|error| StoreError::Failed(format!("the record {key:?} cannot be written: {error}")))?;
    let crc = checksum(key, &body);
    Ok((body, crc))
}

fn apply_write(connection: &Connection, write: &Write) -> Result<u64, StoreError> {
    let (owner, name) = write.key.parts();
    let kind = write.key.kind() as u8;
    let body = write.record.as_ref().map(|record| body(&write.key, record)).transpose()?;
    let (changed, version) = match (body, write.replaces) {
        (Some((body, crc)), None) => (
            connection
                .prepare_cached(
                    "INSERT INTO records (kind, owner, name, version, body, crc) VALUES (?1, ?2, ?3, 1, ?4, ?5)
                     ON CONFLICT DO NOTHING",
                )
                .and_then(|mut statement| statement.execute(params![kind, owner, name, body, crc])),
            1,
        ),
        (Some((body, crc)), Some(replaced)) => (
            connection
                .prepare_cached(
                    "UPDATE records SET version = version + 1, body = ?5, crc = ?6
                     WHERE kind = ?1 AND owner = ?2 AND name = ?3 AND version = ?4",
                )
                .and_then(|mut statement| statement.execute(params![kind, owner, name, replaced, body, crc])),
            replaced.saturating_add(1),
        ),
        (None, Some(replaced)) => (
            connection
                .prepare_cached(
                    "DELETE FROM records WHERE kind = ?1 AND owner = ?2 AND name = ?3 AND version = ?4",
                )
                .and_then(|mut statement| statement.execute(params![kind, owner, name, replaced])),
            0,
        ),
        // To remove what must not be there: true when it is not.
        (None, None) => {
            let sql = "SELECT NOT EXISTS (SELECT 1 FROM records WHERE kind = ?1 AND owner = ?2 AND name = ?3)";
            let absent = connection.prepare_cached(sql).and_then(|mut statement| {
                statement.query_row(params![kind, owner, name], |row| row.get::<_, bool>(0))
            });
            (absent.map(usize::from), 0)
        }
    };
    match changed.map_err(store_error)? {
        0 => Err(StoreError::Stale(write.key.clone())),
        _ => Ok(version),
    }
}

/// The device that a decision is about: the first part of its identity.
pub(crate) fn device_of(decision: &Decision) -> Option<&str> {
    let identity = decision.identity.as_deref()?;
    Some(identity.split_once('/').map_or(identity, |(device, _)| device))
}
