//! How much is written at the moment: bounds on what links may put on the disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BLOCKS_MAX, UploadError};
use crate::ports::blobs::{Blobs, PartName, PartWriter, Stage};

/// Parts that may be written at the same time, by all devices together.
pub const WRITERS_MAX: usize = 256;
/// By one upload: the SDKs write up to 20 blocks at a time.
const WRITERS_OF_UPLOAD_MAX: usize = 32;

/// What is written at the moment.
#[derive(Default)]
pub struct Staging {
    /// Only stages that somebody writes to: what lies on the disk is counted when the first one comes.
    stages: Mutex<HashMap<Stage, Tally>>,
}

/// What lies in a stage, and who writes to it.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    bytes: u64,
    parts: usize,
    writers: usize,
}

/// A part that is being written.
pub struct Writing {
    staging: Arc<Staging>,
    stage: Stage,
    writer: Option<Box<dyn PartWriter>>,
    bytes_max: u64,
    written: u64,
}

impl Staging {
    /// Begins to write a part of a stage that may hold so many bytes in all.
    pub(super) async fn begin(
        self: &Arc<Self>,
        blobs: &dyn Blobs,
        stage: Stage,
        part: &PartName,
        bytes_max: u64,
    ) -> Result<Writing, UploadError> {
        let known = self.stages().get(&stage).copied();
        let tally = match known {
            Some(tally) => tally,
            None => {
                let lies = blobs.parts(&stage).await?;
                Tally { bytes: lies.iter().map(|part| part.bytes).sum(), parts: lies.len(), writers: 0 }
            }
        };
        if tally.parts >= BLOCKS_MAX {
            return Err(UploadError::too_many_blocks());
        }
        {
            let mut stages = self.stages();
            let writers: usize = stages.values().map(|tally| tally.writers).sum();
            let tally = stages.entry(stage.clone()).or_insert(tally);
            if writers >= WRITERS_MAX || tally.writers >= WRITERS_OF_UPLOAD_MAX {
                return Err(UploadError::Busy);
            }
            tally.writers += 1;
            tally.parts += 1;
        }
        let mut writing = Writing { staging: self.clone(), stage, writer: None, bytes_max, written: 0 };
        writing.writer = Some(blobs.begin(&writing.stage, part).await?);
        Ok(writing)
    }

    fn stages(&self) -> MutexGuard<'_, HashMap<Stage, Tally>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writing {
    /// Appends bytes, within the bound of the stage.
    pub async fn write(&mut self, bytes: bytes::Bytes) -> Result<(), UploadError> {
        let length = bytes.len() as u64;
        if let Some(tally) = self.staging.stages().get_mut(&self.stage) {
            if tally.bytes + length > self.bytes_max {
                return Err(UploadError::TooLarge { limit: self.bytes_max });
            }
            tally.bytes += length;
        }
        self.written += length;
        match &mut self.writer {
            Some(writer) => Ok(writer.write(bytes).await?),
            None => Err(UploadError::Busy),
        }
    }

    /// Makes the part durable and gives its length.
    pub async fn finish(mut self) -> Result<u64, UploadError> {
        if let Some(writer) = self.writer.take() {
            writer.finish().await?;
        }
        Ok(std::mem::take(&mut self.written))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut stages = self.staging.stages();
        if let Some(tally) = stages.get_mut(&self.stage) {
            // What was given up is not there; what was finished is.
            tally.bytes = tally.bytes.saturating_sub(self.written);
            tally.writers = tally.writers.saturating_sub(1);
            if tally.writers == 0 {
                stages.remove(&self.stage);
            }
        }
    }
}
