//! What the guard found, and what was done about it: the records of the posture engine. The engine itself is a crate of
//! its own, which judges; these are facts of the hub, durable and on record like any other.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::access::{PolicyName, Rights};
use crate::record::{Record, Slot};

/// How bad it is, which the score weighs (`docs/posture.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Weight 0.5.
    Low,
    /// Weight 2.
    Medium,
    /// Weight 5.
    High,
    /// Weight 10.
    Critical,
}

impl Severity {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

/// What a finding is about: a kind and a name, written `device/pump-1`, `module/pump-1/camera`, `policy/service`,
/// `certificate/server`, `file/keys.json`, `address/10.1.2.3`, `authority/plant`, `hub/settings`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resource(pub String);

impl Resource {
    /// The resource of an identity, `device` or `device/module`.
    pub fn identity(identity: &str) -> Self {
        match identity.contains('/') {
            false => Self(format!("device/{identity}")),
            true => Self(format!("module/{identity}")),
        }
    }

    /// The resource of a kind.
    pub fn new(kind: &str, name: &str) -> Self {
        Self(format!("{kind}/{name}"))
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A finding, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Its id: the same check of the same thing has the same one for ever.
    pub id: String,
    /// The check, as the catalogue names it.
    pub check: String,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub resource: Resource,
    /// Everything that it concerns, [`Self::resource`] included.
    pub resources: Vec<Resource>,
    /// One sentence with the facts.
    pub summary: String,
    /// The facts, for machines; a key stands in it by its fingerprint only.
    pub evidence: Value,
    /// What to do, for people.
    pub advice: String,
    /// What the hub can do by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fix: Option<Fix>,
    /// When it was opened first.
    pub first_seen: Timestamp,
    /// When it was opened last.
    pub opened: Timestamp,
    /// How often it was opened.
    pub count: u64,
    /// When it was closed; `None` while it is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
    /// Why it does not count for now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiver: Option<Waiver>,
}

impl Finding {
    /// Whether it is open and counts.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.closed.is_none() && self.waiver.as_ref().is_none_or(|waiver| waiver.until <= now)
    }
}

/// Somebody took the risk, for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiver {
    /// Who answers for it.
    pub owner: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub until: Timestamp,
}

/// A change that the hub can make by itself. It never takes more than it says, and can be taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Fix {
    /// New random keys for slots of identities.
    RotateKeys {
        /// Which keys.
        keys: Vec<IdentityKey>,
    },
    /// Disables devices; their connections end.
    DisableDevices {
        /// Their ids.
        devices: Vec<String>,
    },
    /// A new random key for a slot of a policy.
    RotatePolicyKey {
        /// The policy.
        policy: PolicyName,
        /// The slot.
        slot: Slot,
    },
    /// A new policy.
    CreatePolicy {
        /// Its name.
        policy: PolicyName,
        /// Its rights.
        rights: Rights,
    },
    /// Refuses keys of policies to devices.
    RefusePolicyKeysToDevices,
    /// Refuses tokens that live longer.
    CapTokenLifetime {
        /// The longest life, in seconds.
        seconds: u64,
    },
    /// Takes the trust in a certificate authority back.
    DistrustAuthority {
        /// Its name.
        authority: String,
    },
    /// Takes the rights of others off files.
    RestrictFiles {
        /// Names within the data directory; `.` is the directory itself.
        files: Vec<String>,
    },
    /// Issues a new server certificate under the hub's own authority.
    RenewServerCertificate,
}

/// One key of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityKey {
    /// The identity, `device` or `device/module`.
    pub identity: String,
    /// The slot.
    pub slot: Slot,
}

/// A fix that was made, with what it takes to undo it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppliedFix {
    /// Its id.
    pub id: String,
    /// The finding.
    pub finding: String,
    /// The check of the finding.
    pub check: String,
    /// What was done.
    pub fix: Fix,
    /// Who did it.
    pub actor: String,
    /// When.
    pub time: Timestamp,
    /// When it was undone; `None` while it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undone: Option<Timestamp>,
    /// The records that it replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<Replaced>,
    /// The files that it changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<ChangedFile>,
}

/// A record as it was before a fix. Its keys are sealed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Replaced {
    /// The kind and the two parts of its key.
    pub key: (crate::record::Kind, String, String),
    /// The record; `None` where there was none.
    pub before: Option<Box<Record>>,
    /// The version that the fix made.
    pub version: u64,
}

/// A file as it was before a fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangedFile {
    /// Its name within the data directory.
    pub file: String,
    /// Its mode before.
    pub mode_before: u32,
    /// Its mode after.
    pub mode_after: u32,
    /// Where its content before is kept, within the data directory; `None` where only the mode changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_as: Option<String>,
}
