//! Certificates that were made wrong.

use super::{About, Words};
use crate::certificate_fault::CertificateFault;

pub(super) fn fault(about: &About<'_>, subject: &str, fault: &CertificateFault) -> Words {
    let (explanation, presented, expected, change) = match fault {
        CertificateFault::CriticalExtension { oid } => (
            format!("The certificate {subject} has the critical extension {oid}, which this hub does not know."),
            format!("the critical extension {oid}"),
            "no critical extension but basicConstraints, keyUsage, extendedKeyUsage, subjectAltName, nameConstraints and \
             cRLDistributionPoints"
                .to_owned(),
            "Issue the certificate without this extension, or not marked critical.".to_owned(),
        ),
        CertificateFault::IsAuthority => (
            format!("The client's certificate {subject} is one of an authority (basicConstraints CA:TRUE)."),
            "a client's certificate with CA:TRUE".to_owned(),
            "a client's certificate with CA:FALSE, or without basicConstraints".to_owned(),
            "Issue the client's certificate with basicConstraints = CA:FALSE.".to_owned(),
        ),
        CertificateFault::IssuerNoAuthority { version: 3 } => (
            format!(
                "The certificate {subject} signed another, but is none of an authority (basicConstraints CA:TRUE is \
                 missing)."
            ),
            format!("a certificate issued by {subject}"),
            "an issuer with basicConstraints = CA:TRUE".to_owned(),
            format!("Issue {subject} again with basicConstraints = critical,CA:TRUE, for the same key."),
        ),
        CertificateFault::IssuerNoAuthority { version } => (
            format!(
                "The certificate {subject} signed another, but is an X.509 v{version} certificate, which cannot say that \
                 it is one of an authority."
            ),
            format!("a certificate issued by {subject}, X.509 v{version}"),
            "an issuer of X.509 v3 with basicConstraints = CA:TRUE".to_owned(),
            format!(
                "Issue {subject} again with basicConstraints = critical,CA:TRUE, for the same key: openssl x509 -req makes v1 \
                 unless it is given -extfile."
            ),
        ),
        CertificateFault::IssuerMayNotSign => (
            format!(
                "The certificate {subject} signed another, but its key usage does not let it (keyCertSign is missing)."
            ),
            format!("a certificate issued by {subject}"),
            "an issuer with keyUsage = keyCertSign, or without keyUsage".to_owned(),
            format!("Issue {subject} again with keyUsage = critical,keyCertSign,cRLSign, for the same key."),
        ),
        CertificateFault::PathTooLong { longest, length } => (
            format!(
                "The certificate {subject} allows {longest} intermediates below it (pathlen), and the chain has {length}."
            ),
            format!("{length} intermediates below {subject}"),
            format!("at most {longest} intermediates"),
            format!("Issue the client's certificate higher up, or issue {subject} again with a greater pathlen."),
        ),
        CertificateFault::NameConstraint => (
            format!(
                "An authority above {subject} has nameConstraints, which do not allow its names. With an X.509 v1 \
                 certificate they are not compared: it is refused."
            ),
            format!("the certificate {subject}"),
            "names that the nameConstraints of all authorities above allow".to_owned(),
            "Issue an X.509 v3 certificate with names that are allowed, or under another authority.".to_owned(),
        ),
        CertificateFault::SeveralNames { names } => (
            format!("The certificate has several common names: {}.", names.join(", ")),
            format!("CN={}", names.join(", CN=")),
            format!("CN={} alone", about.id),
            "Issue the certificate with one common name.".to_owned(),
        ),
        CertificateFault::Malformed { problem } => (
            format!("The certificate {subject}, or one above it, is not made as RFC 5280 says: {problem}."),
            problem.clone(),
            "certificates as RFC 5280 says".to_owned(),
            "Issue the certificate with another tool, or other extensions.".to_owned(),
        ),
    };
    let fix = match fault {
        CertificateFault::SeveralNames { .. } => about.show_certificate(about.own_subject()),
        _ => about.show_certificate(subject),
    };
    Words::new(explanation, presented, expected, change, fix)
}
