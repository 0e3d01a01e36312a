//! Records that are there and cannot be read: each is named once and passed over, so that it takes no other with it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;

use hub::record::Kind;

use super::lock;

/// Records that are remembered; all are logged.
const REMEMBERED_MAX: usize = 1_000;

/// A record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRecord {
    /// Its kind.
    pub kind: Kind,
    /// The two parts of its key.
    pub key: (String, String),
    /// Why.
    pub problem: String,
}

impl fmt::Display for UnreadableRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owner, name) = &self.key;
        write!(f, "the {:?} record of `{owner}`", self.kind)?;
        if !name.is_empty() {
            write!(f, " `{name}`")?;
        }
        write!(f, " in registry.db cannot be read: {}", self.problem)
    }
}

/// Those that were found so far.
#[derive(Debug, Default)]
pub(super) struct Unreadable(Mutex<BTreeMap<(u8, String, String), UnreadableRecord>>);

impl Unreadable {
    /// Takes one in, and tells the operator the first time.
    pub(super) fn report(&self, record: UnreadableRecord) {
        let mut known = lock(&self.0);
        let key = (record.kind as u8, record.key.0.clone(), record.key.1.clone());
        if known.contains_key(&key) {
            return;
        }
        tracing::error!(kind = ?record.kind, owner = record.key.0, name = record.key.1, "{record}");
        if known.len() < REMEMBERED_MAX {
            known.insert(key, record);
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<UnreadableRecord> {
        lock(&self.0).values().cloned().collect()
    }
}
