//! Which certificates a revocation list speaks of: all of its issuer, or those of an issuing distribution point
//! (RFC 5280 §5.2.5).

use x509_parser::extensions::{
    DistributionPointName, GeneralName, IssuingDistributionPoint, ParsedExtension, X509Extension,
};
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::revocation_list::CertificateRevocationList;

/// The scope of a list that has no distribution point.
const ALL: &str = "all certificates";

/// The extension that bounds a list, if there is one.
fn extension<'a>(list: &'a CertificateRevocationList<'a>) -> Option<&'a X509Extension<'a>> {
    list.tbs_cert_list.find_extension(&OID_X509_EXT_ISSUER_DISTRIBUTION_POINT)
}

/// What tells the scope of a list from others: two lists of one scope replace each other.
pub(super) fn key<'a>(list: &'a CertificateRevocationList<'a>) -> &'a [u8] {
    extension(list).map_or(&[], |extension| extension.value)
}

/// The bounds of a list, if it has any that can be read.
pub(super) fn bounds<'a>(
    list: &'a CertificateRevocationList<'a>,
) -> Option<&'a IssuingDistributionPoint<'a>> {
    match extension(list)?.parsed_extension() {
        ParsedExtension::IssuingDistributionPoint(point) => Some(point),
        _ => None,
    }
}

/// The scope in words.
pub(super) fn words(list: &CertificateRevocationList<'_>) -> String {
    let Some(point) = bounds(list) else { return ALL.to_owned() };
    let place = match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => names.iter().map(name).collect::<Vec<_>>().join(" "),
        Some(DistributionPointName::NameRelativeToCRLIssuer(name)) => {
            let parts = name.iter().filter_map(|part| part.as_str().ok());
            parts.collect::<Vec<_>>().join(" ")
        }
        None => ALL.to_owned(),
    };
    let bounds = [
        (point.only_contains_user_certs, "of clients only"),
        (point.only_contains_ca_certs, "of authorities only"),
        (point.only_some_reasons.is_some(), "for some reasons only"),
    ];
    let bounds = bounds.iter().filter(|(is_set, _)| *is_set).map(|(_, words)| *words);
    std::iter::once(place.as_str()).chain(bounds).collect::<Vec<_>>().join(", ")
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(uri) => (*uri).to_owned(),
        other => other.to_string(),
    }
}
