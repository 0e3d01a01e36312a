//! Looks at the start whether all files of the data directory are there and belong together, and remembers it for the next
//! start (`hub/src/belongings.rs`).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use hub::belongings::{Belongings, Loss, Place, Reach, of_folder};
use hub::decision::Origin;
use hub::hub::Hub;
use hub::ports::clock::Random as _;
use hub::ports::registry::StoreError;
use hub::registry::By;
use store::{Journal, SqliteRegistry};

use crate::files::create_private;
use crate::secrets::SystemRandom;

/// The file in each folder that says to which registry it belongs. No segment and no upload has such a name.
const ID_FILE: &str = ".holdfast-id";
const REGISTRY: &str = "registry.db";
const PLACES: [Place; 2] = [Place::Journal, Place::Uploads];

/// What was found of a data directory before its journal is opened.
pub(crate) struct Found {
    data: PathBuf,
    remembered: Option<Belongings>,
    accepts: bool,
    losses: Vec<Loss>,
}

/// Looks at what must be there before anything of it is made anew. `accepts`: whether the operator knows of a loss.
pub(crate) fn check_files(data: &Path, accepts: bool) -> anyhow::Result<Vec<Loss>> {
    let registry = fs::metadata(data.join(REGISTRY)).is_ok_and(|file| file.len() > 0);
    let mut losses = Vec::new();
    if !registry && holds_segments(&data.join(Place::Journal.folder()))? {
        losses.push(Loss::Registry);
    }
    if registry && !data.join("keys.json").exists() {
        bail!(
            "keys.json is missing in {}, and without it no key in {REGISTRY} can be opened; put it back from a backup",
            data.display()
        );
    }
    refuse(data, &losses, accepts)?;
    Ok(losses)
}

impl Found {
    /// Compares the folders with what the registry remembers.
    pub(crate) fn look(
        data: &Path,
        registry: &SqliteRegistry,
        losses: Vec<Loss>,
        accepts: bool,
    ) -> anyhow::Result<Self> {
        let remembered = registry.belongings()?;
        let mut found = Self { data: data.to_owned(), remembered, accepts, losses };
        for place in PLACES {
            let id = read_id(&data.join(place.folder()))?;
            let loss = of_folder(found.remembered.as_ref(), place, id.as_deref());
            // A registry that is missing is said once.
            found.losses.extend(loss.filter(|loss| !found.losses.contains(loss)));
        }
        refuse(data, &found.losses, accepts)?;
        Ok(found)
    }

    /// How far the partitions reached.
    pub(crate) fn reached(&self) -> Vec<Reach> {
        let foreign = |loss: &Loss| matches!(loss, Loss::Foreign(Place::Journal));
        match &self.remembered {
            // The numbers of another journal say nothing of this one.
            Some(remembered) if !self.losses.iter().any(foreign) => remembered.partitions.clone(),
            _ => Vec::new(),
        }
    }

    /// Says what it means that the journal does not open.
    pub(crate) fn journal_refused(&self, error: store::journal::OpenError) -> anyhow::Error {
        match error {
            store::journal::OpenError::Lost(losses) => match refuse(&self.data, &losses, false) {
                Err(refused) => refused,
                Ok(()) => store::journal::OpenError::Lost(losses).into(),
            },
            error => error.into(),
        }
    }

    /// Puts on record what was accepted, and remembers what is there now.
    pub(crate) async fn settle(
        mut self,
        hub: &Hub,
        registry: Arc<SqliteRegistry>,
        journal: Arc<Journal>,
    ) -> anyhow::Result<Arc<Keeper>> {
        let known = self.reached();
        self.losses.extend(hub::belongings::of_partitions(&known, &journal.reach()));
        if self.accepts {
            for loss in &self.losses {
                tracing::warn!("accepted: {loss}");
                let by = By { actor: "operator".to_owned(), origin: Origin::default() };
                hub.note_accepted_loss(loss, &by).await.context("the loss could not be put on record")?;
            }
        }
        let id = match self.remembered {
            Some(remembered) => remembered.id,
            None => new_id(),
        };
        // First that the id may not stand everywhere yet: a start that is cut short here is no loss.
        registry.remember(Belongings { id: id.clone(), partitions: Vec::new() }).await?;
        for place in PLACES {
            let folder = self.data.join(place.folder());
            if read_id(&folder)?.as_deref() != Some(&id) {
                create_private(&folder.join(ID_FILE), id.as_bytes())?;
            }
        }
        let keeper = Keeper { id, registry, journal, written: Mutex::default() };
        keeper.remember(None).await?;
        Ok(Arc::new(keeper))
    }
}

/// Remembers how far the journal reaches.
pub(crate) struct Keeper {
    id: String,
    registry: Arc<SqliteRegistry>,
    journal: Arc<Journal>,
    written: Mutex<Vec<Reach>>,
}

impl Keeper {
    /// Remembers it now; with these first numbers, where older events are about to be deleted.
    pub(crate) async fn remember(&self, firsts: Option<&[u64]>) -> Result<(), StoreError> {
        let mut partitions = self.journal.reach();
        for (reach, first) in partitions.iter_mut().zip(firsts.into_iter().flatten()) {
            reach.first = *first;
        }
        if *self.written.lock().unwrap_or_else(PoisonError::into_inner) == partitions {
            return Ok(());
        }
        self.registry.remember(Belongings { id: self.id.clone(), partitions: partitions.clone() }).await?;
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = partitions;
        Ok(())
    }
}

fn refuse(data: &Path, losses: &[Loss], accepts: bool) -> anyhow::Result<()> {
    if losses.is_empty() || accepts {
        return Ok(());
    }
    let list: Vec<String> = losses.iter().map(ToString::to_string).collect();
    bail!(
        "{} is not whole: {}. Nothing was changed. Put back what is missing, from the same backup as the rest; or start once with \
         `--accept-loss`, which goes on without it and puts that on record",
        data.display(),
        list.join("; ")
    )
}

fn holds_segments(folder: &Path) -> io::Result<bool> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
        Ok(entries) => Ok(entries
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|extension| extension == "journal"))),
    }
}

fn read_id(folder: &Path) -> anyhow::Result<Option<String>> {
    let path = folder.join(ID_FILE);
    match fs::read_to_string(&path) {
        Ok(id) => Ok(Some(id.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("could not read {}", path.display())),
    }
}

fn new_id() -> String {
    let mut bytes = [0; 16];
    SystemRandom.fill(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
