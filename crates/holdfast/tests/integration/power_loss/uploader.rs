//! A device that uploads files, and what must hold of these after a loss of power.

use std::collections::BTreeMap;

use serde_json::json;

use super::Random;
use super::load::Life;
use super::registry::key;
use crate::support::Rest;

/// Files that the device writes again and again.
const FILES: u64 = 3;

/// A device with files of its own.
pub(crate) struct Uploader {
    device: String,
    files: BTreeMap<String, Known>,
    version: u64,
    /// Files that were acknowledged, whenever.
    pub(crate) acknowledged: u64,
    random: Random,
}

/// What is known of a file: versions of its content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    acknowledged: Option<u64>,
    /// What was asked for since, and not answered or refused: whether it came to be is open until the next look.
    asked: Vec<u64>,
}

impl Uploader {
    pub(crate) fn new(device: String, random: Random) -> Self {
        Self { device, files: BTreeMap::new(), version: 0, acknowledged: 0, random }
    }

    /// Uploads until the hub is gone or the life is over.
    pub(crate) fn work(&mut self, rest: &Rest, life: &Life) {
        while !life.is_over() {
            if self.upload(rest).is_err() {
                return;
            }
        }
    }

    /// One upload, of which the device may die in the middle, and not notify the hub.
    fn upload(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        self.version += 1;
        let (name, version) = (format!("file-{}", self.random.below(FILES)), self.version);
        let path = format!("/devices/{}/files", self.device);
        let key = key(&self.device);
        let started =
            rest.as_device("POST", &path, (&self.device, &key), Some(&json!({ "blobName": name })))?;
        match started.status {
            200 => {}
            // Uploads that it never notified are open, or the disk fails.
            403 | 500.. => return pause(),
            _ => panic!("{started:?}"),
        }
        let text = |name: &str| started.body[name].as_str().unwrap().to_owned();
        let link = format!("/uploads/{}{}", text("blobName"), text("sasToken"));
        let pieces = pieces(version);
        let mut list = "<BlockList>".to_owned();
        for (at, piece) in pieces.iter().enumerate() {
            let answer = rest.by_link(&format!("{link}&comp=block&blockid=block{at}"), piece.as_bytes())?;
            if answer.status >= 500 {
                return pause();
            }
            assert_eq!(answer.status, 201, "{answer:?}");
            list.push_str(&format!("<Latest>block{at}</Latest>"));
        }
        list.push_str("</BlockList>");
        let known = self.files.entry(name).or_default();
        known.asked.push(version);
        let answer = rest.by_link(&format!("{link}&comp=blocklist"), list.as_bytes())?;
        if answer.status >= 500 {
            return pause();
        }
        assert_eq!(answer.status, 201, "{answer:?}");
        *known = Known { acknowledged: Some(version), asked: Vec::new() };
        self.acknowledged += 1;
        if self.random.once_in(20) {
            return Ok(());
        }
        let done = json!({ "correlationId": text("correlationId"), "isSuccess": true });
        let path = format!("{path}/notifications");
        let answer = rest.as_device("POST", &path, (&self.device, &key), Some(&done))?;
        if answer.status >= 500 {
            return pause();
        }
        assert_eq!(answer.status, 204, "{answer:?}");
        Ok(())
    }

    /// Looks at every file: what was acknowledged is there, and what was asked is there whole or not at all.
    pub(crate) fn judge(&mut self, rest: &Rest) {
        for (name, known) in &mut self.files {
            let answer = rest.service("GET", &format!("/uploads/{}/{name}", self.device), None).unwrap();
            let found = match answer.status {
                200 => {
                    let text = answer.body.as_str().unwrap_or_default().to_owned();
                    let version = text.split_once(' ').and_then(|(version, _)| version.parse().ok());
                    let version = version.unwrap_or_else(|| panic!("{name} begins with no version"));
                    assert!(text == pieces(version).concat(), "{name} is not whole: {} bytes", text.len());
                    Some(version)
                }
                404 => None,
                _ => panic!("{name}: {answer:?}"),
            };
            let may_be =
                found == known.acknowledged || found.is_some_and(|found| known.asked.contains(&found));
            assert!(may_be, "{name} of {} is {found:?}, and what is known of it is {known:?}", self.device);
            *known = Known { acknowledged: found, asked: Vec::new() };
        }
    }
}

/// Waits a little where the hub cannot.
fn pause() -> Result<(), ureq::Error> {
    std::thread::sleep(std::time::Duration::from_millis(50));
    Ok(())
}

/// The content of a version, in blocks.
fn pieces(version: u64) -> Vec<String> {
    let line = format!("{version} of a file that a device uploads again and again\n");
    (0..=version % 3).map(|piece| line.repeat(1 + ((version * 7 + piece * 131) % 900) as usize)).collect()
}
