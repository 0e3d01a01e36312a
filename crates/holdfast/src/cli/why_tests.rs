use clap::Parser as _;
use hub::access::Rights;
use hub::decision::{Act, Decision};
use hub::explain::explain;
use hub::record::Slot;
use hub::refusal::{AdmissionBound, CertificateFault, ChangeFacts, Newcomer, Refusal};
use jiff::Timestamp;

use crate::cli::Args;
use crate::cli::shell_words::words_of;

/// Refusals of each cause.
fn one_of_each() -> Vec<Refusal> {
    let (text, names) = (|| "it's x".to_owned(), || vec!["hub.example.net".to_owned()]);
    let (now, none) = (Timestamp::UNIX_EPOCH, Vec::new);
    let change = Box::new(ChangeFacts {
        what: hub::deed::PlainChange::DeleteDevice.into(),
        target: "d1".into(),
        actor: Some("operator".into()),
        address: None,
        time: now,
    });
    let newcomer = Box::new(Newcomer { address: None, port: Some(1), sdk: Some("paho".into()), time: now });
    vec![
        Refusal::WrongKey { holder: "device d1".into(), change: Some(change.clone()), unsearched: false },
        Refusal::WrongKey { holder: "policy service".into(), change: None, unsearched: true },
        Refusal::KeyOfAnother { holder: "device d1".into(), owner: "device d2".into() },
        Refusal::KeyNotDecoded { holder: "device d1".into() },
        Refusal::HubKeyWithoutSkn { policy: "service".into(), slot: Slot::Primary },
        Refusal::TokenSignedOtherSr { presented: text(), signed: text() },
        Refusal::TokenSignedOtherText { problem: text() },
        Refusal::TokenExpired { ended: now },
        Refusal::TokenLifetimeAsEnd { seconds: 3_600 },
        Refusal::TokenMalformed { problem: text() },
        Refusal::TokenScope { presented: text(), needed: "h/devices/d1".into() },
        Refusal::TokenHost { presented: text(), names: names() },
        Refusal::HubKeyNotAllowed { policy: "device".into() },
        Refusal::TokenTooLong { ends: now, longest: 3_600 },
        Refusal::TokenInMilliseconds { end: 1_900_000_000_000 },
        Refusal::KeyAsPassword,
        Refusal::ConnectionStringAsPassword,
        Refusal::EntraToken,
        Refusal::TokenInQuery,
        Refusal::UnknownHost { presented: text(), names: names() },
        Refusal::UnknownDevice { near: names() },
        Refusal::UnknownDevice { near: none() },
        Refusal::DeletedDevice { change: change.clone() },
        Refusal::UnknownModule { near: none() },
        Refusal::UnknownPolicy { policy: text(), near: none() },
        Refusal::UnknownPolicy { policy: text(), near: names() },
        Refusal::IllegalId { problem: text() },
        Refusal::Disabled { reason: Some(text()) },
        Refusal::UnknownGateway { gateway: text() },
        Refusal::GatewayDisabled { gateway: text(), reason: Some(text()) },
        Refusal::NotItsGateway { gateway: text(), parent: Some(text()) },
        Refusal::NotItsGateway { gateway: "-g".into(), parent: None },
        Refusal::AuthChain { presented: Some(text()), registered: text() },
        Refusal::AuthChain { presented: None, registered: text() },
        Refusal::MissingRight {
            holder: "policy a policy".into(),
            has: Rights::NONE,
            needs: Rights::parse("ServiceConnect").expect("a right"),
            operation: text(),
        },
        Refusal::MissingRight {
            holder: "policy service".into(),
            has: Rights::parse("ServiceConnect").expect("a right"),
            needs: Rights::parse("RegistryWrite").expect("a right"),
            operation: text(),
        },
        Refusal::NoCredential,
        Refusal::CredentialKind { presented: text(), registered: text() },
        Refusal::ThumbprintMismatch { presented: "AB".repeat(32), registered: names() },
        Refusal::UntrustedChain { issuer: text(), authorities: none(), unverified: None, problem: text() },
        Refusal::AuthorityNotVerified { authority: text() },
        Refusal::IntermediateMissing { issuer: text(), authorities: names() },
        Refusal::SelfSigned { subject: text(), authorities: names() },
        Refusal::CertificateExpired { subject: text(), not_before: now, not_after: now },
        Refusal::CertificateNotYetValid { subject: text(), not_before: now },
        Refusal::CertificateWeak { problem: text() },
        Refusal::CertificateRevoked { serial: text() },
        Refusal::CertificateName { presented: text() },
        Refusal::CertificatePurpose { subject: text() },
        Refusal::CertificateEnded { ended: Some(now) },
        Refusal::CertificateEnded { ended: None },
        Refusal::ClientId { client_id: text(), user_name: text() },
        Refusal::UserName { problem: text() },
        Refusal::MqttVersion,
        Refusal::AuthenticationProperties { problem: text() },
        Refusal::ContextSignedOtherText { problem: text() },
        Refusal::TokenInSeconds { end: 1_800_000_000 },
        Refusal::MalformedOperation { problem: text() },
        Refusal::SubscriptionsFull { limit: 50 },
        Refusal::QosTwo,
        Refusal::ConnectTimeout,
        Refusal::NotAdmittedWithin { bound: AdmissionBound::Time { seconds: 30 } },
        Refusal::NotAdmittedWithin { bound: AdmissionBound::Bytes { bytes: 49_152 } },
        Refusal::NotAdmittedWithin { bound: AdmissionBound::MemoryOfNetwork { bytes: 1 << 27 } },
        Refusal::NotAdmittedWithin { bound: AdmissionBound::MemoryOfAll { bytes: 1 << 27 } },
        Refusal::NotAdmittedWithin { bound: AdmissionBound::Descriptors },
        Refusal::Topic { topic: text() },
        Refusal::TopicFilter { filter: text() },
        Refusal::MessageTooLarge { size: 300_000, limit: 262_144 },
        Refusal::Protocol { problem: text() },
        Refusal::KeepAliveMissed { seconds: 90 },
        Refusal::TakenOver { by: Some(newcomer) },
        Refusal::TakenOver { by: None },
        Refusal::NotReading,
        Refusal::RightEnded { because: Some("disabled".into()), change: Some(change) },
        Refusal::RightEnded { because: None, change: None },
        Refusal::TokenEnded { ended: Some(now) },
        Refusal::PlainText { protocol: text() },
        Refusal::TlsVersion { offered: "1.0".into() },
        Refusal::NoCommonCipher { offered: names() },
        Refusal::TlsParameters { problem: text() },
        Refusal::TlsServerNotTrusted { alert: text() },
        Refusal::TlsServerName { presented: Some(text()), names: names(), alert: text() },
        Refusal::TlsFailed { problem: text() },
        Refusal::WrongPort { spoken: text(), served: text() },
        Refusal::TokensFull { limit: 1_000 },
        Refusal::LinkAddress { address: text(), problem: text() },
        Refusal::LinkAddress { address: "/devices/d1/twin".into(), problem: text() },
        Refusal::CbsTokenType { presented: text() },
        Refusal::SaslMechanism { presented: text() },
        Refusal::UnknownConsumerGroup { group: text(), groups: names() },
        Refusal::UnknownPartition { partition: text(), count: 4 },
        Refusal::UnknownEventHub { presented: text(), name: text() },
        Refusal::SendToEvents { address: text() },
        Refusal::ReaderOutranked { problem: text() },
        Refusal::ReaderDisplaced { problem: text() },
        Refusal::ReadersFull { problem: text() },
        Refusal::ApiVersion { presented: None },
        Refusal::UnknownPath { method: text(), path: text() },
        Refusal::WebsocketPath { path: text() },
        Refusal::WebsocketProtocol { offered: String::new() },
        Refusal::ManagementCredential,
        Refusal::UploadName { problem: text() },
        Refusal::UploadsFull { limit: 10 },
        Refusal::UploadUnknown { id: Some(text()), ended: None },
        Refusal::UploadUnknown { id: None, ended: Some(now) },
        Refusal::UploadNotWritten { problem: text() },
        Refusal::UploadLink { problem: text() },
        Refusal::UploadLinkEnded { ended: now },
        Refusal::UploadLinkWritesOnly { method: text() },
        Refusal::UploadTooLarge { limit: 1 << 30 },
        Refusal::DiskFull,
    ]
    .into_iter()
    .chain(faults().map(|fault| Refusal::CertificateFault { subject: text(), fault }))
    .collect()
}

fn faults() -> impl Iterator<Item = CertificateFault> {
    let text = || "it's x".to_owned();
    [
        CertificateFault::CriticalExtension { oid: text() },
        CertificateFault::IsAuthority,
        CertificateFault::IssuerNoAuthority { version: 3 },
        CertificateFault::IssuerNoAuthority { version: 1 },
        CertificateFault::IssuerMayNotSign,
        CertificateFault::PathTooLong { longest: 0, length: 1 },
        CertificateFault::NameConstraint,
        CertificateFault::SeveralNames { names: vec![text()] },
        CertificateFault::Malformed { problem: text() },
    ]
    .into_iter()
}

/// The causes that the source names, read from it, so that none can be forgotten above.
fn causes() -> Vec<String> {
    let refusals = include_str!("../../../hub/src/refusal.rs");
    let faults = include_str!("../../../hub/src/certificate_fault.rs");
    let arm = |line: &str| {
        let (variant, cause) = line.trim().split_once("=> \"")?;
        variant.starts_with("Self::").then(|| cause.trim_end_matches("\",").to_owned())
    };
    refusals.lines().chain(faults.lines()).filter_map(arm).collect()
}

#[test]
fn the_list_holds_every_cause() {
    let listed: Vec<_> = one_of_each().iter().map(Refusal::cause).collect();
    let missing: Vec<_> = causes().into_iter().filter(|cause| !listed.contains(&cause.as_str())).collect();
    assert_eq!(missing, [] as [String; 0]);
    assert!(causes().len() > 70, "the source is no longer read rightly: {}", causes().len());
}

#[test]
fn every_cause_is_in_the_documents() {
    let documents = include_str!("../../../../docs/why.md");
    let missing: Vec<_> =
        causes().into_iter().filter(|cause| !documents.contains(&format!("| `{cause}` |"))).collect();
    assert_eq!(missing, [] as [String; 0]);
}

#[test]
fn every_fix_is_a_command_that_exists() {
    for identity in [Some("d1"), Some("it's/a module"), Some("-d"), Some(""), None] {
        for refusal in one_of_each() {
            let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
            decision.identity = identity.map(str::to_owned);
            let leaf =
                serde_json::json!({ "subject": "CN=d1", "issuer": "CN=d1", "thumbprint": "AB".repeat(32) });
            decision.facts.chain = vec![serde_json::from_value(leaf).expect("old records are read")];
            decision.refusal = Some(refusal);
            let explained = explain(&decision).expect("a refusal is explained");
            let words = words_of(&explained.fix);
            if let Err(error) = Args::try_parse_from(&words) {
                panic!("{} for {identity:?}: `{}`: {error}", explained.cause, explained.fix);
            }
            for text in [&explained.explanation, &explained.presented, &explained.expected, &explained.change]
            {
                assert!(!text.is_empty(), "{explained:?}");
            }
        }
    }
}
