//! Opening the database file and bringing it to the schema of this version.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use hub::ports::registry::StoreError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::SqliteConfig;
use super::index_room;
use super::ledger::Ledger;

/// Why the database does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It was written by a newer program.
    #[error("the registry has schema {found}, this program knows schemas up to {known}")]
    Newer {
        /// The schema of the file.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// It is a database of something else.
    #[error("the file is a database, but not a registry of Holdfast")]
    Foreign,
    /// It is damaged.
    #[error("the registry is damaged: {0}")]
    Corrupt(String),
    /// The file cannot be made or opened.
    #[error("the registry cannot be opened")]
    Io(#[from] io::Error),
    /// SQLite failed.
    #[error("the registry cannot be opened")]
    Sqlite(#[source] rusqlite::Error),
    /// It was written by an older program, and only reading was asked for.
    #[error(
        "the registry has schema {found}, and is brought to {known} when a hub of this version starts with it"
    )]
    Older {
        /// The schema of the file.
        found: i64,
        /// The one that this program reads.
        known: i64,
    },
    /// Its content could not be read or brought to a new schema.
    #[error("the registry cannot be read")]
    Content(#[from] StoreError),
}

impl From<rusqlite::Error> for OpenError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(error.to_string()),
            _ => Self::Sqlite(error),
        }
    }
}

/// A step from one schema to the next: statements, and what statements cannot do after them.
struct Migration {
    sql: &'static str,
    then: fn(&Connection) -> Result<(), StoreError>,
}

/// The steps; the number of a schema is how many of them made it. Never change one that was released: add another.
const MIGRATIONS: [Migration; 5] = [
    Migration { sql: include_str!("migrations/0001_records.sql"), then: |_| Ok(()) },
    Migration {
        sql: include_str!("migrations/0002_audit_log.sql"),
        then: |connection| Ledger::begin(connection).map(drop),
    },
    Migration { sql: include_str!("migrations/0003_one_tree.sql"), then: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0004_children.sql"), then: |_| Ok(()) },
    Migration { sql: include_str!("migrations/0005_checksums.sql"), then: |_| Ok(()) },
];

/// `HOLD`: marks the file as ours.
const APPLICATION_ID: i64 = 0x484f_4c44;

/// Opens the connection that writes, making the file and the schema when needed.
pub(super) fn open_writer(path: &Path, config: &SqliteConfig) -> Result<Connection, OpenError> {
    index_room::check(path)?;
    make_file(path)?;
    // SQLite removes its write-ahead log when it is closed in order.
    let unclean = wal_path(path).metadata().is_ok_and(|wal| wal.len() > 0);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    if unclean {
        quick_check(&connection)?;
    }
    migrate(&mut connection)?;
    if let Some(bytes_max) = config.bytes_max {
        let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        connection.pragma_update(None, "max_page_count", bytes_max / page.max(1))?;
    }
    Ok(connection)
}

/// Opens a connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    set_up(&connection)?;
    Ok(connection)
}

fn set_up(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "foreign_keys", false)?;
    // Otherwise a statement whose plan might be better for other values is planned again for each page of a list.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes the file before SQLite does, for its owner alone; SQLite gives the files beside it the same mode.
fn make_file(path: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(OWNER_ONLY).open(path) {
        Ok(file) => {
            file.sync_all()?;
            match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                Some(parent) => File::open(parent)?.sync_all(),
                None => Ok(()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mode = path.metadata()?.permissions().mode();
            if mode & 0o077 != 0 {
                tracing::warn!(path = %path.display(), "the registry was readable by others; it no longer is");
                std::fs::set_permissions(path, Permissions::from_mode(OWNER_ONLY))?;
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
}

const OWNER_ONLY: u32 = 0o600;

fn wal_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

fn quick_check(connection: &Connection) -> Result<(), OpenError> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" { Ok(()) } else { Err(OpenError::Corrupt(verdict)) }
}

/// Fails unless the schema is the one of this program.
pub(super) fn check_current(connection: &Connection) -> Result<(), OpenError> {
    match schema_of(connection)? {
        (found, known) if found < known => Err(OpenError::Older { found, known }),
        _ => Ok(()),
    }
}

/// The schema of the file, and the newest that this program knows.
fn schema_of(connection: &Connection) -> Result<(i64, i64), OpenError> {
    let known = MIGRATIONS.len() as i64;
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let owner: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if owner != APPLICATION_ID && tables > 0 {
        return Err(OpenError::Foreign);
    }
    if !(0..=known).contains(&found) {
        return Err(OpenError::Newer { found, known });
    }
    Ok((found, known))
}

fn migrate(connection: &mut Connection) -> Result<(), OpenError> {
    let (found, _) = schema_of(connection)?;
    for (at, step) in MIGRATIONS.iter().enumerate().skip(found as usize) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step.sql)?;
        (step.then)(&transaction)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", at as i64 + 1)?;
        transaction.commit()?;
        tracing::info!(schema = at + 1, "the registry was brought to a new schema");
    }
    Ok(())
}
