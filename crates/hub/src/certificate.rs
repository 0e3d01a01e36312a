//! Client certificates: what they say, their thumbprints, and whether a chain leads to a verified certificate
//! authority (`docs/protocol/device-mqtt.md` §2.3). That the peer holds the private key was proved in the handshake.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::decision::{CertificateFacts, cut};
use crate::record::{Authority, Thumbprint};
use crate::refusal::{CertificateFault, Refusal};

#[cfg(test)]
mod anchor_tests;
#[cfg(test)]
pub(crate) mod made;
mod path;
mod revocation;
mod signature;

use self::path::NoPath;
pub use self::path::Path;
pub use self::revocation::{RevocationFacts, revocation_facts};
pub(crate) use self::revocation::{with_list, without_lists};

/// The chain that a client offered, leaf first; never empty.
#[derive(Debug, Clone)]
pub struct Chain {
    certificates: Vec<CertificateDer<'static>>,
}

/// A certificate that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is not DER of an X.509 certificate: {0}")]
pub struct CertificateError(String);

impl Chain {
    /// Takes what the handshake gave; `None` when it gave nothing.
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> Option<Self> {
        (!certificates.is_empty()).then_some(Self { certificates })
    }

    /// The client's own certificate.
    pub fn leaf(&self) -> &CertificateDer<'static> {
        &self.certificates[0]
    }

    /// What a record says of the chain.
    pub fn facts(&self) -> Vec<CertificateFacts> {
        let fact = |der: &CertificateDer<'_>| {
            let parsed = parse(der).ok()?;
            Some(CertificateFacts {
                subject: cut(&parsed.subject().to_string()),
                issuer: cut(&parsed.issuer().to_string()),
                thumbprint: sha256(der),
                public_key: sha256(parsed.public_key().raw),
                serial: cut(&parsed.raw_serial_as_string()),
                not_before: timestamp(parsed.validity().not_before.timestamp()),
                not_after: timestamp(parsed.validity().not_after.timestamp()),
            })
        };
        self.certificates.iter().take(4).filter_map(fact).collect()
    }

    /// The slot whose thumbprint is the leaf's; validity in time is checked too.
    pub fn matches(&self, thumbprints: [&Option<Thumbprint>; 2], now: Timestamp) -> Result<usize, Refusal> {
        let (sha1, sha256) = (sha1(self.leaf()), sha256(self.leaf()));
        let is = |registered: &Option<Thumbprint>| {
            registered.as_ref().is_some_and(|t| t.as_str() == sha1 || t.as_str() == sha256)
        };
        let Some(slot) = thumbprints.iter().position(|registered| is(registered)) else {
            let registered =
                thumbprints.iter().filter_map(|t| t.as_ref()).map(|t| t.as_str().to_owned()).collect();
            return Err(Refusal::ThumbprintMismatch { presented: sha256, registered });
        };
        let leaf =
            parse(self.leaf()).map_err(|error| Refusal::CertificateWeak { problem: error.to_string() })?;
        in_time(&leaf, now)?;
        strong_enough(&leaf)?;
        Ok(slot)
    }

    /// When the leaf ends, in seconds since 1970 UTC.
    pub(crate) fn leaf_ends(&self) -> i64 {
        parse(self.leaf()).map_or(i64::MIN, |leaf| leaf.validity().not_after.timestamp())
    }

    /// The way to the verified authority that the chain leads to, for the identity that the leaf must have as its common
    /// name: the id of a device, or `{device}/{module}`.
    pub fn leads_to<'a>(
        &self,
        authorities: &'a [Authority],
        common_name: &str,
        now: Timestamp,
    ) -> Result<Path<'a>, Refusal> {
        let unreadable = |error: CertificateError| Refusal::CertificateWeak { problem: error.to_string() };
        let leaf = parse(self.leaf()).map_err(unreadable)?;
        for der in &self.certificates {
            parse(der).map_err(unreadable)?;
        }
        in_time(&leaf, now)?;
        strong_enough(&leaf)?;
        let path = path::find(&self.certificates, authorities, now).map_err(|none| match none {
            NoPath::Refused(refusal) => refusal,
            NoPath::UnknownIssuer => self.untrusted(&leaf, authorities, false),
            NoPath::AnotherKey => self.untrusted(&leaf, authorities, true),
        })?;
        is_named(&leaf, common_name)?;
        Ok(path)
    }

    /// The refusal of a certificate whose issuer is not there.
    fn untrusted(&self, leaf: &X509Certificate<'_>, authorities: &[Authority], another_key: bool) -> Refusal {
        let last = self.certificates.last().and_then(|der| parse(der).ok());
        let issuer = last.as_ref().map(|certificate| certificate.issuer().to_string()).unwrap_or_default();
        if let Some(unverified) = authorities.iter().find(|a| !a.verified && a.subject == issuer) {
            return Refusal::AuthorityNotVerified { authority: unverified.name.clone() };
        }
        let verified: Vec<String> =
            authorities.iter().filter(|a| a.verified).map(|a| a.subject.clone()).collect();
        if let (1, false) = (self.certificates.len(), another_key) {
            if leaf.issuer() == leaf.subject() {
                return Refusal::SelfSigned {
                    subject: cut(&leaf.subject().to_string()),
                    authorities: verified,
                };
            }
            if may_be_intermediate(leaf, &issuer, &verified) {
                return Refusal::IntermediateMissing { issuer: cut(&issuer), authorities: verified };
            }
        }
        let problem = match another_key {
            true => "an authority or intermediate of its issuer's name is there, but another key signed it",
            false => "no verified authority, and no intermediate that was sent, issued it",
        };
        Refusal::UntrustedChain {
            unverified: None,
            issuer: cut(&issuer),
            authorities: verified,
            problem: problem.to_owned(),
        }
    }
}

/// Whether a certificate has this common name, and no other. Nobody says which of several counts.
fn is_named(leaf: &X509Certificate<'_>, common_name: &str) -> Result<(), Refusal> {
    let names: Vec<&str> = leaf.subject().iter_common_name().filter_map(|cn| cn.as_str().ok()).collect();
    match names.as_slice() {
        [first, rest @ ..] if rest.iter().any(|name| name != first) => {
            let names = names.iter().take(4).map(|name| cut(name)).collect();
            let fault = CertificateFault::SeveralNames { names };
            Err(Refusal::CertificateFault { subject: cut(&leaf.subject().to_string()), fault })
        }
        [first, ..] if *first == common_name => Ok(()),
        [] | [_, ..] => {
            Err(Refusal::CertificateName { presented: cut(names.first().copied().unwrap_or("")) })
        }
    }
}

/// Whether the unknown issuer of a certificate that came alone may be an intermediate of a verified authority. Nothing
/// in a certificate proves it; a root says so in its name or in what it signs.
fn may_be_intermediate(leaf: &X509Certificate<'_>, issuer: &str, verified: &[String]) -> bool {
    let issuers_issuer = leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.authority_cert_issuer.as_ref(),
        _ => None,
    });
    let issuers_issuer = issuers_issuer.into_iter().flatten().find_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name.to_string()),
        _ => None,
    });
    match issuers_issuer {
        Some(name) => verified.contains(&name),
        None => {
            let is_a_name_of_ours = verified.iter().any(|subject| subject == issuer);
            !verified.is_empty() && !is_a_name_of_ours && !issuer.to_lowercase().contains("root")
        }
    }
}

/// What the operator needs to know of a certificate that is to become an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityFacts {
    /// The subject.
    pub subject: String,
    /// The end of its validity.
    pub not_after: Timestamp,
    /// Its SHA-256 thumbprint.
    pub thumbprint: Thumbprint,
}

/// Reads a certificate that is to become an authority: it must be one (`CA:TRUE`), in time, and strong.
pub fn authority_facts(der: &CertificateDer<'_>, now: Timestamp) -> Result<AuthorityFacts, Refusal> {
    let weak = |problem: String| Refusal::CertificateWeak { problem };
    let parsed = parse(der).map_err(|error| weak(error.to_string()))?;
    in_time(&parsed, now)?;
    strong_enough(&parsed)?;
    if !parsed.is_ca() {
        return Err(weak("it is no certificate authority (basicConstraints CA:TRUE is missing)".into()));
    }
    if !path::may_sign(&parsed) {
        return Err(weak("its key usage does not let it sign certificates (keyCertSign is missing)".into()));
    }
    let not_after = timestamp(parsed.validity().not_after.timestamp());
    Ok(AuthorityFacts {
        subject: parsed.subject().to_string(),
        not_after: not_after.ok_or_else(|| weak("its end is no time".into()))?,
        thumbprint: Thumbprint::parse(&sha256(der)).map_err(|error| weak(error.to_string()))?,
    })
}

/// Whether a certificate proves possession of the authority's key: it carries the code as common name and is
/// signed by the authority.
pub fn proves_possession(
    proof: &CertificateDer<'static>,
    authority: &Authority,
    code: &str,
    now: Timestamp,
) -> Result<(), Refusal> {
    let chain = Chain { certificates: vec![proof.clone()] };
    let candidate = [Authority { verified: true, ..authority.clone() }];
    chain.leads_to(&candidate, code, now).map(|_| ())
}

fn authority_der(authority: &Authority) -> Option<CertificateDer<'static>> {
    STANDARD.decode(&authority.certificate).ok().map(CertificateDer::from)
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    X509Certificate::from_der(der)
        .map(|(_, parsed)| parsed)
        .map_err(|error| CertificateError(error.to_string()))
}

/// SHA-1 of the certificate, upper-case hexadecimal.
pub fn sha1(der: &CertificateDer<'_>) -> String {
    hex(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, der).as_ref())
}

/// SHA-256 of the certificate, upper-case hexadecimal.
pub fn sha256(der: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, der).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn timestamp(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

fn in_time(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(), Refusal> {
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if (begin..=end).contains(&now.as_second()) {
        return Ok(());
    }
    if now.as_second() < begin {
        return Err(Refusal::CertificateNotYetValid {
            subject: cut(&certificate.subject().to_string()),
            not_before: timestamp(begin).unwrap_or(Timestamp::MAX),
        });
    }
    Err(Refusal::CertificateExpired {
        subject: cut(&certificate.subject().to_string()),
        not_before: timestamp(begin).unwrap_or(Timestamp::MIN),
        not_after: timestamp(end).unwrap_or(Timestamp::MAX),
    })
}

/// The weakest key that admits: RSA of 2,048 bits, or one of the curves.
fn strong_enough(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let weak = |problem: String| Err(Refusal::CertificateWeak { problem });
    let spki = certificate.public_key();
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) if rsa.key_size() < 2_048 => {
            weak(format!("its RSA key has {} bits", rsa.key_size()))
        }
        Ok(PublicKey::RSA(_)) => Ok(()),
        Ok(PublicKey::EC(_)) => {
            let curve = spki.algorithm.parameters.as_ref().and_then(|p| p.as_oid().ok());
            let known =
                [oid_registry::OID_EC_P256, oid_registry::OID_NIST_EC_P384, oid_registry::OID_NIST_EC_P521];
            match curve {
                Some(curve) if known.contains(&curve) => Ok(()),
                _ => weak("its curve is none of P-256, P-384 and P-521".into()),
            }
        }
        _ if spki.algorithm.algorithm == oid_registry::OID_SIG_ED25519 => Ok(()),
        _ => weak("its key is of a kind that is not used for client certificates".into()),
    }
}
