//! That the command of a cause shows what the cause is about: the client's own registration, or the authorities.

use jiff::Timestamp;

use super::explain;
use crate::certificate_fault::CertificateFault;
use crate::decision::{Act, CertificateFacts, Decision};
use crate::refusal::Refusal;

const OWN: &str = "CN=pump-1";
const ABOVE: &str = "CN=the middle";
const REGISTRATION: &str = "holdfast device show pump-1";
const AUTHORITIES: &str = "holdfast certificate list";

fn explained(identity: &str, refusal: Refusal) -> (String, String) {
    let certificate = |subject: &str| CertificateFacts {
        subject: subject.to_owned(),
        issuer: String::new(),
        thumbprint: String::new(),
        public_key: String::new(),
        serial: String::new(),
        not_before: None,
        not_after: None,
    };
    let mut decision = Decision::new(time(), Act::Connect);
    decision.identity = Some(identity.to_owned());
    decision.facts.chain = vec![certificate(OWN), certificate(ABOVE)];
    decision.refusal = Some(refusal);
    let words = explain(&decision).expect("a refusal is explained");
    (words.fix, words.change)
}

fn time() -> Timestamp {
    "2026-11-30T00:00:00Z".parse().expect("a time")
}

fn of(subject: &str) -> [Refusal; 6] {
    let (subject, not_before, not_after) = (subject.to_owned(), Timestamp::UNIX_EPOCH, time());
    let fault = |fault| Refusal::CertificateFault { subject: subject.clone(), fault };
    [
        Refusal::CertificateExpired { subject: subject.clone(), not_before, not_after },
        Refusal::CertificateNotYetValid { subject: subject.clone(), not_before },
        Refusal::CertificatePurpose { subject: subject.clone() },
        fault(CertificateFault::CriticalExtension { oid: "1.2.3".into() }),
        fault(CertificateFault::NameConstraint),
        fault(CertificateFault::Malformed { problem: "BadDer".into() }),
    ]
}

#[test]
fn a_fault_of_the_own_certificate_shows_the_registration_and_no_keys() {
    let own = [
        Refusal::CertificateWeak { problem: "its RSA key has 1024 bits".into() },
        Refusal::CertificateName { presented: String::new() },
        Refusal::CertificateFault { subject: OWN.into(), fault: CertificateFault::IsAuthority },
        Refusal::CertificateFault {
            subject: OWN.into(),
            fault: CertificateFault::SeveralNames { names: vec!["a".into(), "b".into()] },
        },
    ];
    for refusal in of(OWN).into_iter().chain(own) {
        let (fix, _) = explained("pump-1", refusal.clone());
        assert_eq!(fix, REGISTRATION, "{refusal:?}");
        let (fix, _) = explained("pump-1/lock", refusal);
        assert_eq!(fix, "holdfast module show pump-1 lock");
    }
}

#[test]
fn a_fault_of_a_certificate_above_shows_the_authorities_and_renews_it_for_its_key() {
    let above = [
        CertificateFault::IssuerNoAuthority { version: 3 },
        CertificateFault::IssuerMayNotSign,
        CertificateFault::PathTooLong { longest: 0, length: 1 },
    ];
    let above = above.map(|fault| Refusal::CertificateFault { subject: ABOVE.into(), fault });
    for refusal in of(ABOVE).into_iter().chain(above) {
        assert_eq!(explained("pump-1", refusal.clone()).0, AUTHORITIES, "{refusal:?}");
    }
    for refusal in of(ABOVE).into_iter().take(3) {
        let (_, change) = explained("pump-1", refusal);
        assert!(change.contains("CN=the middle issued again for the same key"), "{change}");
    }
    let (_, change) = explained("pump-1", of(OWN)[0].clone());
    assert_eq!(change, "Issue a new certificate to the client.");
}
