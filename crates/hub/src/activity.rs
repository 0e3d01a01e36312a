//! What the hub remembers of the use of each identity and each policy: the posture engine judges by it, and nothing on
//! the message path writes it. One record each, however often it is used.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use crate::access::{PolicyName, Right};
use crate::decision::Door;
use crate::record::Slot;
use crate::record_reading::CredentialUseText;

/// The last use of an identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Activity {
    /// When it was admitted last.
    pub admitted: Timestamp,
    /// When its last connection ended; `None` while it is connected, and for HTTPS, which has no connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Through which door.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub door: Option<Door>,
    /// With which SDK.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// With which credential.
    pub credential: CredentialUse,
}

/// The credential that an identity was admitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    try_from = "CredentialUseText"
)]
pub enum CredentialUse {
    /// A SAS token.
    Token {
        /// Its `se`, in seconds since 1970 UTC.
        ends: i64,
        /// The policy whose key signed it; `None` for the identity's own key.
        policy: Option<PolicyName>,
        /// The slot of the key.
        slot: Option<Slot>,
    },
    /// A certificate. It lies apart: most identities have a token, and the guard keeps the use of each.
    Certificate(Box<CertificateUse>),
}

/// The certificate that an identity was admitted with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateUse {
    /// SHA-256 of the certificate.
    pub thumbprint: String,
    /// SHA-256 of its public key.
    pub public_key: String,
    /// Its serial number.
    pub serial: String,
    /// Its issuer.
    pub issuer: String,
    /// The beginning of its validity.
    pub not_before: Option<Timestamp>,
    /// The end of its validity.
    pub not_after: Option<Timestamp>,
}

/// The days of use that are remembered of a policy.
pub const DAYS_MAX: usize = 31;
/// The addresses that are remembered of a policy.
pub const ADDRESSES_MAX: usize = 8;

/// What a policy was used for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyUse {
    /// How often on each of the last days (UTC) that it was used.
    pub days: BTreeMap<Date, u64>,
    /// Each right that it was needed for.
    pub rights: BTreeMap<Right, RightUse>,
    /// The last addresses, newest first.
    pub addresses: Vec<IpAddr>,
    /// The last SDK.
    pub sdk: Option<String>,
    /// The longest life of a service's token, from when it was presented to its `se`.
    pub longest_token: Option<LongToken>,
}

/// The use of one right of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RightUse {
    /// How often.
    pub count: u64,
    /// When last.
    pub last: Timestamp,
}

/// A token that was presented.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongToken {
    /// What was left of its life, in seconds.
    pub seconds: u64,
    /// When it was presented.
    pub presented: Timestamp,
}

impl PolicyUse {
    /// Adds later use to earlier, within the bounds of what is remembered.
    pub fn merge(&mut self, later: PolicyUse) {
        for (day, count) in later.days {
            *self.days.entry(day).or_default() += count;
        }
        while self.days.len() > DAYS_MAX {
            self.days.pop_first();
        }
        for (right, used) in later.rights {
            self.rights
                .entry(right)
                .and_modify(|have| {
                    have.count += used.count;
                    have.last = have.last.max(used.last);
                })
                .or_insert(used);
        }
        let mut addresses = later.addresses;
        addresses
            .extend(self.addresses.iter().filter(|a| !addresses.contains(a)).copied().collect::<Vec<_>>());
        addresses.truncate(ADDRESSES_MAX);
        self.addresses = addresses;
        self.sdk = later.sdk.or(self.sdk.take());
        // A longer token of a week ago says nothing of how it is used now.
        let recent = |token: &LongToken, now: &LongToken| {
            now.presented.duration_since(token.presented).as_hours() < 7 * 24
        };
        self.longest_token = match (self.longest_token.take(), later.longest_token) {
            (Some(old), Some(new)) if old.seconds > new.seconds && recent(&old, &new) => Some(old),
            (old, new) => new.or(old),
        };
    }
}
