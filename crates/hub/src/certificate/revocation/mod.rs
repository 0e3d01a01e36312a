//! Certificate revocation lists (RFC 5280 §5): which certificates they name, which may be set ([`with_list`]), and what an
//! operator sees of those that stand.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::signature::{Signature, signature_of_list};
use super::{authority_der, parse, timestamp};
use crate::record::Authority;

mod fault;
mod fit;
mod scope;
#[cfg(test)]
mod tests;

pub(crate) use self::fit::with_list;

/// Whether a list of the certificate's issuer names it. The issuer is told by name and key, so that authorities of one
/// name keep apart, and a renewed one has the lists of the one before.
pub(super) fn is_revoked<'a, 'p: 'a>(
    issued: &X509Certificate<'_>,
    issuer: &X509Certificate<'_>,
    authorities: impl Iterator<Item = (&'a Authority, &'a X509Certificate<'p>)>,
) -> bool {
    authorities
        .filter(|(_, certificate)| {
            certificate.subject().as_raw() == issuer.subject().as_raw()
                && certificate.public_key().raw == issuer.public_key().raw
        })
        .flat_map(|(authority, _)| authority.revocation_lists.iter())
        .filter_map(|list| STANDARD.decode(list).ok())
        .any(|der| names(&der, issued, issuer))
}

fn names(der: &[u8], issued: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let Ok((_, list)) = CertificateRevocationList::from_der(der) else { return false };
    // Most certificates are on no list: only for those that are is its signature verified.
    list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == issued.raw_serial())
        && counts(&list, issuer)
}

/// Whether a list is one of this issuer's.
fn counts(list: &CertificateRevocationList<'_>, issuer: &X509Certificate<'_>) -> bool {
    list.issuer().as_raw() == issuer.subject().as_raw() && signature_of_list(list, issuer) == Signature::Good
}

/// What an operator sees of a revocation list that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationFacts {
    /// Which certificates it speaks of, in words: its distribution point, or all.
    pub scope: String,
    /// Its cRLNumber, in decimal.
    pub number: Option<String>,
    /// When it was made.
    pub this_update: Option<Timestamp>,
    /// When the next one is due.
    pub next_update: Option<Timestamp>,
    /// How many certificates are on it.
    pub revoked: usize,
    /// Whether it is the authority's own. One that is not was set by an earlier build, and counts for nothing.
    pub counts: bool,
}

impl RevocationFacts {
    /// Whether a newer list is due.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.next_update.is_some_and(|next| next < now)
    }
}

/// The facts of the lists of an authority, in the order in which they were first set.
pub fn revocation_facts(authority: &Authority) -> Vec<RevocationFacts> {
    let der = authority_der(authority);
    let issuer = der.as_ref().and_then(|der| parse(der).ok());
    let facts = |list: &String| facts_of(&STANDARD.decode(list).unwrap_or_default(), issuer.as_ref());
    authority.revocation_lists.iter().map(facts).collect()
}

fn facts_of(der: &[u8], issuer: Option<&X509Certificate<'_>>) -> RevocationFacts {
    let Ok((_, list)) = CertificateRevocationList::from_der(der) else {
        return RevocationFacts {
            scope: "unreadable".to_owned(),
            number: None,
            this_update: None,
            next_update: None,
            revoked: 0,
            counts: false,
        };
    };
    RevocationFacts {
        scope: scope::words(&list),
        number: list.crl_number().map(ToString::to_string),
        this_update: timestamp(list.last_update().timestamp()),
        next_update: list.next_update().and_then(|next| timestamp(next.timestamp())),
        revoked: list.iter_revoked_certificates().count(),
        counts: issuer.is_some_and(|issuer| counts(&list, issuer)),
    }
}

/// The lists of an authority without those of a scope, as [`RevocationFacts`] has it in words; `None` when there are none
/// of it.
pub(crate) fn without_lists(authority: &Authority, scope: &str) -> Option<Vec<String>> {
    let facts = revocation_facts(authority);
    let kept = authority.revocation_lists.iter().zip(&facts);
    let kept: Vec<String> =
        kept.filter(|(_, facts)| facts.scope != scope).map(|(list, _)| list.clone()).collect();
    (kept.len() < facts.len()).then_some(kept)
}
