//! Certificate revocation lists: which certificates they name.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::revocation_list::CertificateRevocationList;

use super::signature::{Signature, signature_of_list};
use crate::record::Authority;

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
        .flat_map(|(authority, _)| authority.revocation_list.iter())
        .filter_map(|list| STANDARD.decode(list).ok())
        .any(|der| names(&der, issued, issuer))
}

fn names(der: &[u8], issued: &X509Certificate<'_>, issuer: &X509Certificate<'_>) -> bool {
    let Ok((_, list)) = CertificateRevocationList::from_der(der) else { return false };
    list.issuer().as_raw() == issuer.subject().as_raw()
        && signature_of_list(&list, issuer) == Signature::Good
        && list.iter_revoked_certificates().any(|revoked| revoked.raw_serial() == issued.raw_serial())
}
