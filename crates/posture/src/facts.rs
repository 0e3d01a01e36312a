//! What the checks look at. The binary gathers it; no key is in it, only what was found out about each.

use std::net::IpAddr;
use std::sync::Arc;

use hub::access::Policy;
use hub::activity::{Activity, PolicyUse};
use hub::finding::Resource;
use hub::held_time::Ahead;
use hub::key_quality::KeyQuality;
use hub::ports::secrets::Fingerprint;
use hub::record::{Authority, Slot, Status, Thumbprint};
use hub::settings::HubSettings;
use jiff::Timestamp;

use crate::events::Events;

/// One identity of the fleet.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// `device` or `device/module`.
    pub name: &'a str,
    /// Whether it is enabled; a module is as its device is.
    pub status: Status,
    /// When it was made.
    pub created: Timestamp,
    /// What it is registered with.
    pub credential: &'a Credential,
    /// Its last use; `None` when it was never used.
    pub activity: Option<&'a Activity>,
    /// Whether it is connected now.
    pub connected: bool,
    /// What the operator set, which may refuse what its last use shows.
    pub settings: &'a HubSettings,
}

impl Subject<'_> {
    /// What a finding is about.
    pub fn resource(&self) -> Resource {
        Resource::identity(self.name)
    }

    /// Its last use since it was made: an identity that was deleted and made again was never used.
    pub fn used(&self) -> Option<&Activity> {
        self.activity.filter(|activity| activity.admitted >= self.created)
    }
}

/// What an identity is registered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// Two symmetric keys.
    Keys([KeyFacts; 2]),
    /// Thumbprints of certificates.
    Thumbprints([Option<Thumbprint>; 2]),
    /// A certificate under an authority.
    Authority,
    /// None of its own.
    None,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFacts {
    /// By which it is compared.
    pub fingerprint: Fingerprint,
    /// What was found out of it; nothing of one that does not open. Most keys of a fleet share one of these.
    pub quality: Arc<KeyQuality>,
    /// When it was set.
    pub set: Timestamp,
}

/// The slots in their order.
pub const SLOTS: [Slot; 2] = [Slot::Primary, Slot::Secondary];

/// What there is to know of the hub itself.
pub struct HubFacts<'a> {
    /// Its policies, each with its keys and its use.
    pub policies: &'a [PolicyFacts],
    /// The certificate authorities of devices.
    pub authorities: &'a [Authority],
    /// What the operator set.
    pub settings: &'a HubSettings,
    /// Its own certificate.
    pub server_certificate: &'a ServerCertificateFacts,
    /// Files that hold keys, and the directory above them.
    pub files: &'a [FileFacts],
    /// Secrets of the configuration, and whether each is a reference.
    pub configured_secrets: &'a [ConfiguredSecret],
    /// What of the hub's own files cannot be read.
    pub damaged: &'a [String],
    /// The room on the disk, where it is known.
    pub disk: Option<DiskFacts>,
    /// What is doubted of the time of day, if it jumped ahead.
    pub clock_ahead: Option<Ahead>,
    /// What happened lately.
    pub events: &'a Events,
}

/// A policy.
#[derive(Debug, Clone)]
pub struct PolicyFacts {
    /// The record.
    pub policy: Policy,
    /// What it was used for.
    pub used: PolicyUse,
}

/// The hub's own certificate.
#[derive(Debug, Clone)]
pub struct ServerCertificateFacts {
    /// The end of its validity.
    pub not_after: Timestamp,
    /// SHA-256 of it.
    pub thumbprint: String,
    /// Why the last renewal failed.
    pub renewal_error: Option<String>,
    /// Why no client can trust the hub, if that is so.
    pub problem: Option<String>,
}

/// A file or directory that holds keys.
#[derive(Debug, Clone)]
pub struct FileFacts {
    /// Its name within the data directory; `.` is the directory itself.
    pub name: String,
    /// The permission bits; `None` when they could not be read.
    pub mode: Option<u32>,
    /// Whether the user that the hub runs as owns it.
    pub own: bool,
}

/// The room on the disk, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct DiskFacts {
    /// What is free.
    pub free: u64,
    /// What is kept for the registry.
    pub reserve: u64,
}

/// A secret of the configuration.
#[derive(Debug, Clone)]
pub struct ConfiguredSecret {
    /// The field.
    pub field: String,
    /// The file that it stands in.
    pub file: String,
    /// Whether it is the secret itself instead of a reference to it.
    pub literal: bool,
}

/// An address in evidence.
pub fn text_of(address: Option<IpAddr>) -> String {
    address.map(|address| address.to_string()).unwrap_or_default()
}
