//! The steps of an upload: each loaded, decided and committed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{
    Account, Blob, BlobName, CONTAINER, Duty, DutyFacts, ENDED_MAX, Elsewhere, Link, LinkText, OPEN_MAX,
    Upload, UploadError, UploadId, Uploads, Writing, block_part,
};
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::identity::DeviceId;
use crate::ports::blobs::{Part, PartName};
use crate::ports::registry::{Change, StoreError, Versioned, Write};
use crate::record::{Device, Key, Record, Status};
use crate::service_bound::Lane;
use crate::twin::time_text;

/// How long the hub's own question to a storage may be answered.
const QUESTION_LIFETIME: SignedDuration = SignedDuration::from_mins(5);
/// How often a step is decided again on fresh values before the hub gives up.
const RETRIES_MAX: usize = 16;

/// What a device is told of an upload that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// By which it says later that it is done.
    pub upload: UploadId,
    /// The file as the protocol names it, the device's folder included.
    pub blob_name: String,
    /// The query string of the link.
    pub query: String,
    /// Where it goes, if not to the hub itself.
    pub elsewhere: Option<Elsewhere>,
}

/// An upload that a link opens for writing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Writable {
    device: DeviceId,
    upload: Upload,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Its etag, without quotes.
    pub etag: String,
    /// When.
    pub modified: Timestamp,
}

/// What a device says at the end of an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The upload.
    pub upload: String,
    /// Whether the file is there. Nothing else that a device says of it counts: SDKs put anything in there.
    pub success: bool,
}

impl Hub {
    /// Opens an upload of a device that was admitted in this generation; durable when this returns.
    pub async fn start_upload(
        &self,
        device: &DeviceId,
        generation: &str,
        name: &str,
    ) -> Result<Started, UploadError> {
        let name = BlobName::parse(name).map_err(UploadError::Name)?;
        let now = self.now();
        let lifetime = self.hub_settings().await?.link_lifetime();
        let ends = now.checked_add(lifetime).unwrap_or(Timestamp::MAX);
        // A link names whole seconds.
        let ends = Timestamp::from_second(ends.as_second()).unwrap_or(ends);
        let mut random = [0; 16];
        self.random.fill(&mut random);
        let upload = UploadId(random.iter().map(|byte| format!("{byte:02x}")).collect());
        let account = self.upload_account().await?;
        let elsewhere = account.as_ref().map(Account::place);
        let key = Key::Uploads(device.clone());
        let opened = self
            .change(std::slice::from_ref(&key), |loaded| {
                let stored = loaded[0].as_ref();
                let mut uploads = uploads_of(stored, generation);
                let is_open = |upload: &&Upload| upload.ends > now;
                if uploads.open.iter().filter(is_open).count() >= OPEN_MAX {
                    return Ok((Change::default(), false));
                }
                let ended = uploads.open.len() - uploads.open.iter().filter(is_open).count();
                let mut forgotten = ended.saturating_sub(ENDED_MAX);
                uploads.open.retain(|upload| {
                    let goes = upload.ends <= now && forgotten > 0;
                    forgotten -= usize::from(goes);
                    !goes
                });
                uploads.open.push(Upload {
                    id: upload.clone(),
                    name: name.clone(),
                    ends,
                    round: 0,
                    elsewhere: elsewhere.clone(),
                });
                let record = Some(Record::Uploads(Box::new(uploads)));
                let replaces = stored.map(|stored| stored.version);
                let open = Write { key: key.clone(), replaces, record };
                let writes = vec![open, duty(device, &upload, &name, ends)];
                Ok((Change { writes, ..Change::default() }, true))
            })
            .await?;
        if !opened {
            return Err(UploadError::Full);
        }
        let blob_name = format!("{device}/{name}");
        let query = match &account {
            Some(account) => self.account_query(account, &blob_name, "cw", ends)?,
            None => {
                let (device, upload) = (device.clone(), upload.clone());
                Link { device, name, upload, ends }.query(&*self.secrets)
            }
        };
        Ok(Started { upload, blob_name, query, elsewhere })
    }

    /// Decides whether a link opens this file for writing.
    pub async fn admit_upload(
        &self,
        device: &DeviceId,
        name: &str,
        text: LinkText<'_>,
    ) -> Result<Writable, UploadError> {
        let name = BlobName::parse(name).map_err(UploadError::Link)?;
        // Nothing is loaded for a link that is not the hub's.
        let link = Link::read(device.clone(), name, text, &*self.secrets)?;
        let over = || UploadError::LinkEnded { ended: link.ends };
        if link.ends <= self.now() {
            return Err(over());
        }
        let stored = self.registry.load(Key::Device(device.clone())).await?;
        let stored = stored.map(|stored| stored.record);
        let Some(Record::Device(Device { generation, status: Status::Enabled, .. })) = stored else {
            return Err(UploadError::Link("the device was disabled or deleted".to_owned()));
        };
        let stored = self.registry.load(Key::Uploads(device.clone())).await?;
        let uploads = uploads_of(stored.as_ref(), &generation);
        let upload = uploads.open.into_iter().find(|upload| upload.id == link.upload).ok_or_else(over)?;
        Ok(Writable { device: link.device, upload })
    }

    /// Begins to write a block of a file (Put Block). The id is what stands in the query, decoded once.
    pub async fn write_block(&self, writable: &Writable, id: &str) -> Result<Writing, UploadError> {
        if id.is_empty() || id.len() > super::BLOCK_ID_BYTES_MAX {
            let text = format!("a block id has 1 to {} bytes", super::BLOCK_ID_BYTES_MAX);
            return Err(UploadError::Blocks(text));
        }
        self.write_part(writable, &block_part(id)).await
    }

    /// Begins to write a file as a whole (Put Blob); the name goes to [`Hub::commit_file`].
    pub async fn write_whole(&self, writable: &Writable) -> Result<(Writing, PartName), UploadError> {
        let mut random = [0; 8];
        self.random.fill(&mut random);
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let part = PartName(format!("w{digits}"));
        Ok((self.write_part(writable, &part).await?, part))
    }

    async fn write_part(&self, writable: &Writable, part: &PartName) -> Result<Writing, UploadError> {
        let staging: &Arc<_> = &self.staging;
        let bytes_max = self.settings.upload_bytes_max;
        staging.begin(&*self.blobs, (&writable.device, writable.upload.stage()), part, bytes_max).await
    }

    /// Makes a file of blocks that were written, in this order (Put Block List).
    pub async fn commit_blocks(
        &self,
        writable: &Writable,
        ids: &[String],
        only_new: bool,
    ) -> Result<Written, UploadError> {
        let lies = self.blobs.parts(&writable.upload.stage()).await?;
        let by_name: std::collections::HashMap<_, _> =
            lies.iter().map(|part| (&part.name, part.bytes)).collect();
        let names: Vec<PartName> = ids.iter().map(|id| block_part(id)).collect();
        let missing = names.iter().position(|name| !by_name.contains_key(name));
        let Some(missing) = missing else {
            let part = |name: PartName| Part { bytes: by_name[&name], name };
            let parts: Vec<Part> = names.iter().cloned().map(part).collect();
            return self.commit_file(writable, parts, only_new).await;
        };
        // A client that missed the answer asks again.
        let key = Key::Blob(writable.device.clone(), writable.upload.name.clone());
        if let Some(blob) = blob_of(self.registry.load(key).await?.as_ref())
            && blob.upload == writable.upload.id
            && blob.parts.iter().map(|part| &part.name).eq(&names)
        {
            return Ok(Written { etag: blob.etag(), modified: blob.modified });
        }
        let text = format!("the list names the block `{}`, which was not written", ids[missing]);
        Err(UploadError::Blocks(text))
    }

    /// Makes a file of these parts; it is seen when this returns, and the one that was there is not any more.
    pub async fn commit_file(
        &self,
        writable: &Writable,
        parts: Vec<Part>,
        only_new: bool,
    ) -> Result<Written, UploadError> {
        let Writable { device, upload } = writable;
        let keys = [Key::Uploads(device.clone()), Key::Blob(device.clone(), upload.name.clone())];
        for _ in 0..RETRIES_MAX {
            let uploads = self.registry.load(keys[0].clone()).await?;
            let stored = self.registry.load(keys[1].clone()).await?;
            let now = self.now();
            let over = UploadError::LinkEnded { ended: upload.ends };
            let Some(Versioned { version, record: Record::Uploads(mut open) }) = uploads else {
                return Err(over);
            };
            let Some(own) = open.open.iter_mut().find(|own| own.id == upload.id && own.ends > now) else {
                return Err(over);
            };
            if own.round != upload.round {
                return Err(UploadError::Blocks("the file was written at the same time".to_owned()));
            }
            let before = blob_of(stored.as_ref());
            if only_new && before.is_some() {
                return Err(UploadError::Exists);
            }
            own.round += 1;
            let blob =
                Blob { upload: upload.id.clone(), round: upload.round, parts: parts.clone(), modified: now };
            let written = Written { etag: blob.etag(), modified: now };
            // What an older upload wrote is nobody's now.
            let older = before.filter(|before| before.upload != upload.id);
            let older = older.map(|older| duty(device, &older.upload, &upload.name, now));
            let replaces = stored.as_ref().map(|stored| stored.version);
            let [uploads_key, blob_key] = keys.clone();
            let mut writes = vec![
                Write { key: blob_key, replaces, record: Some(Record::Blob(Box::new(blob))) },
                Write { key: uploads_key, replaces: Some(version), record: Some(Record::Uploads(open)) },
            ];
            writes.extend(older);
            match self.registry.commit(Change { writes, ..Change::default() }).await {
                Ok(_) => return Ok(written),
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UploadError::Hub(HubError::new(HubErrorCode::ServerBusy, "Try again")))
    }

    /// Ends an upload at the word of its device, and tells services where that is switched on. `host` stands in the address
    /// that they are told.
    pub async fn finish_upload(
        &self,
        device: &DeviceId,
        generation: &str,
        finished: &Finished,
        host: &str,
    ) -> Result<(), UploadError> {
        let key = Key::Uploads(device.clone());
        let notify = self.hub_settings().await?.file_notifications;
        // A storage elsewhere is asked once, however often the step is decided again.
        let mut found_elsewhere = None;
        for _ in 0..RETRIES_MAX {
            let now = self.now();
            let stored = self.registry.load(key.clone()).await?;
            let mut uploads = uploads_of(stored.as_ref(), generation);
            let at = uploads.open.iter().position(|upload| upload.id.0 == finished.upload);
            let at = at.ok_or_else(|| UploadError::Unknown(finished.upload.clone()))?;
            let upload = uploads.open.remove(at);
            if upload.ends <= now {
                return Err(UploadError::Ended { ended: upload.ends });
            }
            let mut writes = Vec::with_capacity(4);
            // Services are told of files that are there: an upload may end well without one.
            if finished.success && notify {
                let file = match found_elsewhere.take().filter(|_| upload.elsewhere.is_some()) {
                    Some(found) => found,
                    None => self.written_file(device, &upload, host).await?,
                };
                if let Some(file) = &file {
                    let notice = notice(device, &upload.name, file, now);
                    writes = self.service_bound_writes(Lane::FileNotifications, notice, now).await?;
                }
                found_elsewhere = Some(file);
            }
            // What it wrote besides may go now.
            writes.push(duty(device, &upload.id, &upload.name, now));
            let record = Some(Record::Uploads(Box::new(uploads)));
            writes.push(Write { key: key.clone(), replaces: stored.map(|stored| stored.version), record });
            match self.registry.commit(Change { writes, ..Change::default() }).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Stale(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(UploadError::Hub(HubError::new(HubErrorCode::ServerBusy, "Try again")))
    }
}

/// A file that an upload wrote, as services are told of it.
struct WrittenFile {
    host: String,
    container: String,
    bytes: u64,
    modified: Timestamp,
}

impl Hub {
    /// What an upload wrote, if anything. `host` is a name of the hub.
    async fn written_file(
        &self,
        device: &DeviceId,
        upload: &Upload,
        host: &str,
    ) -> Result<Option<WrittenFile>, UploadError> {
        let Some(Elsewhere { host, container }) = upload.elsewhere.clone() else {
            let stored = self.registry.load(Key::Blob(device.clone(), upload.name.clone())).await?;
            let blob = blob_of(stored.as_ref()).filter(|_| upload.round > 0);
            let (host, container) = (host.to_owned(), CONTAINER.to_owned());
            return Ok(blob.map(|blob| WrittenFile {
                host,
                container,
                bytes: blob.bytes(),
                modified: blob.modified,
            }));
        };
        let unasked =
            |problem: String| UploadError::Hub(HubError::new(HubErrorCode::InvalidStorageEndpoint, problem));
        let account = self.upload_account().await?;
        let account = account.filter(|account| upload.elsewhere.as_ref() == Some(&account.place()));
        let account = account
            .ok_or_else(|| unasked("The storage account of this upload is not set any more".into()))?;
        let blob = format!("{device}/{}", upload.name);
        let soon = self.now().checked_add(QUESTION_LIFETIME).unwrap_or(Timestamp::MAX);
        let query = self.account_query(&account, &blob, "r", soon)?;
        let url = format!("https://{host}/{container}/{}{query}", encoded(&blob));
        let facts = self.remote.facts(url, account.authority.clone()).await.map_err(|problem| {
            unasked(format!("The storage at {host} could not be asked for the file: {problem}"))
        })?;
        Ok(facts.map(|facts| WrittenFile { host, container, bytes: facts.bytes, modified: facts.modified }))
    }
}

/// The uploads of a device in this generation.
fn uploads_of(stored: Option<&Versioned>, generation: &str) -> Uploads {
    match stored.map(|stored| &stored.record) {
        Some(Record::Uploads(uploads)) if uploads.generation == generation => (**uploads).clone(),
        _ => Uploads { generation: generation.to_owned(), open: Vec::new() },
    }
}

pub(super) fn blob_of(stored: Option<&Versioned>) -> Option<Blob> {
    match stored.map(|stored| &stored.record) {
        Some(Record::Blob(blob)) => Some((**blob).clone()),
        _ => None,
    }
}

/// That what an upload wrote is to be looked through at a time.
pub(super) fn duty(device: &DeviceId, upload: &UploadId, name: &BlobName, time: Timestamp) -> Write {
    let time = u64::try_from(time.as_millisecond()).unwrap_or_default();
    let duty = Duty { time, device: device.clone(), upload: upload.clone() };
    let record = Some(Record::Duty(DutyFacts { name: name.clone() }));
    Write { key: Key::Duty(Box::new(duty)), replaces: None, record }
}

/// What services are told of a file (`docs/protocol/file-upload.md` §4).
fn notice(device: &DeviceId, name: &BlobName, file: &WrittenFile, now: Timestamp) -> String {
    let WrittenFile { host, container, bytes, modified } = file;
    serde_json::json!({
        "deviceId": device,
        "blobUri": format!("https://{host}/{container}/{}", encoded(&format!("{device}/{name}"))),
        "blobName": format!("{device}/{name}"),
        "lastUpdatedTime": modified.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string(),
        "blobSizeInBytes": bytes,
        "enqueuedTimeUtc": time_text(now),
    })
    .to_string()
}

/// A path with everything encoded but what never needs it, and slashes.
fn encoded(path: &str) -> String {
    use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
    const SET: AsciiSet = NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(path, &SET).to_string()
}

impl crate::settings::HubSettings {
    /// How long a link lives.
    fn link_lifetime(&self) -> SignedDuration {
        let seconds = self.upload_link_lifetime.unwrap_or(super::LINK_LIFETIME.as_secs());
        SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX))
    }
}
