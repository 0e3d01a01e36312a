//! The connections that read. A thread that reads single rows has one of its own: what SQLite keeps for it then lies in
//! the caches of that thread's processor. Longer reads run on threads that come and go, and share theirs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};

use hub::ports::registry::StoreError;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{lock, rows, schema};

/// Connections beyond which another owner's is taken, where one is idle.
const CONNECTIONS_MAX: usize = 16;

/// The connections that read, opened when first needed.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Idle>,
    permits: Arc<Semaphore>,
}

/// The thread that has a connection for itself; none shares it with whoever reads for longer.
type Owner = Option<ThreadId>;

/// The connections that nobody uses at the moment, and whose they are.
#[derive(Default)]
struct Idle {
    connections: Vec<(Owner, Connection)>,
    /// All that are open, those in use included.
    open: usize,
}

impl Idle {
    /// One of this owner, or any where there are enough; none where one is to be opened.
    fn take(&mut self, owner: Owner) -> Option<Connection> {
        let own = self.connections.iter().position(|(of, _)| *of == owner);
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
        let mut idle = lock(&self.idle);
        idle.open -= idle.connections.len();
        idle.connections.clear();
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
            let result = readers.with(None, read);
            drop(permit);
            result
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => runtime.spawn_blocking(work).await.map_err(|error| failed(&error))?,
            // A tool without a runtime waits right here.
            Err(_) => work(),
        }
    }

    /// Reads on this thread, which is to last: a connection stays with it.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.with(Some(thread::current().id()), read)
    }

    fn with<T>(
        &self,
        owner: Owner,
        read: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let idle = lock(&self.idle).take(owner);
        let connection = match idle {
            Some(connection) => connection,
            None => schema::open_reader(&self.path).map_err(|error| {
                lock(&self.idle).open -= 1;
                rows::store_error(error)
            })?,
        };
        let result = read(&connection);
        lock(&self.idle).connections.push((owner, connection));
        result
    }
}
