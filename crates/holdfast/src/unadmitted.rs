//! Connections that have not proved who they are: what they may make the hub hold, all together and each.
//!
//! Anybody may open a connection, so its memory is bounded before it is trusted: by [`Limits::bytes_each`] for what it sends, by
//! [`Limits::lifetime`] for how long it may take, and by [`Limits::bytes_all`] and [`Limits::bytes_per_network`] for all of them. Where
//! the last two are reached, the oldest is closed. A connection leaves the table with its first good credential and is never
//! closed by it afterwards. See `docs/limits.md`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hub::backoff::network;
use hub::decision::{Act, Facts, Origin};
use hub::hub::Hub;
use hub::limits;
use hub::refusal::{AdmissionBound, Refusal};
use tokio::task::AbortHandle;

use crate::drain::Drain;

/// What unadmitted connections may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes that one may send.
    pub(crate) bytes_each: usize,
    /// Bytes that all of them may make the hub hold.
    pub(crate) bytes_all: usize,
    /// Bytes that those of one network (an IPv4 address, an IPv6 /64) may make the hub hold.
    pub(crate) bytes_per_network: usize,
    /// How long one may take to be admitted.
    pub(crate) lifetime: Duration,
}

/// How often connections that take too long are looked for.
const CLOSE_LATE_EVERY: Duration = Duration::from_secs(1);
/// A connection in TLS and its task hold so much before its first byte of a protocol.
const CONNECTION_BYTES: usize = 12 * 1024;

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes_each: limits::UNADMITTED_BYTES_MAX,
            bytes_all: limits::UNADMITTED_BYTES_OF_ALL_MAX,
            bytes_per_network: limits::UNADMITTED_BYTES_PER_NETWORK_MAX,
            lifetime: limits::UNADMITTED_LIFETIME,
        }
    }
}

/// Who is told of a connection that was closed.
pub(crate) type OnClosed = Box<dyn Fn(Origin, AdmissionBound) + Send + Sync>;

/// The table of unadmitted connections.
pub(crate) struct Unadmitted {
    limits: Limits,
    on_closed: OnClosed,
    // A std mutex: nothing awaits while holding it, and the critical section is a few look-ups.
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    next: u64,
    bytes: usize,
    /// By age, the oldest first.
    connections: BTreeMap<u64, Entry>,
    networks: HashMap<IpAddr, Share>,
}

struct Entry {
    origin: Origin,
    network: Option<IpAddr>,
    since: Instant,
    bytes: usize,
    /// Ends the task that serves the connection; `None` until that is known.
    task: Option<AbortHandle>,
}

/// Starts a table whose closed connections are on record, and closes those that take too long until the drain begins.
pub(crate) fn start(hub: &Arc<Hub>, drain: Drain) -> Arc<Unadmitted> {
    let recording = hub.clone();
    let on_closed = move |origin, bound| {
        let refusal = Refusal::NotAdmittedWithin { bound };
        recording.record(Act::Handshake, None, origin, Facts::default(), Some(refusal));
    };
    let unadmitted = Unadmitted::new(Limits::default(), Box::new(on_closed));
    let closing = unadmitted.clone();
    tokio::spawn(async move {
        let mut every = tokio::time::interval(CLOSE_LATE_EVERY);
        loop {
            tokio::select! {
                _ = every.tick() => closing.close_late(Instant::now()),
                () = drain.begun() => return,
            }
        }
    });
    unadmitted
}

/// What the connections of one network take.
#[derive(Default)]
struct Share {
    bytes: usize,
    connections: BTreeSet<u64>,
}

impl Unadmitted {
    /// An empty table; `on_closed` is called, without a lock, for each connection that it closes.
    pub(crate) fn new(limits: Limits, on_closed: OnClosed) -> Arc<Self> {
        Arc::new(Self { limits, on_closed, table: Mutex::default() })
    }

    /// Enters a connection that was accepted.
    pub(crate) fn enter(self: &Arc<Self>, origin: &Origin, now: Instant) -> Arc<Admission> {
        let mut table = self.lock();
        let number = table.next;
        table.next += 1;
        let network = origin.address.map(network);
        let entry = Entry { origin: origin.clone(), network, since: now, bytes: 0, task: None };
        table.connections.insert(number, entry);
        if let Some(network) = network {
            table.networks.entry(network).or_default().connections.insert(number);
        }
        table.add(number, CONNECTION_BYTES);
        let closed = table.make_room(number, &self.limits);
        drop(table);
        self.tell(closed);
        Arc::new(Admission { table: self.clone(), number, is_admitted: AtomicBool::new(false) })
    }

    /// Closes the connections that have taken too long; to be called every second or so.
    pub(crate) fn close_late(&self, now: Instant) {
        let mut closed = Vec::new();
        let mut table = self.lock();
        while let Some((&number, entry)) = table.connections.first_key_value()
            && now.saturating_duration_since(entry.since) >= self.limits.lifetime
        {
            closed.extend(table.close(number));
        }
        drop(table);
        let seconds = self.limits.lifetime.as_secs();
        self.tell(closed.into_iter().map(|origin| (origin, AdmissionBound::Time { seconds })).collect());
    }

    /// Closes the oldest connection, for its descriptor; `false` when there is none.
    pub(crate) fn close_oldest(&self) -> bool {
        let mut table = self.lock();
        let oldest = table.connections.first_key_value().map(|(number, _)| *number);
        let closed = oldest.and_then(|number| table.close(number));
        drop(table);
        let is_closed = closed.is_some();
        self.tell(closed.into_iter().map(|origin| (origin, AdmissionBound::Descriptors)).collect());
        is_closed
    }

    fn tell(&self, closed: Vec<(Origin, AdmissionBound)>) {
        closed.into_iter().for_each(|(origin, bound)| (self.on_closed)(origin, bound));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, number: u64, bytes: usize) {
        let Some(entry) = self.connections.get_mut(&number) else { return };
        entry.bytes += bytes;
        self.bytes += bytes;
        if let Some(share) = entry.network.and_then(|network| self.networks.get_mut(&network)) {
            share.bytes += bytes;
        }
    }

    /// Takes back what a connection was counted for beyond itself.
    fn give_back(&mut self, number: u64) {
        let Some(entry) = self.connections.get_mut(&number) else { return };
        let bytes = entry.bytes - CONNECTION_BYTES;
        entry.bytes = CONNECTION_BYTES;
        self.bytes -= bytes;
        if let Some(share) = entry.network.and_then(|network| self.networks.get_mut(&network)) {
            share.bytes -= bytes;
        }
    }

    /// Takes a connection out. `None` when it is not in the table: it was admitted, has ended, or was closed.
    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.connections.remove(&number)?;
        self.bytes -= entry.bytes;
        if let Some(network) = entry.network
            && let Some(share) = self.networks.get_mut(&network)
        {
            share.bytes -= entry.bytes;
            share.connections.remove(&number);
            if share.connections.is_empty() {
                self.networks.remove(&network);
            }
        }
        Some(entry)
    }

    fn close(&mut self, number: u64) -> Option<Origin> {
        let entry = self.remove(number)?;
        if let Some(task) = entry.task {
            task.abort();
        }
        Some(entry.origin)
    }

    /// Closes the oldest until the limits hold: those of the network first whose connection asks for room.
    fn make_room(&mut self, number: u64, limits: &Limits) -> Vec<(Origin, AdmissionBound)> {
        let mut closed = Vec::new();
        let network = self.connections.get(&number).and_then(|entry| entry.network);
        while let Some(share) = network.and_then(|network| self.networks.get(&network))
            && share.bytes > limits.bytes_per_network
            && let Some(&oldest) = share.connections.first()
        {
            let bound = AdmissionBound::MemoryOfNetwork { bytes: limits.bytes_per_network };
            closed.extend(self.close(oldest).map(|origin| (origin, bound)));
        }
        while self.bytes > limits.bytes_all
            && let Some((&oldest, _)) = self.connections.first_key_value()
        {
            let bound = AdmissionBound::MemoryOfAll { bytes: limits.bytes_all };
            closed.extend(self.close(oldest).map(|origin| (origin, bound)));
        }
        closed
    }
}

/// The place of one connection in the table.
pub(crate) struct Admission {
    table: Arc<Unadmitted>,
    number: u64,
    is_admitted: AtomicBool,
}

/// The connection was closed in the very moment in which its credential was found good.
#[derive(Debug)]
struct Closed;

impl Admission {
    /// Says which task serves the connection, to be ended with it.
    pub(crate) fn served_by(&self, task: AbortHandle) {
        let mut table = self.table.lock();
        match table.connections.get_mut(&self.number) {
            Some(entry) => entry.task = Some(task),
            None if self.is_admitted() => {}
            // Closed before the task was known.
            None => task.abort(),
        }
    }

    /// Counts bytes that the connection sent.
    ///
    /// # Errors
    /// When it has sent more than one may before it is admitted.
    pub(crate) fn received(&self, bytes: usize) -> io::Result<()> {
        let limits = &self.table.limits;
        let mut table = self.table.lock();
        table.add(self.number, bytes);
        let held = table.connections.get(&self.number).map_or(0, |entry| entry.bytes);
        let closed = if held > CONNECTION_BYTES + limits.bytes_each {
            let bound = AdmissionBound::Bytes { bytes: limits.bytes_each };
            table.close(self.number).map(|origin| (origin, bound)).into_iter().collect()
        } else {
            table.make_room(self.number, limits)
        };
        let is_here = table.connections.contains_key(&self.number);
        drop(table);
        self.table.tell(closed);
        match is_here || self.is_admitted() {
            true => Ok(()),
            false => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it was not admitted within its bounds"))
            }
        }
    }

    /// Says that what the connection sent is not held any more: an answered request, a body that nobody wants.
    pub(crate) fn consumed(&self) {
        if !self.is_admitted() {
            self.table.lock().give_back(self.number);
        }
    }

    /// Takes the connection out of the table: it showed a good credential. Later calls change nothing. For a connection that was
    /// closed before this never returns: its task is ended, and must not begin anything that outlives it.
    pub(crate) async fn admit(&self) {
        if self.try_admit().is_err() {
            std::future::pending().await
        }
    }

    fn try_admit(&self) -> Result<(), Closed> {
        if self.is_admitted() {
            return Ok(());
        }
        let mut table = self.table.lock();
        let was_here = table.remove(self.number).is_some();
        // Under the lock, so that whoever finds no entry knows why.
        if was_here {
            self.is_admitted.store(true, Ordering::Release);
        }
        match was_here || self.is_admitted() {
            true => Ok(()),
            false => Err(Closed),
        }
    }

    /// Whether it was admitted.
    pub(crate) fn is_admitted(&self) -> bool {
        self.is_admitted.load(Ordering::Acquire)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        if !self.is_admitted() {
            self.table.lock().remove(self.number);
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission")
            .field("number", &self.number)
            .field("is_admitted", &self.is_admitted)
            .finish()
    }
}

#[cfg(test)]
#[path = "unadmitted_tests.rs"]
mod tests;
