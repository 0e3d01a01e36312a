//! Back ends that create, change and delete devices, and what must hold of these after a loss of power.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Random;
use super::load::Life;
use crate::support::{Rest, device_body};

/// One back end with devices of its own, which it changes one after the other.
pub(crate) struct BackEnd {
    number: u32,
    devices: BTreeMap<String, Known>,
    changes: u64,
    pub(crate) acknowledged: u64,
    /// How often the hub said that it could not.
    pub(crate) refused: u64,
    random: Random,
}

/// What is known of a device. A state is the reason that stands in it; `None`: there is no such device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Known {
    acknowledged: Option<String>,
    /// The change that was asked for and not answered.
    asked: Option<Option<String>>,
}

impl BackEnd {
    pub(crate) fn new(number: u32, random: Random) -> Self {
        Self { number, devices: BTreeMap::new(), changes: 0, acknowledged: 0, refused: 0, random }
    }

    /// Changes devices until the hub is gone or the life is over.
    pub(crate) fn work(&mut self, rest: &Rest, life: &Life) {
        while !life.is_over() {
            if self.change(rest).is_err() {
                return;
            }
        }
    }

    fn change(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        let device = format!("order-{}-{}", self.number, self.random.below(5));
        let known = self.devices.entry(device.clone()).or_default();
        self.changes += 1;
        let path = format!("/devices/{device}");
        let reason = format!("change {}", self.changes);
        let wanted = match &known.acknowledged {
            Some(_) if self.random.once_in(3) => None,
            _ => Some(reason.clone()),
        };
        known.asked = Some(wanted.clone());
        let answer = match (&wanted, &known.acknowledged) {
            (None, _) => rest.service("DELETE", &path, None)?,
            (Some(_), None) => rest.create(&path, &device_body(&device, &reason, &key(&reason)))?,
            (Some(_), Some(_)) => {
                rest.service("PUT", &path, Some(&device_body(&device, &reason, &key(&reason))))?
            }
        };
        match answer.status {
            200 | 204 => {
                *known = Known { acknowledged: wanted, asked: None };
                self.acknowledged += 1;
            }
            // Whether a refused change came to be is open until the next look, as for one without an answer.
            429 | 500.. => {
                self.refused += 1;
                std::thread::sleep(std::time::Duration::from_millis(20));
                self.look(rest, &device)?;
            }
            _ => panic!("{device} to {wanted:?}: {answer:?}"),
        }
        Ok(())
    }

    /// Looks at every device: what was acknowledged is there, and what was asked is there whole or not at all.
    pub(crate) fn judge(&mut self, rest: &Rest) {
        for device in self.devices.keys().cloned().collect::<Vec<_>>() {
            self.look(rest, &device).unwrap();
        }
    }

    fn look(&mut self, rest: &Rest, device: &str) -> Result<(), ureq::Error> {
        let answer = rest.service("GET", &format!("/devices/{device}"), None)?;
        let found = match answer.status {
            200 => Some(answer.body["statusReason"].as_str().unwrap().to_owned()),
            404 => None,
            429 | 500.. => return Ok(()),
            _ => panic!("{device}: {answer:?}"),
        };
        if let Some(reason) = &found {
            let stored = answer.body["authentication"]["symmetricKey"]["primaryKey"].as_str();
            assert_eq!(stored, Some(key(reason).as_str()), "{device} has the key of another change");
        }
        let known = self.devices.entry(device.to_owned()).or_default();
        let may_be = found == known.acknowledged || known.asked.as_ref() == Some(&found);
        assert!(may_be, "{device} is {found:?}, and what is known of it is {known:?}");
        *known = Known { acknowledged: found, asked: None };
        Ok(())
    }
}

/// A key that follows from what the change is called.
pub(crate) fn key(reason: &str) -> String {
    STANDARD.encode(digest::digest(&digest::SHA256, reason.as_bytes()))
}
