//! Whether a revocation list may be set for an authority (RFC 5280 §5 and §6.3).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use x509_parser::extensions::{ParsedExtension, X509Extension};
use x509_parser::oid_registry::{self, Oid};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::X509Version;

use super::super::signature::{Signature, signature_of_list};
use super::super::{authority_der, parse, timestamp};
use super::fault::RevocationFault;
use super::scope;
use crate::decision::cut;
pub(super) use crate::limits::REVOCATION_LIST_BYTES_MAX as LIST_BYTES_MAX;
pub(super) use crate::limits::REVOCATION_LISTS_MAX as LISTS_MAX;
use crate::record::Authority;
use crate::sas::SKEW_SECONDS;

/// The lists of an authority after a new one is set, which takes the place of the one of its scope. `others` are all
/// authorities of the hub, for the words of a refusal.
pub(crate) fn with_list(
    der: &[u8],
    authority: &Authority,
    others: &[Authority],
    now: Timestamp,
) -> Result<Vec<String>, RevocationFault> {
    let list = read(der)?;
    let issuer_der = authority_der(authority).unwrap_or_else(|| Vec::new().into());
    let issuer = parse(&issuer_der).map_err(|error| unreadable(error.to_string()))?;
    is_of(&list, &issuer, others)?;
    is_in_time(&list, now)?;
    is_understood(&list)?;
    let mut lists = authority.revocation_lists.clone();
    let standing = |text: &String| {
        let der = STANDARD.decode(text).ok()?;
        // One that an earlier build took unseen is in nobody's way.
        let place = read(&der).is_ok_and(|have| scope::key(&have) == scope::key(&list));
        place.then_some(der)
    };
    let place = lists.iter().enumerate().find_map(|(at, text)| Some((at, standing(text)?)));
    let text = STANDARD.encode(der);
    match place {
        Some((at, standing)) => {
            replaces(&list, &standing, &issuer)?;
            lists[at] = text;
        }
        None if lists.len() >= LISTS_MAX => return Err(RevocationFault::TooMany { limit: LISTS_MAX }),
        None => lists.push(text),
    }
    let size = lists.iter().map(|text| text.len() / 4 * 3).sum();
    match size > LIST_BYTES_MAX {
        true => Err(RevocationFault::TooLarge { size, limit: LIST_BYTES_MAX }),
        false => Ok(lists),
    }
}

fn read(der: &[u8]) -> Result<CertificateRevocationList<'_>, RevocationFault> {
    let (rest, list) =
        CertificateRevocationList::from_der(der).map_err(|error| unreadable(error.to_string()))?;
    match rest {
        [] => Ok(list),
        rest => Err(unreadable(format!("{} bytes follow it", rest.len()))),
    }
}

fn unreadable(problem: String) -> RevocationFault {
    RevocationFault::Unreadable { problem }
}

/// Whether a list is the issuer's own: its name, its key, and the right to sign lists.
fn is_of(
    list: &CertificateRevocationList<'_>,
    issuer: &X509Certificate<'_>,
    others: &[Authority],
) -> Result<(), RevocationFault> {
    if list.issuer().as_raw() != issuer.subject().as_raw() {
        return Err(RevocationFault::OtherIssuer {
            issuer: cut(&list.issuer().to_string()),
            authority: cut(&issuer.subject().to_string()),
        });
    }
    match signature_of_list(list, issuer) {
        Signature::Good => {}
        Signature::Weak(algorithm) => return Err(RevocationFault::WeakSignature { algorithm }),
        Signature::OfAnother => return Err(RevocationFault::OtherKey { signer: signer(list, others) }),
    }
    let may_sign = match issuer.key_usage() {
        Ok(usage) => usage.is_none_or(|usage| usage.value.crl_sign()),
        Err(_) => false,
    };
    if may_sign { Ok(()) } else { Err(RevocationFault::MayNotSign) }
}

/// The authority that a list is of.
fn signer(list: &CertificateRevocationList<'_>, others: &[Authority]) -> Option<String> {
    let signed = |authority: &&Authority| {
        let der = authority_der(authority);
        let issuer = der.as_ref().and_then(|der| parse(der).ok());
        issuer.is_some_and(|issuer| super::counts(list, &issuer))
    };
    others.iter().find(signed).map(|authority| authority.name.clone())
}

fn is_in_time(list: &CertificateRevocationList<'_>, now: Timestamp) -> Result<(), RevocationFault> {
    let this_update = list.last_update().timestamp();
    if this_update > now.as_second().saturating_add(SKEW_SECONDS) {
        let this_update = timestamp(this_update).unwrap_or(Timestamp::MAX);
        return Err(RevocationFault::NotYet { this_update, now });
    }
    let next_update = list.next_update().ok_or(RevocationFault::NoEnd)?.timestamp();
    if next_update < now.as_second() {
        let next_update = timestamp(next_update).unwrap_or(Timestamp::MIN);
        return Err(RevocationFault::Ended { next_update, now });
    }
    Ok(())
}

/// Whether all that a list says that must be understood is.
fn is_understood(list: &CertificateRevocationList<'_>) -> Result<(), RevocationFault> {
    if list.version() != Some(X509Version::V2) {
        return Err(RevocationFault::Version);
    }
    let known = [
        oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER,
        oid_registry::OID_X509_EXT_CRL_NUMBER,
        oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT,
    ];
    for extension in list.extensions() {
        if extension.oid == oid_registry::OID_X509_EXT_DELTA_CRL_INDICATOR {
            return Err(RevocationFault::Delta);
        }
        let oid = extension.oid.to_id_string();
        if known.contains(&extension.oid) && is_unread(extension) {
            return Err(unreadable(format!("its extension {oid} cannot be read")));
        }
        if extension.critical && !known.contains(&extension.oid) {
            return Err(RevocationFault::CriticalExtension { oid });
        }
    }
    if list.tbs_cert_list.extensions_map().is_err() {
        return Err(unreadable("an extension is there twice".to_owned()));
    }
    match scope::bounds(list) {
        Some(bounds) if bounds.indirect_crl => return Err(RevocationFault::Indirect),
        Some(bounds) if bounds.only_contains_attribute_certs => return Err(RevocationFault::AttributesOnly),
        Some(_) | None => {}
    }
    entries_are_understood(list)
}

fn entries_are_understood(list: &CertificateRevocationList<'_>) -> Result<(), RevocationFault> {
    /// RFC 5280 §5.3.3: an entry of another issuer.
    const CERTIFICATE_ISSUER: Oid<'_> = x509_parser::der_parser::oid!(2.5.29.29);
    let known = [oid_registry::OID_X509_EXT_REASON_CODE, oid_registry::OID_X509_EXT_INVALIDITY_DATE];
    for entry in list.iter_revoked_certificates() {
        for extension in entry.iter_extensions() {
            if extension.oid == CERTIFICATE_ISSUER {
                return Err(RevocationFault::Indirect);
            }
            if extension.critical && (!known.contains(&extension.oid) || is_unread(extension)) {
                return Err(RevocationFault::CriticalEntryExtension {
                    serial: cut(&entry.raw_serial_as_string()),
                    oid: extension.oid.to_id_string(),
                });
            }
        }
    }
    Ok(())
}

fn is_unread(extension: &X509Extension<'_>) -> bool {
    matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. })
}

/// Whether a list may take the place of one of its scope: it has a number that is not lower, and is not older.
fn replaces(
    list: &CertificateRevocationList<'_>,
    standing: &[u8],
    issuer: &X509Certificate<'_>,
) -> Result<(), RevocationFault> {
    let standing = read(standing)?;
    // One that counts for nothing holds up no good one.
    if !super::counts(&standing, issuer) {
        return Ok(());
    }
    let scope = || scope::words(list);
    let older =
        |presented: String, standing: String| RevocationFault::Older { scope: scope(), presented, standing };
    match (list.crl_number(), standing.crl_number()) {
        (None, Some(number)) => {
            return Err(RevocationFault::NoNumber { scope: scope(), standing: number.to_string() });
        }
        (Some(number), Some(have)) if number < have => {
            return Err(older(format!("cRLNumber {number}"), format!("cRLNumber {have}")));
        }
        (Some(number), Some(have)) if number > have => return Ok(()),
        (Some(_) | None, Some(_) | None) => {}
    }
    let (made, have) = (list.last_update(), standing.last_update());
    match made.timestamp() < have.timestamp() {
        true => Err(older(format!("of {made}"), format!("of {have}"))),
        false => Ok(()),
    }
}
