//! A disk in memory that can lose power: it keeps what was written apart from what was synced, fails on request, and
//! forgets as a real one does.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard};

use holdfast_store::journal::{Disk, DiskFile};

/// Random numbers from a seed (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    /// True once in `n` times.
    pub(crate) fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// How a machine stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process is killed; the page cache lives on.
    Kill,
    /// Nothing survives that was not synced.
    LoseAll,
    /// Everything survives, synced or not.
    KeepAll,
    /// Of each write that was not synced, any sectors survive; names come and go.
    Random(u64),
}

/// What the disk does wrong.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// The sync of a file after so many more fails.
    pub(crate) fail_sync: Option<u32>,
    /// The sync of the directory after so many more fails.
    pub(crate) fail_name_sync: Option<u32>,
    /// The write after so many more fails.
    pub(crate) fail_write: Option<u32>,
    /// Cutting a file fails.
    pub(crate) fail_truncate: bool,
    /// So many bytes fit on the disk.
    pub(crate) space: Option<usize>,
    /// Writes are cut short now and then.
    pub(crate) short_writes: bool,
    /// The process has no descriptor for another file.
    pub(crate) no_descriptor: bool,
    /// Reads of a page that holds this position of any file fail.
    pub(crate) bad_page: Option<u64>,
}

/// The disk.
#[derive(Debug)]
pub(crate) struct PowerDisk {
    state: Mutex<State>,
}

#[derive(Debug, Clone)]
struct State {
    names: BTreeMap<String, usize>,
    stable_names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    faults: Faults,
    random: Random,
    dead: bool,
    syncs: u64,
    reads: u64,
}

#[derive(Debug, Clone, Default)]
struct Contents {
    cached: Vec<u8>,
    stable: Vec<u8>,
    unsynced: Vec<Edit>,
}

#[derive(Debug, Clone)]
enum Edit {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl PowerDisk {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Self::with_files(seed, BTreeMap::new())
    }

    /// A disk that holds these files, synced.
    pub(crate) fn with_files(seed: u64, files: BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let mut names = BTreeMap::new();
        let mut contents = Vec::new();
        for (name, bytes) in files {
            names.insert(name, contents.len());
            contents.push(Contents { cached: bytes.clone(), stable: bytes, unsynced: vec![] });
        }
        Arc::new(Self {
            state: Mutex::new(State {
                stable_names: names.clone(),
                names,
                files: contents,
                faults: Faults::default(),
                random: Random(seed),
                dead: false,
                syncs: 0,
                reads: 0,
            }),
        })
    }

    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap();
        if state.dead { Err(io::Error::other("this machine is off")) } else { Ok(state) }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state.lock().unwrap().faults);
    }

    /// How many syncs of files were asked for.
    pub(crate) fn syncs(&self) -> u64 {
        self.state.lock().unwrap().syncs
    }

    /// How many reads were asked for.
    pub(crate) fn reads(&self) -> u64 {
        self.state.lock().unwrap().reads
    }

    /// The files as a process sees them.
    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state.lock().unwrap();
        state.names.iter().map(|(name, at)| (name.clone(), state.files[*at].cached.clone())).collect()
    }

    /// Stops this disk for good, and gives what the next start finds.
    pub(crate) fn crash(&self, crash: Crash) -> Arc<Self> {
        let mut dead = self.state.lock().unwrap();
        let mut state = dead.clone();
        dead.dead = true;
        drop(dead);
        state.faults = Faults::default();
        if crash != Crash::Kill {
            let mut random = Random(if let Crash::Random(seed) = crash { seed } else { 0 });
            for file in &mut state.files {
                for edit in std::mem::take(&mut file.unsynced) {
                    match crash {
                        Crash::KeepAll => edit.apply(&mut file.stable),
                        Crash::Random(_) => edit.apply_some(&mut file.stable, &mut random),
                        Crash::LoseAll | Crash::Kill => {}
                    }
                }
                file.cached = file.stable.clone();
            }
            match crash {
                Crash::KeepAll => {}
                Crash::Random(_) => {
                    // Each name that was made or removed since the last sync of the directory is there or is not.
                    let all: Vec<_> = state.names.keys().chain(state.stable_names.keys()).cloned().collect();
                    for name in all {
                        let of = if random.once_in(2) { &state.names } else { &state.stable_names };
                        match of.get(&name).copied() {
                            Some(at) => state.stable_names.insert(name, at),
                            None => state.stable_names.remove(&name),
                        };
                    }
                    state.names = state.stable_names.clone();
                }
                Crash::LoseAll | Crash::Kill => state.names = state.stable_names.clone(),
            }
            state.stable_names = state.names.clone();
        }
        Arc::new(Self { state: Mutex::new(state) })
    }
}

const SECTOR: usize = 512;

impl Edit {
    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, new) => {
                let end = at + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(&new);
            }
            Self::Truncate(size) => bytes.resize(size, 0),
        }
    }

    fn apply_some(self, bytes: &mut Vec<u8>, random: &mut Random) {
        match (self, random.below(4)) {
            (_, 0) => {}
            (edit, 1) | (edit @ Self::Truncate(_), _) => edit.apply(bytes),
            (Self::Write(at, new), _) => {
                // The length may grow without the data: the file then holds zeros there.
                let end = at + new.len();
                if bytes.len() < end && random.once_in(2) {
                    bytes.resize(end, 0);
                }
                let mut start = 0;
                while start < new.len() {
                    let stop = ((at + start) / SECTOR * SECTOR + SECTOR - at).min(new.len());
                    if random.once_in(2) {
                        Self::Write(at + start, new[start..stop].to_vec()).apply(bytes);
                    }
                    start = stop;
                }
            }
        }
    }
}

fn due(countdown: &mut Option<u32>) -> bool {
    match countdown {
        Some(0) => {
            *countdown = None;
            true
        }
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

struct Handle {
    disk: Arc<PowerDisk>,
    at: usize,
}

/// The disk as the journal takes it.
pub(crate) struct Plugged(pub(crate) Arc<PowerDisk>);

impl Disk for Plugged {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.0.state()?.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state()?;
        if state.faults.no_descriptor {
            return Err(rustix::io::Errno::MFILE.into());
        }
        if state.names.contains_key(name) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let at = state.files.len();
        state.files.push(Contents::default());
        state.names.insert(name.to_owned(), at);
        Ok(Arc::new(Handle { disk: Arc::clone(&self.0), at }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let at = *self.0.state()?.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(Handle { disk: Arc::clone(&self.0), at }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let gone = self.0.state()?.names.remove(name);
        gone.map(drop).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.0.state()?;
        if due(&mut state.faults.fail_name_sync) {
            return Err(io::Error::other("the names were not synced"));
        }
        state.stable_names = state.names.clone();
        Ok(())
    }
}

impl DiskFile for Handle {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.state()?.files[self.at].cached.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.disk.state()?;
        state.reads += 1;
        let bad = state.faults.bad_page.map(|bad| bad / 4096);
        if bad.is_some_and(|bad| {
            (position / 4096..=(position + buffer.len() as u64).saturating_sub(1) / 4096).contains(&bad)
        }) {
            return Err(io::Error::other("a bad page"));
        }
        let bytes = &state.files[self.at].cached;
        let bytes = bytes.get(position as usize..).unwrap_or_default();
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<usize> {
        let mut state = self.disk.state()?;
        if due(&mut state.faults.fail_write) {
            return Err(io::Error::other("the write failed"));
        }
        let mut n = bytes.len();
        if state.faults.short_writes && n > 1 && state.random.once_in(2) {
            n = 1 + state.random.below(n as u64 - 1) as usize;
        }
        if let Some(space) = state.faults.space {
            let used: usize = state.names.values().map(|at| state.files[*at].cached.len()).sum();
            let inside = state.files[self.at].cached.len().saturating_sub(position as usize);
            n = n.min(inside + space.saturating_sub(used));
            if n == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
        }
        let edit = Edit::Write(position as usize, bytes[..n].to_vec());
        let file = &mut state.files[self.at];
        edit.clone().apply(&mut file.cached);
        file.unsynced.push(edit);
        Ok(n)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut state = self.disk.state()?;
        if state.faults.fail_truncate {
            return Err(io::Error::other("the file was not cut"));
        }
        let edit = Edit::Truncate(size as usize);
        let file = &mut state.files[self.at];
        edit.clone().apply(&mut file.cached);
        file.unsynced.push(edit);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state()?;
        state.syncs += 1;
        let fails = due(&mut state.faults.fail_sync);
        let mut random = state.random.clone();
        let file = &mut state.files[self.at];
        for edit in std::mem::take(&mut file.unsynced) {
            // After a failed sync the pages count as clean: what did not reach the disk never will.
            if fails {
                edit.apply_some(&mut file.stable, &mut random);
            } else {
                edit.apply(&mut file.stable);
            }
        }
        state.random = random;
        if fails { Err(io::Error::other("the sync failed")) } else { Ok(()) }
    }
}
