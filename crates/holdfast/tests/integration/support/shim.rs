//! The test's side of `powerloss`: it preloads the library, asks it for faults, and makes of its image the directory
//! that the machine would find after a loss of power.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use super::{HubOptions, Random};

/// A directory under the fault layer.
pub(crate) struct Shim {
    data: PathBuf,
    image: PathBuf,
    control: PathBuf,
    words: File,
}

/// What makes a name durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Names {
    /// The sync of its directory, and nothing else (POSIX at its strictest).
    Directory,
    /// Names change in order, and any sync makes all changes before it durable (ext4, XFS). Of those after it, some
    /// first ones survive.
    Ordered,
}

/// How the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) names: Names,
    /// Whether any sectors that were not synced survive.
    pub(crate) leftovers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Directory,
    /// The file of this number in the image.
    File(u64),
}

type Tree = BTreeMap<String, Entry>;

impl Shim {
    pub(crate) fn new(place: &Path) -> Self {
        let (data, image, control) = (place.join("data"), place.join("image"), place.join("control"));
        fs::create_dir(&data).unwrap();
        fs::create_dir(&image).unwrap();
        let words = File::options().read(true).write(true).create_new(true).open(&control).unwrap();
        let shim = Self { data, image, control, words };
        shim.heal();
        shim
    }

    /// The watched directory.
    pub(crate) fn data(&self) -> &Path {
        &self.data
    }

    /// What a hub needs to run under the fault layer.
    pub(crate) fn hub_options(&self) -> HubOptions {
        self.hub_options_with_syncs_of(Duration::from_millis(2))
    }

    /// The same with a disk that takes so long for each sync.
    pub(crate) fn hub_options_with_syncs_of(&self, length: Duration) -> HubOptions {
        HubOptions {
            environment: vec![
                ("LD_PRELOAD", library().into()),
                ("POWERLOSS_DATA", self.data.clone().into()),
                ("POWERLOSS_IMAGE", self.image.clone().into()),
                ("POWERLOSS_CONTROL", self.control.clone().into()),
                ("POWERLOSS_DELAY_MICROSECONDS", length.as_micros().to_string().into()),
            ],
            ..HubOptions::default()
        }
    }

    /// Lets the sync of a journal file after so many more fail.
    pub(crate) fn fail_journal_sync(&self, after: i64) {
        self.set(0, after);
    }

    /// Lets the sync of another file after so many more fail.
    pub(crate) fn fail_other_sync(&self, after: i64) {
        self.set(1, after);
    }

    /// Lets files grow by so many more bytes only.
    pub(crate) fn limit_space(&self, bytes: i64) {
        self.set(2, bytes);
    }

    /// Lets syncs of journal files succeed without effect.
    pub(crate) fn lie(&self) {
        self.set(6, 1);
    }

    /// Ends all faults.
    pub(crate) fn heal(&self) {
        (0..3).for_each(|word| self.set(word, -1));
        (3..8).for_each(|word| self.set(word, 0));
    }

    pub(crate) fn failed_syncs(&self) -> i64 {
        self.word(4)
    }

    pub(crate) fn failed_writes(&self) -> i64 {
        self.word(5)
    }

    fn set(&self, word: u64, value: i64) {
        self.words.write_all_at(&value.to_le_bytes(), word * 8).unwrap();
    }

    fn word(&self, word: u64) -> i64 {
        let mut bytes = [0; 8];
        self.words.read_exact_at(&mut bytes, word * 8).unwrap();
        i64::from_le_bytes(bytes)
    }

    /// Takes the power away from a hub that was just killed: what was not synced is gone, as far as the cut says.
    pub(crate) fn cut_power(&self, cut: Cut, random: &mut Random) {
        let log = fs::read_to_string(self.image.join("log")).unwrap_or_default();
        // The last line may be torn by the kill.
        let lines: Vec<&str> = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).collect();
        if !lines.contains(&"begun") {
            // Killed before it could change anything: the directory is as it was, and the image is not whole.
            fs::remove_dir_all(&self.image).unwrap();
            fs::create_dir(&self.image).unwrap();
            return;
        }
        let durable = durable_names(&lines, cut, random);
        let now = names_after(&lines);
        let found = self.data.with_extension("found");
        fs::create_dir(&found).unwrap();
        for (path, entry) in &durable {
            // A name in a directory whose own name is not durable is gone with it.
            let parent = found.join(path).parent().unwrap().to_owned();
            match *entry {
                Entry::Directory if parent.is_dir() => fs::create_dir(found.join(path)).unwrap(),
                Entry::File(number) if parent.is_dir() => {
                    let mut bytes = fs::read(self.image.join(format!("files/{number}"))).unwrap();
                    let current = now.iter().find(|(_, entry)| **entry == Entry::File(number));
                    if let (true, Some((path, _))) = (cut.leftovers, current)
                        && let Ok(cached) = fs::read(self.data.join(path))
                    {
                        leave_some(&mut bytes, &cached, random);
                    }
                    let mut file = File::options();
                    let file = file.write(true).create_new(true).mode(0o600).open(found.join(path)).unwrap();
                    file.write_all_at(&bytes, 0).unwrap();
                }
                Entry::Directory | Entry::File(_) => {}
            }
        }
        fs::remove_dir_all(&self.data).unwrap();
        fs::rename(&found, &self.data).unwrap();
        fs::remove_dir_all(&self.image).unwrap();
        fs::create_dir(&self.image).unwrap();
        self.heal();
    }
}

fn names_after(lines: &[&str]) -> Tree {
    let mut tree = Tree::new();
    lines.iter().for_each(|line| apply(&mut tree, line));
    tree
}

fn apply(tree: &mut Tree, line: &str) {
    let words: Vec<&str> = line.split(' ').collect();
    match words.as_slice() {
        ["create", number, path] => {
            tree.insert((*path).to_owned(), Entry::File(number.parse().unwrap()));
        }
        ["mkdir", path] => {
            tree.insert((*path).to_owned(), Entry::Directory);
        }
        ["rename", from, to] => {
            if let Some(entry) = tree.remove(*from) {
                tree.insert((*to).to_owned(), entry);
            }
        }
        ["unlink" | "rmdir", path] => {
            tree.remove(*path);
        }
        ["names" | "file", _] | ["begun"] => {}
        _ => panic!("the log of the image says `{line}`"),
    }
}

fn durable_names(lines: &[&str], cut: Cut, random: &mut Random) -> Tree {
    match cut.names {
        Names::Ordered => {
            let synced =
                lines.iter().rposition(|line| line.starts_with("names ") || line.starts_with("file "));
            let synced = synced.map_or(0, |at| at + 1);
            let more = if cut.leftovers { random.below((lines.len() - synced) as u64 + 1) } else { 0 };
            names_after(&lines[..synced + more as usize])
        }
        Names::Directory => {
            let (mut now, mut durable) = (Tree::new(), Tree::new());
            for line in lines {
                apply(&mut now, line);
                if let Some(directory) = line.strip_prefix("names ") {
                    let inside =
                        |path: &str| path.rsplit_once('/').map_or(".", |(parent, _)| parent) == directory;
                    durable.retain(|path, _| !inside(path));
                    let kept = now.iter().filter(|(path, _)| inside(path));
                    durable.extend(kept.map(|(path, entry)| (path.clone(), *entry)));
                }
            }
            durable
        }
    }
}

/// Lets any sectors survive that were written and not synced, and any length in between.
fn leave_some(durable: &mut Vec<u8>, cached: &[u8], random: &mut Random) {
    const SECTOR: usize = 512;
    let (short, long) = (durable.len().min(cached.len()), durable.len().max(cached.len()));
    let length = match random.below(4) {
        0 => durable.len(),
        1 => short + random.below((long - short) as u64 + 1) as usize,
        _ => cached.len(),
    };
    // Mostly nothing, mostly everything, or anything.
    let sixteenths = [0, 2, 8, 14, 16][random.below(5) as usize];
    durable.resize(length, 0);
    for (old, new) in durable.chunks_mut(SECTOR).zip(cached.chunks(SECTOR)) {
        let length = old.len().min(new.len());
        if old[..length] != new[..length] && random.below(16) < sixteenths {
            old[..length].copy_from_slice(&new[..length]);
        }
    }
}

/// Builds the library once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("powerloss");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(["build", "--quiet", "--locked", "--manifest-path"])
            .arg(root.join("powerloss/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target)
            .status()
            .unwrap();
        assert!(status.success(), "the fault layer does not build");
        target.join("debug/libholdfast_powerloss.so")
    })
}
