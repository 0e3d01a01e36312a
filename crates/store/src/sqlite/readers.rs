//! The connections that read, each preferred by the thread that used it last: what SQLite keeps for one then lies in the caches of
//! that thread's processor.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use hub::ports::registry::StoreError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{lock, rows, schema};

/// Connections beyond which a thread takes another one's, where one is idle.
const CONNECTIONS_MAX: usize = 16;

/// The connections that read, opened when first needed.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    permits: Arc<Semaphore>,
}

/// The connections that nobody uses at the moment, and who used them last.
#[derive(Default)]
struct Idle {
    connections: Vec<(ThreadId, Connection)>,
    /// All that are open, those in use included.
    open: usize,
}

impl Idle {
    /// That of this thread, or any where there are enough; none where one is to be opened.
    fn take(&mut self, thread: ThreadId) -> Option<Connection> {
        let own = self.connections.iter().position(|(last, _)| *last == thread);
        let any = || self.connections.len().checked_sub(1).filter(|_| self.open >= CONNECTIONS_MAX);
        let at = own.or_else(any);
        if at.is_none() {
            self.open += 1;
        }
        at.map(|at| self.connections.swap_remove(at).1)
    }
}

impl Readers {
    /// Readers of this file, of whose longer reads so many run at once.
    pub(super) fn new(path: &Path, at_once: usize) -> Self {
        Self {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(at_once.max(1))),
        }
    }

    /// Closes what is open.
    pub(super) fn close(&self) {
        lock(&self.idle).connections.clear();
    }

    /// Reads on a thread where that may take its time.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let failed = |error: &dyn std::fmt::Display| StoreError::Failed(error.to_string());
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| failed(&error))?;
        let readers = Arc::clone(self);
        let work = move || {
            let result = readers.read(read);
            drop(permit);
            result
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|error| failed(&error))?,
            // A tool without a runtime waits right here.
            Err(_) => work(),
        }
    }

    /// Reads on this thread.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let thread = thread::current().id();
        let idle = lock(&self.idle).take(thread);
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path).map_err(|error| {
                lock(&self.idle).open -= 1;
                rows::store_error(error)
            })?,
        };
        let result = read(&connection);
        lock(&self.idle).connections.push((thread, connection));
        result
    }
}
