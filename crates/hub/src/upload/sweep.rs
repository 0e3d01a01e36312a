//! Removing files, and what uploads wrote and no file is made of.

use jiff::Timestamp;

use super::service::{blob_of, duty};
use super::{Blob, BlobName, Duty, Upload};
use crate::deed::PlainChange;
use crate::error::HubError;
use crate::hub::Hub;
use crate::identity::DeviceId;
use crate::ports::blobs::BlobError;
use crate::ports::registry::{Change, StoreError, Write};
use crate::record::{Key, Kind, Record};
use crate::registry::{By, change};

/// Duties that are looked at in one go.
const PAGE: usize = 64;

impl Hub {
    /// Does the duties that are due, and says when the next one is.
    pub async fn sweep_uploads(&self) -> Result<Option<Timestamp>, HubError> {
        let now = u64::try_from(self.now().as_millisecond()).unwrap_or_default();
        loop {
            let page = self.registry.list(Kind::Duty, None, PAGE).await?;
            let full = page.len() == PAGE;
            for (key, stored) in page {
                let (Key::Duty(duty), Record::Duty(facts)) = (&key, &stored.record) else { continue };
                if duty.time > now {
                    let time = i64::try_from(duty.time).unwrap_or(i64::MAX);
                    return Ok(Some(Timestamp::from_millisecond(time).unwrap_or(Timestamp::MAX)));
                }
                let name = facts.name.clone();
                if let Err(error) = self.sweep_upload(duty, Key::Blob(duty.device.clone(), name)).await? {
                    let text = format!("what an upload left could not be removed: {error}");
                    return Err(HubError::new(crate::error::HubErrorCode::ServiceUnavailable, text));
                }
                // Only now that it is done.
                let write = Write { key, replaces: Some(stored.version), record: None };
                match self.registry.commit(Change { writes: vec![write], ..Change::default() }).await {
                    Ok(_) | Err(StoreError::Stale(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if !full {
                return Ok(None);
            }
        }
    }

    /// Deletes a file; its content goes soon after.
    pub async fn delete_file(&self, device: &DeviceId, name: &str, by: &By) -> Result<(), HubError> {
        let unknown = || super::reading::unknown(device, name);
        let name = BlobName::parse(name).map_err(|_| unknown())?;
        let key = Key::Blob(device.clone(), name.clone());
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let stored = loaded[0].as_ref();
            let blob = blob_of(stored).ok_or_else(unknown)?;
            let replaces = stored.map(|stored| stored.version);
            let gone = Write { key: key.clone(), replaces, record: None };
            let writes = vec![gone, duty(device, &blob.upload, &name, now)];
            Ok((change(writes, PlainChange::DeleteFile, format!("{device}/{name}"), by, now), ()))
        })
        .await
    }

    async fn sweep_upload(&self, duty: &Duty, file: Key) -> Result<Result<(), BlobError>, StoreError> {
        let stored = self.registry.load(file).await?;
        let blob = blob_of(stored.as_ref()).filter(|blob| blob.upload == duty.upload);
        // Another upload may have taken the place of its file while it goes on.
        let uploads = self.registry.load(Key::Uploads(duty.device.clone())).await?;
        let open = match uploads.map(|stored| stored.record) {
            Some(Record::Uploads(uploads)) => uploads.open,
            _ => Vec::new(),
        };
        let now = self.now();
        let open = open.into_iter().find(|upload| upload.id == duty.upload && upload.ends > now);
        Ok(self.sweep_rounds(duty, blob.as_ref(), open.as_ref()).await)
    }

    async fn sweep_rounds(
        &self,
        duty: &Duty,
        blob: Option<&Blob>,
        open: Option<&Upload>,
    ) -> Result<(), BlobError> {
        for round in self.blobs.rounds(&duty.upload.0).await? {
            if open.is_some_and(|open| open.round == round) {
                continue;
            }
            let kept = blob.filter(|blob| blob.round == round).map_or(&[][..], |blob| &blob.parts);
            self.blobs.retain(&duty.upload.stage(round), kept).await?;
        }
        Ok(())
    }
}
