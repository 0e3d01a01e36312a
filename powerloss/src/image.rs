//! The image: the durable bytes of each file and the log of names.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use libc::c_int;

use crate::control::Control;
use crate::raw;

pub(crate) struct Image {
    data: PathBuf,
    place: PathBuf,
    control: Option<&'static Control>,
    delay: Duration,
    device: u64,
    log: c_int,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The file behind an inode. An inode is used again only by a new file, which `created` sees.
    files: HashMap<u64, Arc<File>>,
    next: u64,
}

pub(crate) struct File {
    number: u64,
    of_journal: bool,
    /// The file in the image.
    image: c_int,
    dirty: Mutex<Dirty>,
}

#[derive(Default)]
struct Dirty {
    /// Ranges that were written since the last sync; they may overlap.
    ranges: Vec<(u64, u64)>,
    /// How long the file is, as far as this process made it so.
    size: u64,
}

/// The image of this process; `None` where the variables are not set.
pub(crate) fn image() -> Option<&'static Image> {
    static IMAGE: OnceLock<Option<Image>> = OnceLock::new();
    IMAGE.get_or_init(Image::from_environment).as_ref()
}

impl Image {
    fn from_environment() -> Option<Self> {
        let path = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let (data, place) = (path("POWERLOSS_DATA")?, path("POWERLOSS_IMAGE")?);
        let delay = std::env::var("POWERLOSS_DELAY_MICROSECONDS").ok().and_then(|text| text.parse().ok());
        let device = raw::stat_path(&raw::c_path(&data))?.st_dev;
        raw::mkdir(&raw::c_path(&place.join("files")));
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND;
        let log = raw::open(&raw::c_path(&place.join("log")), flags, 0o600);
        let image = Self {
            control: path("POWERLOSS_CONTROL").and_then(|path| Control::map(&path)),
            delay: Duration::from_micros(delay.unwrap_or(0)),
            known: Mutex::default(),
            data,
            place,
            device,
            log,
        };
        image.take_all(&image.data.clone());
        // Before this line the image is not whole, and the program has changed nothing.
        image.log("begun");
        Some(image)
    }

    /// Takes what is there at the start as durable.
    fn take_all(&self, directory: &Path) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let Some(stat) = raw::stat_path(&raw::c_path(&path)) else { continue };
            if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
                self.name_changed("mkdir", &[&path]);
                self.take_all(&path);
            } else if let Some(file) = self.created(&path, stat.st_ino) {
                let from = raw::open(&raw::c_path(&path), libc::O_RDONLY, 0);
                raw::copy(from, file.image, 0, stat.st_size as u64);
                raw::close(from);
                lock(&file.dirty).size = stat.st_size as u64;
            }
        }
        self.name_changed("names", &[directory]);
    }

    /// The path below the watched directory, if it is there.
    pub(crate) fn inside(&self, directory: c_int, path: &CStr) -> Option<PathBuf> {
        let given = Path::new(std::ffi::OsStr::new(path.to_str().ok()?));
        let absolute = if given.is_absolute() {
            given.to_owned()
        } else if directory == libc::AT_FDCWD {
            std::env::current_dir().ok()?.join(given)
        } else {
            std::fs::read_link(format!("/proc/self/fd/{directory}")).ok()?.join(given)
        };
        (absolute.starts_with(&self.data) && !absolute.as_os_str().to_str()?.ends_with("-shm"))
            .then_some(absolute)
    }

    /// Makes a file known that was just made.
    pub(crate) fn created(&self, path: &Path, inode: u64) -> Option<Arc<File>> {
        let mut known = lock(&self.known);
        known.next += 1;
        let number = known.next;
        let flags = libc::O_RDWR | libc::O_CREAT;
        let image = raw::open(&raw::c_path(&self.place.join(format!("files/{number}"))), flags, 0o600);
        let of_journal = path.parent().is_some_and(|parent| parent.ends_with("journal"));
        let file = Arc::new(File { number, of_journal, image, dirty: Mutex::default() });
        known.files.insert(inode, Arc::clone(&file));
        self.log(&format!("create {number} {}", self.relative(path)));
        Some(file)
    }

    /// Notes a change of names, or a sync of a directory.
    pub(crate) fn name_changed(&self, what: &str, paths: &[&Path]) {
        let mut line = what.to_owned();
        for path in paths {
            let _ = write!(line, " {}", self.relative(path));
        }
        self.log(&line);
    }

    /// The file behind a descriptor, if it is a known one.
    pub(crate) fn file(&self, fd: c_int) -> Option<Arc<File>> {
        let stat = raw::stat_fd(fd)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG || stat.st_dev != self.device {
            return None;
        }
        lock(&self.known).files.get(&stat.st_ino).cloned()
    }

    /// The directory behind a descriptor, if it is a watched one.
    pub(crate) fn directory(&self, fd: c_int) -> Option<PathBuf> {
        let stat = raw::stat_fd(fd)?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFDIR || stat.st_dev != self.device {
            return None;
        }
        let path = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
        path.starts_with(&self.data).then_some(path)
    }

    /// How many of these bytes fit, where a write would make the file longer. The rest finds the disk full.
    pub(crate) fn fit(&self, file: &File, position: u64, length: u64) -> u64 {
        let size = lock(&file.dirty).size;
        let growth = (position + length).saturating_sub(size.max(position));
        let granted = self.control.map_or(growth, |control| control.take_space(growth));
        length - (growth - granted)
    }

    /// Syncs a file: waits as a disk does, then makes durable what was written. `false` when it shall fail: the pages
    /// then count as clean, and what was not written never will be.
    pub(crate) fn sync(&self, fd: c_int, file: &File) -> bool {
        let ranges = std::mem::take(&mut lock(&file.dirty).ranges);
        std::thread::sleep(self.delay);
        if self.control.is_some_and(|control| control.sync_fails(file.of_journal)) {
            return false;
        }
        if self.control.is_some_and(|control| control.sync_lies(file.of_journal)) {
            return true;
        }
        let size = raw::stat_fd(fd).map_or(0, |stat| stat.st_size);
        // The descriptor may be one that only writes.
        let from = raw::open(&raw::c_path(Path::new(&format!("/proc/self/fd/{fd}"))), libc::O_RDONLY, 0);
        raw::truncate(file.image, size);
        for (start, end) in ranges {
            raw::copy(from, file.image, start, end.min(size as u64));
        }
        raw::close(from);
        self.log(&format!("file {}", file.number));
        true
    }

    /// Waits as a disk does.
    pub(crate) fn wait(&self) {
        std::thread::sleep(self.delay);
    }

    fn relative(&self, path: &Path) -> String {
        let path = path.strip_prefix(&self.data).unwrap_or(path).display().to_string();
        if path.is_empty() { ".".to_owned() } else { path }
    }

    fn log(&self, line: &str) {
        raw::append(self.log, format!("{line}\n").as_bytes());
    }
}

impl File {
    pub(crate) fn wrote(&self, position: u64, length: u64) {
        let mut dirty = lock(&self.dirty);
        let end = position + length;
        dirty.size = dirty.size.max(end);
        match dirty.ranges.last_mut() {
            Some((start, last)) if *start <= position && position <= *last => *last = (*last).max(end),
            _ => dirty.ranges.push((position, end)),
        }
    }

    /// The file was cut or lengthened; what lay behind the cut is zeros from now on.
    pub(crate) fn resized(&self, size: u64) {
        let mut dirty = lock(&self.dirty);
        if size < dirty.size {
            let end = dirty.size;
            dirty.ranges.push((size, end));
        }
        dirty.size = size;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
