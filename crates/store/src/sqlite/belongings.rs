//! What the registry remembers of the files beside it, in a table of its own.

use hub::belongings::Belongings;
use hub::ports::registry::StoreError;
use rusqlite::{Connection, OptionalExtension};

use super::rows::store_error;

pub(super) fn read(connection: &Connection) -> Result<Option<Belongings>, StoreError> {
    let body: Option<String> = connection
        .query_row("SELECT body FROM belongings", [], |row| row.get(0))
        .optional()
        .map_err(store_error)?;
    let parse = |body: String| serde_json::from_str(&body);
    body.map(parse).transpose().map_err(|error| {
        StoreError::Failed(format!("what the registry remembers of its files cannot be read: {error}"))
    })
}

pub(super) fn write(connection: &Connection, belongings: &Belongings) -> Result<(), StoreError> {
    let body = serde_json::to_string(belongings).map_err(|error| StoreError::Failed(error.to_string()))?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO belongings (one, body) VALUES (1, ?1)")
        .and_then(|mut statement| statement.execute([body]))
        .map(drop)
        .map_err(store_error)
}
