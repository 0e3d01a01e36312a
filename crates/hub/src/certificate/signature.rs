//! Who signed: a certificate or a revocation list, under the key of an issuer.

use x509_parser::der_parser::oid::Oid;
use x509_parser::prelude::X509Certificate;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

/// What a signature is worth.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Signature {
    /// The issuer's key made it.
    Good,
    /// Another key made it.
    OfAnother,
    /// It is of a kind that proves nothing, as SHA-1 does not.
    Weak(String),
}

/// The signature of a certificate under the key of another.
pub(super) fn signature_of(issued: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> Signature {
    if issued.tbs_certificate.signature != issued.signature_algorithm {
        return Signature::OfAnother;
    }
    let message = issued.tbs_certificate.as_ref();
    verify(&issued.signature_algorithm, message, &issued.signature_value.data, issuer.public_key())
}

/// The signature of a revocation list under the key of a certificate.
pub(super) fn signature_of_list(
    list: &CertificateRevocationList<'_>,
    issuer: &X509Certificate<'_>,
) -> Signature {
    if list.tbs_cert_list.signature != list.signature_algorithm {
        return Signature::OfAnother;
    }
    let message = list.tbs_cert_list.as_ref();
    verify(&list.signature_algorithm, message, &list.signature_value.data, issuer.public_key())
}

fn verify(
    algorithm: &AlgorithmIdentifier<'_>,
    message: &[u8],
    signature: &[u8],
    key: &SubjectPublicKeyInfo<'_>,
) -> Signature {
    let mut of_this_kind = webpki::ALL_VERIFICATION_ALGS
        .iter()
        .filter(|known| begins_with(known.signature_alg_id().as_ref(), &algorithm.algorithm))
        .peekable();
    if of_this_kind.peek().is_none() {
        return Signature::Weak(name_of(&algorithm.algorithm));
    }
    let holds = of_this_kind
        .filter(|known| begins_with(known.public_key_alg_id().as_ref(), &key.algorithm.algorithm))
        .any(|known| known.verify_signature(&key.subject_public_key.data, message, signature).is_ok());
    if holds { Signature::Good } else { Signature::OfAnother }
}

/// Whether the inside of an AlgorithmIdentifier begins with this object identifier.
fn begins_with(identifier: &[u8], oid: &Oid<'_>) -> bool {
    let oid = oid.as_bytes();
    let rest = identifier.strip_prefix(&[6]).and_then(|rest| rest.split_first());
    rest.is_some_and(|(length, rest)| usize::from(*length) == oid.len() && rest.starts_with(oid))
}

/// Not in the registry of names (RFC 3279 section 2.2.3).
const ECDSA_WITH_SHA1: &str = "1.2.840.10045.4.1";

fn name_of(oid: &Oid<'_>) -> String {
    if oid.to_id_string() == ECDSA_WITH_SHA1 {
        return "ecdsa-with-SHA1".to_owned();
    }
    let registry = x509_parser::objects::oid_registry();
    match x509_parser::objects::oid2sn(oid, registry) {
        Ok(name) => name.to_owned(),
        Err(_) => oid.to_id_string(),
    }
}
