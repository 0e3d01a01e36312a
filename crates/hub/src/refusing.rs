//! How a credential is refused: recorded, and slowed down where somebody guesses. One way for every front.

use std::time::Instant;

use crate::backoff::Pace;
use crate::decision::{Act, Facts, Origin};
use crate::hub::Hub;
use crate::put_token::is_unknown;
use crate::refusal::Refusal;

/// A refusal of a credential.
#[derive(Debug)]
pub struct Refused {
    /// What was tried.
    pub act: Act,
    /// The device or module that the client claimed to be, whether there is one or not.
    pub identity: Option<String>,
    /// What was presented.
    pub facts: Facts,
    /// Why it was refused.
    pub refusal: Refusal,
}

impl Hub {
    /// Records a refusal, and says how long its answer waits.
    pub fn refuse(&self, refused: Refused, origin: Origin, now: Instant) -> Pace {
        let Refused { act, identity, mut facts, refusal } = refused;
        let pace = match is_guess(&facts, &refusal) {
            true => {
                let name = name(identity.as_deref(), &facts, &refusal);
                self.backoff.refused(origin.address, name.as_deref(), now)
            }
            false => Pace::default(),
        };
        facts.slowed.clone_from(&pace.slowed);
        self.record(act, identity, origin, facts, Some(refusal));
        pace
    }
}

/// Whether the client may have guessed: at a key, or at a name. Whoever has a right that is too small, a credential that
/// ended, or none at all did not, and neither did who proved a policy's key for a device that is gone.
fn is_guess(facts: &Facts, refusal: &Refusal) -> bool {
    if is_unknown(refusal) || matches!(refusal, Refusal::DeletedDevice { .. }) {
        let by_policy = facts.token.as_ref().is_some_and(|token| token.skn.is_some());
        let shows_something = facts.token.is_some() || !facts.chain.is_empty();
        return shows_something && !by_policy;
    }
    matches!(
        refusal,
        Refusal::WrongKey { .. }
            | Refusal::KeyOfAnother { .. }
            | Refusal::KeyNotDecoded { .. }
            | Refusal::HubKeyWithoutSkn { .. }
            | Refusal::TokenSignedOtherSr { .. }
            | Refusal::TokenSignedOtherText { .. }
            | Refusal::ContextSignedOtherText { .. }
            | Refusal::UnknownPolicy { .. }
            | Refusal::UnknownGateway { .. }
            | Refusal::ManagementCredential
            | Refusal::UploadLink { .. }
    )
}

/// The name that was guessed at: the device's or module's, else the policy's.
fn name(identity: Option<&str>, facts: &Facts, refusal: &Refusal) -> Option<String> {
    let of_token = || facts.token.as_ref().and_then(|token| token.skn.as_deref());
    match (identity, refusal) {
        (Some(identity), _) => Some(identity.to_owned()),
        (None, Refusal::WrongKey { holder, .. }) => Some(holder.clone()),
        (None, Refusal::UnknownPolicy { policy, .. }) => Some(format!("policy {policy}")),
        (None, _) => of_token().map(|policy| format!("policy {policy}")),
    }
}

impl Refusal {
    /// Whether it shows that the identity which was named is registered: its credential was looked at. Of a token that names a
    /// policy it says so only once the policy was proved.
    pub fn shows_that_identity_exists(&self) -> bool {
        matches!(
            self,
            Self::WrongKey { .. }
                | Self::KeyOfAnother { .. }
                | Self::KeyNotDecoded { .. }
                | Self::HubKeyWithoutSkn { .. }
                | Self::TokenSignedOtherSr { .. }
                | Self::TokenSignedOtherText { .. }
                | Self::ContextSignedOtherText { .. }
                | Self::TokenScope { .. }
                | Self::CredentialKind { .. }
                | Self::ThumbprintMismatch { .. }
                | Self::UntrustedChain { .. }
                | Self::AuthorityNotVerified { .. }
                | Self::IntermediateMissing { .. }
                | Self::SelfSigned { .. }
                | Self::CertificateExpired { .. }
                | Self::CertificateNotYetValid { .. }
                | Self::CertificateWeak { .. }
                | Self::CertificateRevoked { .. }
                | Self::CertificateName { .. }
                | Self::CertificatePurpose { .. }
                | Self::Disabled { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Operation, Rights};
    use crate::decision::TokenFacts;
    use crate::refusal::{missing_right, unknown_policy, wrong_key};

    fn token(skn: Option<&str>) -> Facts {
        let token = TokenFacts { sr: "h/devices/a".into(), se: 1, skn: skn.map(str::to_owned) };
        Facts { token: Some(token), ..Facts::default() }
    }

    #[test]
    fn only_who_may_have_guessed_counts() {
        let unknown = || Refusal::UnknownDevice { near: Vec::new() };
        let (own, policy, nothing) = (token(None), token(Some("service")), Facts::default());
        let cases = [
            (&own, wrong_key("device a"), true),
            (&own, unknown(), true),
            (&own, Refusal::UnknownModule { near: Vec::new() }, true),
            (&policy, unknown_policy("service"), true),
            (&policy, wrong_key("policy service"), true),
            (&nothing, Refusal::ManagementCredential, true),
            (&policy, unknown(), false),
            (&nothing, unknown(), false),
            (&nothing, Refusal::NoCredential, false),
            (&policy, missing_right("policy service", Rights::NONE, Operation::ReadEvents), false),
            (&own, Refusal::TokenExpired { ended: jiff::Timestamp::MIN }, false),
            (&own, Refusal::Disabled { reason: None }, false),
            (&own, Refusal::TokenScope { presented: String::new(), needed: String::new() }, false),
            (&nothing, Refusal::KeyAsPassword, false),
        ];
        for (facts, refusal, expected) in cases {
            assert_eq!(is_guess(facts, &refusal), expected, "{refusal:?}");
        }
    }

    #[test]
    fn the_name_that_is_guessed_at_is_found_however_it_was_presented() {
        let (own, policy, nothing) = (token(None), token(Some("service")), Facts::default());
        let found = |identity, facts, refusal| name(identity, facts, &refusal);
        assert_eq!(found(Some("a"), &own, wrong_key("device a")).as_deref(), Some("a"));
        assert_eq!(found(None, &policy, wrong_key("policy service")).as_deref(), Some("policy service"));
        assert_eq!(found(None, &nothing, wrong_key("policy service")).as_deref(), Some("policy service"));
        assert_eq!(found(None, &nothing, unknown_policy("service")).as_deref(), Some("policy service"));
        assert_eq!(found(None, &nothing, Refusal::ManagementCredential), None);
    }
}
