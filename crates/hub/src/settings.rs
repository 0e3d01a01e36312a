//! The settings that an operator changes on the running hub: one record of the registry, so that a change is durable,
//! on record, undone like any other, and the same on every node.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::authenticate::{Basis, Grant};
use crate::belongings::Loss;
use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::hub::Hub;
use crate::ports::registry::{StoreError, Write};
use crate::record::{Key, Record};
use crate::refusal::Refusal;
use crate::registry::{By, change};

/// The shortest cap of a token's life, in seconds: SDKs make tokens for an hour unless told otherwise.
pub const TOKEN_LIFETIME_MIN: u64 = 60 * 60;

/// How long the link of an upload may live, in seconds (`docs/protocol/limits.md` §5).
const UPLOAD_LINK_LIFETIMES: std::ops::RangeInclusive<u64> = 60..=86_400;

/// An end beyond this is no second but a millisecond: as seconds it is the year 5138, as milliseconds it is 1973.
const MILLISECONDS_MIN: i64 = 100_000_000_000;

/// What the operator set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HubSettings {
    /// Whether devices are refused that come with the key of a policy: whoever extracts such a key from one device is
    /// every device.
    #[serde(default)]
    pub device_scoped_tokens_only: bool,
    /// The longest life of a token, in seconds from now to its `se`; `None` for no cap.
    #[serde(default)]
    pub max_token_lifetime: Option<u64>,
    /// Whether services are told of files that devices uploaded.
    #[serde(default)]
    pub file_notifications: bool,
    /// How long the link of an upload lives, in seconds; `None` for an hour.
    #[serde(default)]
    pub upload_link_lifetime: Option<u64>,
}

impl HubSettings {
    /// Says what is out of range.
    fn check(&self) -> Result<(), HubError> {
        if let Some(seconds) =
            self.upload_link_lifetime.filter(|seconds| !UPLOAD_LINK_LIFETIMES.contains(seconds))
        {
            let (least, most) = UPLOAD_LINK_LIFETIMES.into_inner();
            let text = format!("uploadLinkLifetime is {seconds} s, it must be {least} s to {most} s");
            return Err(HubError::new(HubErrorCode::ArgumentInvalid, text));
        }
        match self.max_token_lifetime {
            Some(seconds) if seconds < TOKEN_LIFETIME_MIN => Err(HubError::new(
                HubErrorCode::ArgumentInvalid,
                format!(
                    "maxTokenLifetime is {seconds} s; below {TOKEN_LIFETIME_MIN} s it would refuse the tokens that the \
                     SDKs make"
                ),
            )),
            _ => Ok(()),
        }
    }

    /// Whether a token that ends then lives no longer than it may.
    pub(crate) fn allows_life(&self, ends: i64, now: Timestamp) -> Result<(), Refusal> {
        let left = ends.saturating_sub(now.as_second());
        match self.max_token_lifetime {
            // A client's clock may be ahead by the skew, and its hour is an hour all the same.
            Some(_) if ends > MILLISECONDS_MIN => Err(Refusal::TokenInMilliseconds { end: ends }),
            Some(longest) if left > (longest as i64).saturating_add(crate::sas::SKEW_SECONDS) => {
                Err(Refusal::TokenTooLong {
                    ends: Timestamp::from_second(ends).unwrap_or(Timestamp::MAX),
                    longest,
                })
            }
            _ => Ok(()),
        }
    }

    /// Whether a live connection is still allowed by these.
    pub(crate) fn allows(&self, grant: &Grant, now: Timestamp) -> Result<(), Refusal> {
        if let Basis::Policy(policy, ..) = &grant.basis
            && self.device_scoped_tokens_only
        {
            return Err(Refusal::HubKeyNotAllowed { policy: policy.to_string() });
        }
        grant.token_ends().map_or(Ok(()), |ends| self.allows_life(ends, now))
    }
}

impl Hub {
    /// What the operator set.
    pub async fn hub_settings(&self) -> Result<HubSettings, StoreError> {
        Ok(match self.registry.load(Key::Settings).await?.map(|stored| stored.record) {
            Some(Record::Settings(settings)) => settings,
            _ => HubSettings::default(),
        })
    }

    /// Puts on record that an operator trusts the time of day, after it jumped ahead.
    pub async fn note_trusted_clock(&self, by: &By) -> Result<(), HubError> {
        let now = self.now();
        self.change(&[], |_| Ok((change(Vec::new(), PlainChange::TrustClock, now.to_string(), by, now), ())))
            .await
    }

    /// Puts on record that an operator goes on without what is missing.
    pub async fn note_accepted_loss(&self, loss: &Loss, by: &By) -> Result<(), HubError> {
        let now = self.now();
        self.change(&[], |_| Ok((change(Vec::new(), PlainChange::AcceptLoss, loss.to_string(), by, now), ())))
            .await
    }

    /// Changes the settings.
    pub async fn put_hub_settings(&self, settings: HubSettings, by: &By) -> Result<HubSettings, HubError> {
        settings.check()?;
        let now = self.now();
        self.change(&[Key::Settings], |loaded| {
            let write = Write {
                key: Key::Settings,
                replaces: loaded[0].as_ref().map(|stored| stored.version),
                record: Some(Record::Settings(settings.clone())),
            };
            let target = serde_json::to_string(&settings).unwrap_or_default();
            Ok((change(vec![write], PlainChange::ChangeSettings, target, by, now), settings.clone()))
        })
        .await
    }
}
