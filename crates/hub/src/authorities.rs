//! The rules of certificate authorities: adding one, proving that its owner holds its key, and revocation
//! (`docs/protocol/device-mqtt.md` §2.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

use crate::certificate::{authority_facts, proves_possession, with_list, without_lists};
use crate::deed::PlainChange;
use crate::error::{HubError, HubErrorCode};
use crate::hub::{AUTHORITIES_MAX, Hub};
use crate::ports::registry::{Versioned, Write};
use crate::record::{Authority, Key, Kind, Record};
use crate::refusal::Refusal;
use crate::registry::{By, change};

/// The longest name of an authority, in characters.
const NAME_CHARS_MAX: usize = 64;

impl Hub {
    /// Adds an authority. `verified` is the operator's word that its key is held by who it should be; else
    /// possession must be proved before it admits anybody.
    pub async fn add_authority(
        &self,
        name: &str,
        certificate: &CertificateDer<'_>,
        verified: bool,
        by: &By,
    ) -> Result<Authority, HubError> {
        let legal = |c: char| c.is_ascii_alphanumeric() || "-_. ".contains(c);
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || !name.chars().all(legal) {
            let text = format!(
                "The name of an authority is 1 to {NAME_CHARS_MAX} of letters, digits, blanks and - _ ."
            );
            return Err(invalid(text));
        }
        if self.registry.count(Kind::Authority).await? >= AUTHORITIES_MAX as u64 {
            let text = format!("A hub has at most {AUTHORITIES_MAX} certificate authorities");
            return Err(HubError::new(HubErrorCode::GenericConflict, text));
        }
        let now = self.now();
        let facts = authority_facts(certificate, now).map_err(|refusal| unfit(&refusal))?;
        let authority = Authority {
            name: name.to_owned(),
            certificate: STANDARD.encode(certificate),
            subject: facts.subject,
            thumbprint: facts.thumbprint,
            not_after: facts.not_after,
            verified,
            verification_code: (!verified).then(|| self.verification_code()),
            revocation_lists: Vec::new(),
            created: now,
        };
        self.put_authority(name, PlainChange::AddAuthority, by, |stored| match stored {
            Some(_) => {
                let text = format!("There is a certificate authority '{name}' already");
                Err(HubError::new(HubErrorCode::GenericConflict, text))
            }
            None => Ok(authority.clone()),
        })
        .await
    }

    /// Proves possession with a certificate that the authority issued to the verification code.
    pub async fn verify_authority(
        &self,
        name: &str,
        proof: &CertificateDer<'static>,
        by: &By,
    ) -> Result<Authority, HubError> {
        let now = self.now();
        self.put_authority(name, PlainChange::VerifyAuthority, by, |stored| {
            let authority = stored.ok_or_else(|| unknown(name))?;
            let code = authority.verification_code.as_deref().unwrap_or_default();
            proves_possession(proof, authority, code, now).map_err(|refusal| unfit(&refusal))?;
            Ok(Authority { verified: true, verification_code: None, ..authority.clone() })
        })
        .await
    }

    /// Takes the operator's word that the authority's key is held by who it should be.
    pub async fn trust_authority(&self, name: &str, by: &By) -> Result<Authority, HubError> {
        self.put_authority(name, PlainChange::TrustAuthority, by, |stored| {
            let authority = stored.ok_or_else(|| unknown(name))?;
            Ok(Authority { verified: true, verification_code: None, ..authority.clone() })
        })
        .await
    }

    /// Sets a revocation list of an authority, in place of the one of the same scope; certificates on it are refused from
    /// now on.
    pub async fn set_revocation_list(&self, name: &str, list: &[u8], by: &By) -> Result<Authority, HubError> {
        let others = self.authorities().await?;
        let now = self.now();
        self.put_authority(name, PlainChange::SetRevocationList, by, |stored| {
            let authority = stored.ok_or_else(|| unknown(name))?;
            let revocation_lists =
                with_list(list, authority, &others, now).map_err(|fault| invalid(fault.to_string()))?;
            Ok(Authority { revocation_lists, ..authority.clone() })
        })
        .await
    }

    /// Removes the revocation lists of a scope; certificates that only they name are admitted again.
    pub async fn remove_revocation_list(
        &self,
        name: &str,
        scope: &str,
        by: &By,
    ) -> Result<Authority, HubError> {
        self.put_authority(name, PlainChange::RemoveRevocationList, by, |stored| {
            let authority = stored.ok_or_else(|| unknown(name))?;
            let revocation_lists = without_lists(authority, scope).ok_or_else(|| {
                let text = format!("The authority '{name}' has no revocation list of the scope '{scope}'");
                HubError::new(HubErrorCode::GenericNotFound, text)
            })?;
            Ok(Authority { revocation_lists, ..authority.clone() })
        })
        .await
    }

    /// Removes an authority; the connections that it admitted end.
    pub async fn delete_authority(&self, name: &str, by: &By) -> Result<(), HubError> {
        let key = Key::Authority(name.to_owned());
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let stored = loaded[0].as_ref().ok_or_else(|| unknown(name))?;
            let write = Write { key: key.clone(), replaces: Some(stored.version), record: None };
            Ok((change(vec![write], PlainChange::DeleteAuthority, name.to_owned(), by, now), ()))
        })
        .await
    }

    async fn put_authority(
        &self,
        name: &str,
        what: PlainChange,
        by: &By,
        decide: impl Fn(Option<&Authority>) -> Result<Authority, HubError>,
    ) -> Result<Authority, HubError> {
        let key = Key::Authority(name.to_owned());
        let now = self.now();
        self.change(std::slice::from_ref(&key), |loaded| {
            let stored = loaded[0].as_ref();
            let authority = decide(as_authority(stored))?;
            let record = Some(Record::Authority(authority.clone()));
            let write = Write { key: key.clone(), replaces: stored.map(|stored| stored.version), record };
            Ok((change(vec![write], what, name.to_owned(), by, now), authority))
        })
        .await
    }

    fn verification_code(&self) -> String {
        let mut bytes = [0_u8; 24];
        self.random.fill(&mut bytes);
        bytes.iter().map(|byte| format!("{byte:02X}")).collect()
    }
}

fn as_authority(stored: Option<&Versioned>) -> Option<&Authority> {
    match &stored?.record {
        Record::Authority(authority) => Some(authority),
        _ => None,
    }
}

fn unknown(name: &str) -> HubError {
    HubError::new(HubErrorCode::GenericNotFound, format!("There is no certificate authority '{name}'"))
}

fn unfit(refusal: &Refusal) -> HubError {
    let text = match refusal {
        Refusal::CertificateWeak { problem } => format!("The certificate cannot be used: {problem}"),
        Refusal::CertificateExpired { not_before, not_after, .. } => {
            format!("The certificate is valid from {not_before} to {not_after}, which is not now")
        }
        Refusal::CertificateName { presented } => {
            format!("The proof was issued to '{presented}', it must be issued to the verification code")
        }
        Refusal::UntrustedChain { problem, .. } => {
            format!("The proof was not issued by this authority: {problem}")
        }
        Refusal::CertificateFault { subject, fault } => {
            format!("The certificate {subject} cannot be used: {}", fault.cause())
        }
        Refusal::IntermediateMissing { .. } | Refusal::SelfSigned { .. } => {
            "The proof was not issued by this authority".to_owned()
        }
        Refusal::CertificateNotYetValid { not_before, .. } => {
            format!("The certificate is valid from {not_before} on, which is not now")
        }
        other => format!("The certificate cannot be used: {}", other.cause()),
    };
    invalid(text)
}

fn invalid(text: String) -> HubError {
    HubError::new(HubErrorCode::ArgumentInvalid, text)
}
