//! The statements, and how keys, records and decisions become rows. Nothing else in here speaks SQL but the schema.

use std::collections::BTreeMap;

use hub::decision::{Decision, DecisionFilter, Numbered};
use hub::identity::DeviceId;
use hub::ports::registry::{Change, StoreError, Versioned, Write};
use hub::record::{Key, Kind, Record};
use rusqlite::types::ToSql;
use rusqlite::{Connection, OptionalExtension, ffi, params};

use super::ledger::Ledger;

/// Says in the port's words what SQLite said.
pub(super) fn store_error(error: rusqlite::Error) -> StoreError {
    let full = error.sqlite_error().is_some_and(|failure| {
        failure.extended_code & 0xff == ffi::SQLITE_FULL || failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE
    });
    if full { StoreError::NoSpace } else { StoreError::Failed(error.to_string()) }
}

fn unreadable(what: &str, error: &serde_json::Error) -> StoreError {
    StoreError::Failed(format!("{what} cannot be read: {error}"))
}

pub(super) fn load(connection: &Connection, key: &Key) -> Result<Option<Versioned>, StoreError> {
    let (owner, name) = key.parts();
    let mut statement = connection
        .prepare_cached("SELECT version, body FROM records WHERE kind = ?1 AND owner = ?2 AND name = ?3")
        .map_err(store_error)?;
    let mut rows = statement.query(params![key.kind() as u8, owner, name]).map_err(store_error)?;
    match rows.next().map_err(store_error)? {
        Some(row) => versioned(key.kind(), row, 0).map(Some),
        None => Ok(None),
    }
}

/// Reads a record out of two columns, the version and the body, where they lie.
fn versioned(kind: Kind, row: &rusqlite::Row<'_>, at: usize) -> Result<Versioned, StoreError> {
    let version = row.get(at).map_err(store_error)?;
    let record = Record::from_json(kind, text(row, at + 1)?);
    let record = record.map_err(|error| unreadable("a record", &error))?;
    Ok(Versioned { version, record })
}

fn text<'a>(row: &'a rusqlite::Row<'_>, at: usize) -> Result<&'a str, StoreError> {
    row.get_ref(at).and_then(|text| Ok(text.as_str()?)).map_err(store_error)
}

pub(super) fn list(
    connection: &Connection,
    kind: Kind,
    after: Option<&Key>,
    limit: usize,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    // No owner is empty, so that the pair of empty texts comes before every key.
    let (owner, name) = after.map(Key::parts).unwrap_or_default();
    let sql = "SELECT owner, name, version, body FROM records
               WHERE kind = ?1 AND (owner, name) > (?2, ?3) ORDER BY owner, name LIMIT ?4";
    select(connection, kind, sql, params![kind as u8, owner, name, limit_of(limit)])
}

pub(super) fn list_of(
    connection: &Connection,
    kind: Kind,
    device: &DeviceId,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    let sql = "SELECT owner, name, version, body FROM records WHERE kind = ?1 AND owner = ?2 ORDER BY name";
    select(connection, kind, sql, params![kind as u8, device.as_str()])
}

pub(super) fn children(
    connection: &Connection,
    scope: &str,
    after: Option<&DeviceId>,
    limit: usize,
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    // The expression is that of the index `devices_by_parent`, to the letter.
    let sql = "SELECT owner, name, version, body FROM records
               WHERE kind = 1 AND json_extract(body, '$.parentScopes[0]') = ?1 AND owner > ?2
               ORDER BY owner LIMIT ?3";
    let after = after.map(DeviceId::as_str).unwrap_or_default();
    select(connection, Kind::Device, sql, params![scope, after, limit_of(limit)])
}

fn select(
    connection: &Connection,
    kind: Kind,
    sql: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<(Key, Versioned)>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query(values).map_err(store_error)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        let (owner, name) = (text(row, 0)?, text(row, 1)?);
        let key = Key::from_parts(kind, owner, name)
            .ok_or_else(|| StoreError::Failed(format!("`{owner}`, `{name}` is no key of a {kind:?}")))?;
        found.push((key, versioned(kind, row, 2)?));
    }
    Ok(found)
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
        let record: Decision =
            serde_json::from_str(text(row, 1)?).map_err(|error| unreadable("a decision", &error))?;
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
            "INSERT INTO records (kind, owner, name, version, body) VALUES (?1, ?2, ?3, 1, ?4)
             ON CONFLICT (kind, owner, name) DO UPDATE SET version = version + 1, body = excluded.body",
        )
        .map_err(store_error)?;
    for (key, record) in records {
        let (owner, name) = key.parts();
        upsert.execute(params![key.kind() as u8, owner, name, body(key, record)?]).map_err(store_error)?;
    }
    Ok(())
}

/// A record as it rests.
fn body(key: &Key, record: &Record) -> Result<String, StoreError> {
    record
        .to_json()
        .map_err(|error| StoreError::Failed(format!("the record {key:?} cannot be written: {error}")))
}

fn apply_write(connection: &Connection, write: &Write) -> Result<u64, StoreError> {
    let (owner, name) = write.key.parts();
    let kind = write.key.kind() as u8;
    let body = write.record.as_ref().map(|record| body(&write.key, record)).transpose()?;
    let (changed, version) = match (body, write.replaces) {
        (Some(body), None) => (
            connection
                .prepare_cached(
                    "INSERT INTO records (kind, owner, name, version, body) VALUES (?1, ?2, ?3, 1, ?4)
                     ON CONFLICT DO NOTHING",
                )
                .and_then(|mut statement| statement.execute(params![kind, owner, name, body])),
            1,
        ),
        (Some(body), Some(replaced)) => (
            connection
                .prepare_cached(
                    "UPDATE records SET version = version + 1, body = ?5
                     WHERE kind = ?1 AND owner = ?2 AND name = ?3 AND version = ?4",
                )
                .and_then(|mut statement| statement.execute(params![kind, owner, name, replaced, body])),
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
            let absent = load(connection, &write.key)?.is_none();
            (Ok(usize::from(absent)), 0)
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
