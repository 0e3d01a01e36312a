//! The contents of uploaded files, through `object_store`: in a folder, or in memory.
//!
//! A part is the object `{upload}/{round}/{part}`. In a folder it is written beside its place and renamed once it is on
//! stable storage, so that no crash leaves a part by halves. What a crash leaves beside them goes with the stage.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use hub::ports::BoxFuture;
use hub::ports::blobs::{BlobError, Blobs, Part, PartName, PartWriter, Stage};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path as Place;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload};

/// Bytes that are handed to the store at once.
const CHUNK_BYTES: usize = 256 * 1024;
/// Space of the disk that files leave to the registry and the journal.
const FREE_BYTES_MIN: u64 = 256 * 1024 * 1024;

/// The contents of files in an object store.
pub struct ObjectBlobs {
    store: Arc<dyn ObjectStore>,
    /// The folder, where they are in one.
    folder: Option<PathBuf>,
}

impl ObjectBlobs {
    /// Keeps contents in a folder, which is made where it is missing.
    pub fn in_folder(folder: &Path) -> Result<Self, BlobError> {
        std::fs::create_dir_all(folder).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(folder).map_err(failed)?.with_fsync(true);
        Ok(Self { store: Arc::new(store), folder: Some(folder.to_owned()) })
    }

    /// Keeps contents in memory.
    pub fn in_memory() -> Self {
        Self { store: Arc::new(InMemory::new()), folder: None }
    }

    fn has_space(&self) -> Result<(), BlobError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let disk = rustix::fs::statvfs(folder).map_err(failed)?;
        match disk.f_bavail.saturating_mul(disk.f_frsize) < FREE_BYTES_MIN {
            true => Err(BlobError::NoSpace),
            false => Ok(()),
        }
    }

    /// Removes what a folder of a stage holds besides these parts, left-overs of a crash included.
    async fn retain_in(&self, folder: &Path, stage: &Stage, parts: &[Part]) -> Result<(), BlobError> {
        let folder = folder.join(&stage.upload).join(stage.round.to_string());
        let kept: HashSet<String> = parts.iter().map(|part| part.name.0.clone()).collect();
        let removed = tokio::task::spawn_blocking(move || {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
                entries => entries?,
            };
            for entry in entries {
                let entry = entry?;
                if !kept.contains(&*entry.file_name().to_string_lossy()) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            if kept.is_empty() {
                std::fs::remove_dir(&folder)?;
                // The upload's own folder goes with its last stage.
                let _ = folder.parent().map(std::fs::remove_dir);
            }
            Ok::<_, std::io::Error>(())
        });
        removed.await.map_err(failed)?.map_err(failed)
    }
}

impl Blobs for ObjectBlobs {
    fn begin(&self, stage: &Stage, part: &PartName) -> BoxFuture<'_, Result<Box<dyn PartWriter>, BlobError>> {
        let place = place(stage, part);
        Box::pin(async move {
            self.has_space()?;
            let upload = self.store.put_multipart(&place).await.map_err(told)?;
            Ok(Box::new(Writer { upload, waiting: Vec::new(), bytes: 0 }) as Box<dyn PartWriter>)
        })
    }

    fn parts(&self, stage: &Stage) -> BoxFuture<'_, Result<Vec<Part>, BlobError>> {
        let folder = folder(stage);
        Box::pin(async move {
            let listed = self.store.list_with_delimiter(Some(&folder)).await.map_err(told)?;
            let part = |object: object_store::ObjectMeta| {
                let name = PartName(object.location.filename()?.to_owned());
                Some(Part { name, bytes: object.size })
            };
            Ok(listed.objects.into_iter().filter_map(part).collect())
        })
    }

    fn read(
        &self,
        stage: &Stage,
        part: &PartName,
        from: u64,
        bytes_max: usize,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        let place = place(stage, part);
        Box::pin(async move {
            let end = from.saturating_add(bytes_max as u64);
            match self.store.get_range(&place, from..end).await {
                Ok(bytes) => Ok(bytes),
                Err(Error::NotFound { .. }) => Err(BlobError::Gone),
                // A range that begins at the end or beyond it.
                Err(error) => match self.store.head(&place).await {
                    Ok(meta) if meta.size <= from => Ok(Bytes::new()),
                    _ => Err(told(error)),
                },
            }
        })
    }

    fn rounds(&self, upload: &str) -> BoxFuture<'_, Result<Vec<u32>, BlobError>> {
        let upload = upload.to_owned();
        Box::pin(async move {
            if let Some(folder) = &self.folder {
                // A stage may hold nothing but what a crash left, which the store does not list.
                return rounds_in(&folder.join(upload)).map_err(failed);
            }
            let listed = self.store.list_with_delimiter(Some(&Place::from(upload))).await.map_err(told)?;
            let rounds = listed.common_prefixes.iter().filter_map(|prefix| prefix.filename()?.parse().ok());
            Ok(rounds.collect())
        })
    }

    fn retain(&self, stage: &Stage, parts: &[Part]) -> BoxFuture<'_, Result<(), BlobError>> {
        let (stage, parts) = (stage.clone(), parts.to_vec());
        Box::pin(async move {
            if let Some(folder) = &self.folder {
                return self.retain_in(folder, &stage, &parts).await;
            }
            let kept: HashSet<Place> = parts.iter().map(|part| place(&stage, &part.name)).collect();
            let listed: Vec<_> = self.store.list(Some(&folder(&stage))).try_collect().await.map_err(told)?;
            for object in listed.into_iter().filter(|object| !kept.contains(&object.location)) {
                self.store.delete(&object.location).await.map_err(told)?;
            }
            Ok(())
        })
    }
}

/// Writes one part.
struct Writer {
    upload: Box<dyn MultipartUpload>,
    waiting: Vec<Bytes>,
    bytes: usize,
}

impl Writer {
    async fn flush(&mut self) -> Result<(), BlobError> {
        self.bytes = 0;
        let payload = PutPayload::from_iter(std::mem::take(&mut self.waiting));
        self.upload.put_part(payload).await.map_err(told)
    }
}

impl PartWriter for Writer {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<(), BlobError>> {
        self.bytes += bytes.len();
        self.waiting.push(bytes);
        Box::pin(async move {
            match self.bytes < CHUNK_BYTES {
                true => Ok(()),
                false => self.flush().await,
            }
        })
    }

    fn finish(mut self: Box<Self>) -> BoxFuture<'static, Result<(), BlobError>> {
        Box::pin(async move {
            if self.bytes > 0 {
                self.flush().await?;
            }
            self.upload.complete().await.map(drop).map_err(told)
        })
    }
}

fn rounds_in(folder: &Path) -> std::io::Result<Vec<u32>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().parse().ok()));
    names.filter_map(Result::transpose).collect()
}

fn folder(stage: &Stage) -> Place {
    Place::from_iter([stage.upload.clone(), stage.round.to_string()])
}

fn place(stage: &Stage, part: &PartName) -> Place {
    Place::from_iter([stage.upload.clone(), stage.round.to_string(), part.0.clone()])
}

fn failed(error: impl fmt::Display) -> BlobError {
    BlobError::Failed(error.to_string())
}

/// Says in the port's words what the store said.
fn told(error: Error) -> BlobError {
    let full = |error: &(dyn std::error::Error + 'static)| {
        error
            .downcast_ref::<std::io::Error>()
            .is_some_and(|error| error.kind() == std::io::ErrorKind::StorageFull)
    };
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if full(inner) {
            return BlobError::NoSpace;
        }
        cause = inner.source();
    }
    match error {
        Error::NotFound { .. } => BlobError::Gone,
        error => failed(error),
    }
}
