//! What an authority that is registered already must be, whatever was asked of it when it was added.

use jiff::Timestamp;
use rcgen::KeyUsagePurpose::{CrlSign, DigitalSignature, KeyCertSign};

use super::Chain;
use super::made::MadeAuthority;
use crate::certificate_fault::CertificateFault;
use crate::refusal::Refusal;

fn refusal_under(authority: &MadeAuthority, now: &str) -> Option<Refusal> {
    let chain = Chain::new(vec![authority.issue("d1", 1)]).expect("a chain");
    let now: Timestamp = now.parse().expect("a time");
    chain.leads_to(&[authority.record("plant")], "d1", now).err()
}

#[test]
fn an_authority_that_may_not_sign_certificates_admits_nobody() {
    for usages in [&[CrlSign][..], &[DigitalSignature]] {
        let refused = refusal_under(&MadeAuthority::new("plant", usages), "2026-11-30T00:00:00Z");
        let fault = CertificateFault::IssuerMayNotSign;
        assert_eq!(refused, Some(Refusal::CertificateFault { subject: "CN=plant".into(), fault }));
    }
    for usages in [&[KeyCertSign][..], &[]] {
        assert_eq!(refusal_under(&MadeAuthority::new("plant", usages), "2026-11-30T00:00:00Z"), None);
    }
}

#[test]
fn an_authority_that_ended_admits_nobody() {
    let authority = MadeAuthority::ended("plant", (2026, 11, 30));
    assert_eq!(refusal_under(&authority, "2026-11-29T23:59:59Z"), None);
    let refused = refusal_under(&authority, "2026-12-01T00:00:01Z").expect("it ended");
    assert!(
        matches!(&refused, Refusal::CertificateExpired { subject, .. } if subject == "CN=plant"),
        "{refused:?}"
    );
}
