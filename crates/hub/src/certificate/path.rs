//! The way from a client's certificate to a verified authority (RFC 5280 §6.1), looked for so that a refusal can name
//! the certificate that is at fault. An X.509 v1 certificate is good at the lower end of the way, never above it.

use jiff::Timestamp;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::ParsedExtension;
use x509_parser::oid_registry;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::X509Version;

use super::signature::{Signature, signature_of};
use super::{authority_der, in_time, parse, revocation, strong_enough};
use crate::decision::cut;
use crate::record::Authority;
use crate::refusal::{CertificateFault, Refusal};

/// Signatures that are verified for one chain at the most.
const SIGNATURES_MAX: usize = 40;
/// Intermediates on one way at the most.
const INTERMEDIATES_MAX: usize = 6;

/// A way to a verified authority that holds.
#[derive(Debug, Clone, Copy)]
pub struct Path<'a> {
    /// The authority.
    pub authority: &'a Authority,
    /// When the first certificate of the way ends, in seconds since 1970 UTC.
    pub ends: i64,
}

/// Why there is no way.
pub(super) enum NoPath {
    /// Neither an authority nor a certificate that was sent bears the name of the issuer.
    UnknownIssuer,
    /// One bears it, and another key signed.
    AnotherKey,
    /// The issuer is there, and this is wrong.
    Refused(Refusal),
}

/// A certificate with the bytes it was read from.
struct Certificate<'a> {
    der: &'a CertificateDer<'a>,
    parsed: X509Certificate<'a>,
}

/// An authority with its certificate.
struct Anchor<'a, 'p> {
    authority: &'a Authority,
    certificate: Certificate<'p>,
}

/// Looks for a way for a chain, leaf first, each certificate of it readable.
pub(super) fn find<'a>(
    chain: &[CertificateDer<'_>],
    authorities: &'a [Authority],
    now: Timestamp,
) -> Result<Path<'a>, NoPath> {
    let ders: Vec<(&Authority, CertificateDer<'static>)> = authorities
        .iter()
        .filter(|authority| authority.verified)
        .filter_map(|authority| Some((authority, authority_der(authority)?)))
        .collect();
    let read = |der| Some(Certificate { der, parsed: parse(der).ok()? });
    let anchors: Vec<Anchor<'_, '_>> = ders
        .iter()
        .filter_map(|(authority, der)| Some(Anchor { authority, certificate: read(der)? }))
        .collect();
    let sent: Vec<Certificate<'_>> = chain.iter().filter_map(read).collect();
    let mut search =
        Search { sent: &sent, anchors: &anchors, now, signatures: 0, found: NoPath::UnknownIssuer };
    match search.climb(&mut vec![0]) {
        Some(path) => Ok(path),
        None => Err(search.found),
    }
}

/// A search, depth first.
struct Search<'s, 'a, 'p> {
    sent: &'s [Certificate<'p>],
    anchors: &'s [Anchor<'a, 'p>],
    now: Timestamp,
    signatures: usize,
    found: NoPath,
}

impl<'s, 'a, 'p> Search<'s, 'a, 'p> {
    /// Goes on from the last of these places in what was sent.
    fn climb(&mut self, way: &mut Vec<usize>) -> Option<Path<'a>> {
        let (sent, anchors) = (self.sent, self.anchors);
        let head = sent.get(*way.last()?)?;
        for anchor in anchors {
            if self.issued(&anchor.certificate, head) {
                match self.arrive(way, anchor) {
                    Ok(path) => return Some(path),
                    Err(refusal) => self.note(NoPath::Refused(refusal)),
                }
            }
        }
        for (place, above) in sent.iter().enumerate().skip(1) {
            if way.contains(&place) || way.len() > INTERMEDIATES_MAX || !self.issued(above, head) {
                continue;
            }
            if let Err(refusal) = self.may_issue(above, way, true) {
                self.note(NoPath::Refused(refusal));
                continue;
            }
            way.push(place);
            if let Some(path) = self.climb(way) {
                return Some(path);
            }
            way.pop();
        }
        None
    }

    /// Whether one certificate issued another: by name, and by signature.
    fn issued(&mut self, issuer: &Certificate<'_>, issued: &Certificate<'_>) -> bool {
        if issuer.parsed.subject().as_raw() != issued.parsed.issuer().as_raw() {
            return false;
        }
        self.signatures += 1;
        if self.signatures > SIGNATURES_MAX {
            return false;
        }
        match signature_of(&issued.parsed, &issuer.parsed) {
            Signature::Good => true,
            Signature::OfAnother => {
                // A key that is too weak verifies nothing.
                self.note(match strong_enough(&issuer.parsed) {
                    Ok(()) => NoPath::AnotherKey,
                    Err(refusal) => NoPath::Refused(refusal),
                });
                false
            }
            Signature::Weak(algorithm) => {
                let subject = cut(&issued.parsed.subject().to_string());
                let problem = format!("{subject} is signed with {algorithm}");
                self.note(NoPath::Refused(Refusal::CertificateWeak { problem }));
                false
            }
        }
    }

    /// Keeps the fault that says most; of equals the first.
    fn note(&mut self, found: NoPath) {
        let says = |no_path: &NoPath| match no_path {
            NoPath::UnknownIssuer => 0,
            NoPath::AnotherKey => 1,
            NoPath::Refused(_) => 2,
        };
        if says(&found) > says(&self.found) {
            self.found = found;
        }
    }

    /// Whether a certificate may stand above these. What a purpose or an extension says binds no authority that the
    /// operator chose.
    fn may_issue(&self, issuer: &Certificate<'_>, below: &[usize], sent: bool) -> Result<(), Refusal> {
        let certificate = &issuer.parsed;
        let subject = || cut(&certificate.subject().to_string());
        let fault = |fault| Err(Refusal::CertificateFault { subject: subject(), fault });
        if certificate.version() != X509Version::V3 || !certificate.is_ca() {
            let version = certificate.version().0 + 1;
            return fault(CertificateFault::IssuerNoAuthority { version });
        }
        if !may_sign(certificate) {
            return fault(CertificateFault::IssuerMayNotSign);
        }
        in_time(certificate, self.now)?;
        strong_enough(certificate)?;
        let self_issued = |certificate: &X509Certificate<'_>| {
            certificate.subject().as_raw() == certificate.issuer().as_raw()
        };
        let counted = below.iter().skip(1).filter_map(|place| self.sent.get(*place));
        let counted = counted.filter(|certificate| !self_issued(&certificate.parsed)).count();
        let bound =
            certificate.basic_constraints().ok().flatten().and_then(|it| it.value.path_len_constraint);
        if let Some(longest) = bound.filter(|longest| counted > *longest as usize) {
            return fault(CertificateFault::PathTooLong { longest, length: counted });
        }
        if sent {
            if let Some(oid) = unknown_critical(certificate) {
                return fault(CertificateFault::CriticalExtension { oid });
            }
            for_clients(certificate)?;
        }
        Ok(())
    }

    /// The way up to an authority, if nothing is wrong on it.
    fn arrive(&self, way: &[usize], anchor: &Anchor<'a, '_>) -> Result<Path<'a>, Refusal> {
        self.may_issue(&anchor.certificate, way, false)?;
        let way: Vec<&Certificate<'_>> = way.iter().filter_map(|place| self.sent.get(*place)).collect();
        let issuers = way.iter().skip(1).copied().chain([&anchor.certificate]);
        for (issued, issuer) in way.iter().zip(issuers) {
            let lists = self.anchors.iter().map(|anchor| (anchor.authority, &anchor.certificate.parsed));
            if revocation::is_revoked(&issued.parsed, &issuer.parsed, lists) {
                return Err(Refusal::CertificateRevoked { serial: issued.parsed.raw_serial_as_string() });
            }
        }
        if let Some(leaf) = way.first() {
            self.may_be_a_client(leaf, &way, &anchor.certificate)?;
        }
        let all = way.iter().copied().chain([&anchor.certificate]);
        let ends = all.map(|it| it.parsed.validity().not_after.timestamp()).min().unwrap_or(i64::MIN);
        Ok(Path { authority: anchor.authority, ends })
    }

    fn may_be_a_client(
        &self,
        leaf: &Certificate<'_>,
        way: &[&Certificate<'_>],
        anchor: &Certificate<'_>,
    ) -> Result<(), Refusal> {
        let subject = || cut(&leaf.parsed.subject().to_string());
        let fault = |fault| Err(Refusal::CertificateFault { subject: subject(), fault });
        if leaf.parsed.version() != X509Version::V3 {
            let constrains =
                |it: &Certificate<'_>| matches!(it.parsed.name_constraints(), Ok(Some(_)) | Err(_));
            return match way.iter().skip(1).copied().chain([anchor]).any(constrains) {
                true => fault(CertificateFault::NameConstraint),
                false => Ok(()),
            };
        }
        if leaf.parsed.is_ca() {
            return fault(CertificateFault::IsAuthority);
        }
        if let Some(oid) = unknown_critical(&leaf.parsed) {
            return fault(CertificateFault::CriticalExtension { oid });
        }
        for_clients(&leaf.parsed)?;
        let between: Vec<CertificateDer<'_>> =
            way.iter().skip(1).map(|it| CertificateDer::from(it.der.as_ref())).collect();
        match checked(leaf.der, &between, anchor.der, self.now) {
            Ok(()) => Ok(()),
            Err(webpki::Error::NameConstraintViolation) => fault(CertificateFault::NameConstraint),
            Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                Err(Refusal::CertificatePurpose { subject: subject() })
            }
            Err(other) => fault(CertificateFault::Malformed { problem: format!("{other:?}") }),
        }
    }
}

/// What the search leaves to webpki: constraints of names, and the form of everything.
fn checked(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    anchor: &CertificateDer<'_>,
    now: Timestamp,
) -> Result<(), webpki::Error> {
    let anchor = webpki::anchor_from_trusted_cert(anchor)?;
    let seconds = now.as_second().max(0).unsigned_abs();
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    let usage = webpki::KeyUsage::client_auth();
    webpki::EndEntityCert::try_from(leaf)?
        .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &[anchor], between, time, usage, None, None)
        .map(|_| ())
}

/// Whether the key of a certificate may sign others: its key usage says so, or it has none (RFC 5280 §6.1.4 n).
pub(super) fn may_sign(certificate: &X509Certificate<'_>) -> bool {
    match certificate.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.key_cert_sign()),
        Err(_) => false,
    }
}

/// A purpose holds for the whole way below the certificate that names it.
fn for_clients(certificate: &X509Certificate<'_>) -> Result<(), Refusal> {
    let good = match certificate.extended_key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.client_auth),
        Err(_) => false,
    };
    let subject = || cut(&certificate.subject().to_string());
    if good { Ok(()) } else { Err(Refusal::CertificatePurpose { subject: subject() }) }
}

/// The first extension that is critical and that nobody here knows.
fn unknown_critical(certificate: &X509Certificate<'_>) -> Option<String> {
    let known = [
        oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS,
        oid_registry::OID_X509_EXT_KEY_USAGE,
        oid_registry::OID_X509_EXT_EXTENDED_KEY_USAGE,
        oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
        oid_registry::OID_X509_EXT_NAME_CONSTRAINTS,
        oid_registry::OID_X509_EXT_CRL_DISTRIBUTION_POINTS,
    ];
    let unknown = |oid| !known.contains(oid);
    certificate
        .iter_extensions()
        .find(|extension| {
            let unread = matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. });
            extension.critical && (unread || unknown(&extension.oid))
        })
        .map(|extension| extension.oid.to_id_string())
}
