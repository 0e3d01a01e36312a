//! How much is written at the moment: bounds on what links may put on the disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{BLOCKS_MAX, UploadError};
use crate::identity::DeviceId;
pub use crate::limits::UPLOAD_WRITERS_MAX as WRITERS_MAX;
use crate::limits::UPLOAD_WRITERS_OF_DEVICE_MAX as WRITERS_OF_DEVICE_MAX;
use crate::limits::UPLOAD_WRITERS_OF_UPLOAD_MAX as WRITERS_OF_UPLOAD_MAX;
use crate::ports::blobs::{Blobs, PartName, PartWriter, Stage};

/// Stages that are remembered while nobody writes to them, so that their parts are not listed for each block.
const REMEMBERED_MAX: usize = 1_024;

/// What is written at the moment.
#[derive(Default)]
pub struct Staging {
    /// The stages that somebody writes to, and some that were written to lately: what lies on the disk is counted when the first
    /// writer comes.
    stages: Mutex<HashMap<Stage, Tally>>,
}

/// What lies in a stage, and who writes to it.
#[derive(Debug, Clone)]
struct Tally {
    device: DeviceId,
    /// At least what lies there: a part that was written anew counts twice until the parts are listed again.
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
        (device, stage): (&DeviceId, Stage),
        part: &PartName,
        bytes_max: u64,
    ) -> Result<Writing, UploadError> {
        let is_known = self.stages().get(&stage).is_some_and(|tally| tally.is_believed(bytes_max));
        let counted = if is_known { None } else { Some(Tally::count(blobs, device, &stage).await?) };
        {
            let mut stages = self.stages();
            let all: usize = stages.values().map(|tally| tally.writers).sum();
            let own: usize =
                stages.values().filter(|tally| tally.device == *device).map(|tally| tally.writers).sum();
            if stages.len() >= REMEMBERED_MAX {
                stages.retain(|_, tally| tally.writers > 0);
            }
            let tally = match (stages.entry(stage.clone()), counted) {
                (Entry::Occupied(entry), counted) => {
                    let tally = entry.into_mut();
                    // Counts of a stage that somebody began to write to meanwhile are newer.
                    if let Some(counted) = counted.filter(|_| tally.writers == 0) {
                        *tally = counted;
                    }
                    tally
                }
                (Entry::Vacant(entry), Some(counted)) => entry.insert(counted),
                // It was forgotten in this moment.
                (Entry::Vacant(_), None) => return Err(UploadError::Busy),
            };
            if tally.parts >= BLOCKS_MAX {
                return Err(UploadError::too_many_blocks());
            }
            if all >= WRITERS_MAX || own >= WRITERS_OF_DEVICE_MAX || tally.writers >= WRITERS_OF_UPLOAD_MAX {
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

impl Tally {
    async fn count(blobs: &dyn Blobs, device: &DeviceId, stage: &Stage) -> Result<Self, UploadError> {
        let lies = blobs.parts(stage).await?;
        let bytes = lies.iter().map(|part| part.bytes).sum();
        Ok(Self { device: device.clone(), bytes, parts: lies.len(), writers: 0 })
    }

    /// Whether the counts are good enough: near a bound the parts are listed again, as soon as nobody writes.
    fn is_believed(&self, bytes_max: u64) -> bool {
        self.writers > 0 || (self.bytes <= bytes_max / 2 && self.parts <= BLOCKS_MAX / 2)
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
        }
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
