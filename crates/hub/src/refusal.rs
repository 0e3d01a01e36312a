//! Why somebody was refused, with the facts. A device never sees any of this: fronts answer with the code alone, and
//! [`crate::explain`] tells the operator.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{Operation, Right, Rights};
pub use crate::certificate_fault::CertificateFault;
use crate::deed::ChangeKind;
use crate::error::HubErrorCode;
use crate::record::Slot;

/// What connections that are not admitted may take (`docs/limits.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum AdmissionBound {
    /// The time from the first packet of TCP to a good credential.
    Time {
        /// How long, in seconds.
        seconds: u64,
    },
    /// What one connection sends.
    Bytes {
        /// How many bytes.
        bytes: usize,
    },
    /// What all connections of one network make the hub hold; the oldest goes.
    MemoryOfNetwork {
        /// How many bytes.
        bytes: usize,
    },
    /// What all connections make the hub hold; the oldest goes.
    MemoryOfAll {
        /// How many bytes.
        bytes: usize,
    },
    /// The file descriptors of the hub; the oldest goes.
    Descriptors,
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// The signature verifies under neither key of the device, module or policy.
    WrongKey {
        /// Whose keys were tried: `device d1` or `policy service`.
        holder: String,
        /// The last change that may have replaced the keys; filled in when the refusal is explained.
        #[serde(default)]
        change: Option<Box<ChangeFacts>>,
        /// Nobody looked for the key that did sign: too many wrong signatures came, or the registry could not be read.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unsearched: bool,
    },
    /// The token ended before now, skew included.
    TokenExpired {
        /// When it ended.
        ended: Timestamp,
    },
    /// The text is no SAS token.
    TokenMalformed {
        /// What is wrong with it.
        problem: String,
    },
    /// The token's resource does not cover what was asked for.
    TokenScope {
        /// Its resource.
        presented: String,
        /// The resource that it had to cover.
        needed: String,
    },
    /// The host named is not a name of this hub.
    UnknownHost {
        /// The host.
        presented: String,
        /// The names of this hub.
        names: Vec<String>,
    },
    /// There is no such device.
    UnknownDevice {
        /// Registered ids that look like it; filled in when the refusal is explained.
        #[serde(default)]
        near: Vec<String>,
    },
    /// There is no such module.
    UnknownModule {
        /// Registered ids that look like it; filled in when the refusal is explained.
        #[serde(default)]
        near: Vec<String>,
    },
    /// There is no such policy.
    UnknownPolicy {
        /// The name in the token.
        policy: String,
        /// Names that look like it; filled in when the refusal is explained.
        #[serde(default)]
        near: Vec<String>,
    },
    /// The id is no legal id.
    IllegalId {
        /// What is wrong with it.
        problem: String,
    },
    /// The device is disabled.
    Disabled {
        /// The reason that its owner wrote.
        reason: Option<String>,
    },
    /// A gateway came for a device, and is no registered edge device.
    UnknownGateway {
        /// The gateway.
        gateway: String,
    },
    /// A gateway came for a device, and it or one between it and the device is disabled.
    GatewayDisabled {
        /// The one that is disabled.
        gateway: String,
        /// The reason that its owner wrote.
        #[serde(default)]
        reason: Option<String>,
    },
    /// A gateway came for a device that is not below it.
    NotItsGateway {
        /// The gateway.
        gateway: String,
        /// The parent that the device has, if it has one that exists.
        #[serde(default)]
        parent: Option<String>,
    },
    /// The way to its gateway that a client names is not the one that is registered.
    AuthChain {
        /// What came; `None` for no chain.
        #[serde(default)]
        presented: Option<String>,
        /// The way as it is registered.
        registered: String,
    },
    /// The policy, or the device's own key, does not have the right.
    MissingRight {
        /// Who asked: a policy, or a device.
        holder: String,
        /// What it may.
        has: Rights,
        /// What it had to have.
        needs: Rights,
        /// For what.
        operation: String,
    },
    /// The token is good, but signed with the key of a policy, which the settings refuse to devices.
    HubKeyNotAllowed {
        /// The policy.
        policy: String,
    },
    /// The token is good, but lives longer than the settings allow.
    TokenTooLong {
        /// When it ends.
        ends: Timestamp,
        /// The longest life allowed, in seconds.
        longest: u64,
    },
    /// The token lives longer than the settings allow, for its end is in milliseconds.
    TokenInMilliseconds {
        /// The end as it stands in the token.
        end: i64,
    },
    /// Neither a token nor a certificate came.
    NoCredential,
    /// The identity is registered for another kind of credential.
    CredentialKind {
        /// What came.
        presented: String,
        /// What it is registered for.
        registered: String,
    },
    /// The certificate is not a registered one.
    ThumbprintMismatch {
        /// SHA-256 of the certificate that came.
        presented: String,
        /// The registered thumbprints.
        registered: Vec<String>,
    },
    /// The chain leads to no verified certificate authority.
    UntrustedChain {
        /// The issuer that the leaf, or the last certificate of the chain, names.
        issuer: String,
        /// The verified authorities.
        authorities: Vec<String>,
        /// An authority of that name which is registered but not verified.
        unverified: Option<String>,
        /// What the path builder said.
        problem: String,
    },
    /// A certificate of the chain is outside its validity.
    CertificateExpired {
        /// Its subject.
        subject: String,
        /// When it began.
        not_before: Timestamp,
        /// When it ended.
        not_after: Timestamp,
    },
    /// The certificate's key or signature is too weak.
    CertificateWeak {
        /// What is weak.
        problem: String,
    },
    /// The certificate is on its issuer's revocation list.
    CertificateRevoked {
        /// Its serial number, hexadecimal.
        serial: String,
    },
    /// The common name is not the device's id.
    CertificateName {
        /// The common name.
        presented: String,
    },
    /// The client id is not the identity that the user name names.
    ClientId {
        /// The client id.
        client_id: String,
        /// The identity in the user name.
        user_name: String,
    },
    /// The user name is not of the form that a hub expects.
    UserName {
        /// What is wrong with it.
        problem: String,
    },
    /// A topic that is none of the device's own.
    Topic {
        /// The topic or filter.
        topic: String,
    },
    /// A message over the limit.
    MessageTooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The peer broke the protocol.
    Protocol {
        /// How.
        problem: String,
    },
    /// What came to a TLS port is no TLS.
    PlainText {
        /// What it looks like.
        protocol: String,
    },
    /// The client offers no TLS version of 1.2 or later.
    TlsVersion {
        /// The newest version it offers.
        offered: String,
    },
    /// Client and hub share no cipher suite, or another TLS parameter.
    TlsParameters {
        /// What failed.
        problem: String,
    },
    /// The client does not trust the hub's certificate.
    TlsServerNotTrusted {
        /// The alert that the client sent.
        alert: String,
    },
    /// The handshake failed in another way.
    TlsFailed {
        /// How.
        problem: String,
    },
    /// The built-in endpoint was asked for something it does not have.
    LinkAddress {
        /// The address.
        address: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The token was signed with a key, but with that of somebody else.
    KeyOfAnother {
        /// Whose key it had to be: `device d1`, `module d1/m1` or `policy service`.
        holder: String,
        /// Whose key it is.
        owner: String,
    },
    /// The token was signed with the text of the right key, not with the bytes that the text encodes.
    KeyNotDecoded {
        /// Whose key it is.
        holder: String,
    },
    /// The token was signed with the key of a shared access policy, but does not name the policy (`skn`).
    HubKeyWithoutSkn {
        /// The policy.
        policy: String,
        /// Which of its keys.
        slot: Slot,
    },
    /// The signature is that of another spelling of the resource than the one that stands in the token.
    TokenSignedOtherSr {
        /// The spelling in the token.
        presented: String,
        /// The spelling that was signed.
        signed: String,
    },
    /// The right key signed something else than the resource, a line feed and the end.
    TokenSignedOtherText {
        /// What was signed, or how the signature is written.
        problem: String,
    },
    /// The token is for another host.
    TokenHost {
        /// The host in its resource.
        presented: String,
        /// The names of this hub.
        names: Vec<String>,
    },
    /// The end of the token is a length of time, not a time.
    TokenLifetimeAsEnd {
        /// The end as it stands in the token, in seconds.
        seconds: i64,
    },
    /// The key itself was sent in place of a token.
    KeyAsPassword,
    /// A connection string was sent in place of a token.
    ConnectionStringAsPassword,
    /// A token of Microsoft Entra ID (a JWT) was sent.
    EntraToken,
    /// The token stands in the query, where nobody looks for it.
    TokenInQuery,
    /// There was such a device, and it was deleted; found when the refusal is explained.
    DeletedDevice {
        /// The deletion.
        change: Box<ChangeFacts>,
    },
    /// The chain leads to an authority of this hub that is not verified.
    AuthorityNotVerified {
        /// The authority.
        authority: String,
    },
    /// The client sent its own certificate alone, and its issuer is no authority of this hub.
    IntermediateMissing {
        /// The issuer that the certificate names.
        issuer: String,
        /// The verified authorities.
        authorities: Vec<String>,
    },
    /// A certificate that signs itself came for a device that needs one of an authority.
    SelfSigned {
        /// Its subject.
        subject: String,
        /// The verified authorities.
        authorities: Vec<String>,
    },
    /// A certificate of the chain is not valid yet.
    CertificateNotYetValid {
        /// Its subject.
        subject: String,
        /// When it begins.
        not_before: Timestamp,
    },
    /// The certificate may not be used by a client.
    CertificatePurpose {
        /// Its subject.
        subject: String,
    },
    /// A certificate of the chain was made wrong.
    CertificateFault {
        /// Its subject.
        subject: String,
        /// What is wrong with it.
        fault: CertificateFault,
    },
    /// The certificate of the connection, or one above it, ended.
    CertificateEnded {
        /// When it ended.
        ended: Option<Timestamp>,
    },
    /// Client and hub share no cipher suite.
    NoCommonCipher {
        /// The suites that the client offers.
        offered: Vec<String>,
    },
    /// The client dialled a name that is not in the hub's certificate, and did not accept it.
    TlsServerName {
        /// The name that it asked for; `None` when it asked for none.
        presented: Option<String>,
        /// The names of this hub.
        names: Vec<String>,
        /// The alert that it sent.
        alert: String,
    },
    /// Another protocol than that of the port came over TLS.
    WrongPort {
        /// What came.
        spoken: String,
        /// What is spoken there.
        served: String,
    },
    /// The CONNECT is neither of MQTT 3.1.1 nor of MQTT 5.
    MqttVersion,
    /// What a CONNECT or AUTH of MQTT 5 says of its authentication is not what it has to say.
    AuthenticationProperties {
        /// What is wrong with it.
        problem: String,
    },
    /// The right key signed something else than the context of the connection.
    ContextSignedOtherText {
        /// What was signed, or how the signature is written.
        problem: String,
    },
    /// The end of a signed context is in seconds, not in milliseconds.
    TokenInSeconds {
        /// The end as it was written.
        end: i64,
    },
    /// A message of MQTT 5 is not of the form that its operation has.
    MalformedOperation {
        /// What is wrong with it.
        problem: String,
    },
    /// A client of MQTT 5 has as many subscriptions as it may.
    SubscriptionsFull {
        /// How many that is.
        limit: usize,
    },
    /// A packet of QoS 2.
    QosTwo,
    /// No CONNECT came in time.
    ConnectTimeout,
    /// The connection showed no good credential within the bounds of those that are not admitted.
    NotAdmittedWithin {
        /// The bound.
        bound: AdmissionBound,
    },
    /// A subscription to what is none of the device's own.
    TopicFilter {
        /// The filter.
        filter: String,
    },
    /// The client was silent for one and a half times its keep-alive.
    KeepAliveMissed {
        /// The silence, in seconds.
        seconds: u64,
    },
    /// A newer connection of the same identity took its place.
    TakenOver {
        /// The newer connection; filled in when the end is explained.
        #[serde(default)]
        by: Option<Box<Newcomer>>,
    },
    /// It did not read what it asked to be sent.
    NotReading,
    /// What the connection was admitted for ended.
    RightEnded {
        /// The cause for which it would be refused now.
        #[serde(default)]
        because: Option<String>,
        /// The change that ended it; filled in when the end is explained.
        #[serde(default)]
        change: Option<Box<ChangeFacts>>,
    },
    /// The token of the connection ended.
    TokenEnded {
        /// When it ended.
        #[serde(default)]
        ended: Option<Timestamp>,
    },
    /// The type of a token that was put is not served.
    CbsTokenType {
        /// The type.
        presented: String,
    },
    /// A connection has tokens of as many devices and modules as it takes.
    TokensFull {
        /// How many that are.
        limit: usize,
    },
    /// The SASL mechanism is not served.
    SaslMechanism {
        /// The mechanism.
        presented: String,
    },
    /// There is no such consumer group.
    UnknownConsumerGroup {
        /// The group.
        group: String,
        /// Groups that there are; filled in when the refusal is explained.
        #[serde(default)]
        groups: Vec<String>,
    },
    /// There is no such partition.
    UnknownPartition {
        /// The partition.
        partition: String,
        /// How many there are.
        count: u16,
    },
    /// There is no event hub of this name.
    UnknownEventHub {
        /// The name (`EntityPath`).
        presented: String,
        /// The name of the one that there is.
        name: String,
    },
    /// Somebody wanted to send into the event stream.
    SendToEvents {
        /// The address.
        address: String,
    },
    /// A reader with an owner level that outranks this one is there.
    ReaderOutranked {
        /// What the reader was told.
        problem: String,
    },
    /// A reader with an owner level took the place.
    ReaderDisplaced {
        /// What the reader was told.
        problem: String,
    },
    /// The partition has as many readers as it takes.
    ReadersFull {
        /// What the reader was told.
        problem: String,
    },
    /// The api-version is missing or none that is known.
    ApiVersion {
        /// The one that came.
        #[serde(default)]
        presented: Option<String>,
    },
    /// There is nothing at this path, or not with this method.
    UnknownPath {
        /// The method.
        method: String,
        /// The path.
        path: String,
    },
    /// There is no WebSocket at this path.
    WebsocketPath {
        /// The path.
        path: String,
    },
    /// The sub-protocol of the WebSocket is none that is served.
    WebsocketProtocol {
        /// What was offered; empty for none.
        offered: String,
    },
    /// The management credential is missing or wrong.
    ManagementCredential,
    /// The name is none that a file may have.
    UploadName {
        /// What is wrong with it.
        problem: String,
    },
    /// As many uploads of the device are open as may be.
    UploadsFull {
        /// How many that is.
        limit: usize,
    },
    /// The device has no such upload, or it ended before it was done.
    UploadUnknown {
        /// The correlation id that came, for one that there is not.
        #[serde(default)]
        id: Option<String>,
        /// When it ended, for one that there was.
        #[serde(default)]
        ended: Option<Timestamp>,
    },
    /// A file is to be there, or to be made, of which something was not written.
    UploadNotWritten {
        /// What.
        problem: String,
    },
    /// The link is none of the hub's, or not for this file.
    UploadLink {
        /// What is wrong with it.
        problem: String,
    },
    /// The link's time is over, or its upload is done.
    UploadLinkEnded {
        /// When its time ends.
        ended: Timestamp,
    },
    /// Somebody reads with a link, which is for writing alone.
    UploadLinkWritesOnly {
        /// How the request asked for the file.
        method: String,
    },
    /// The file is larger than the settings allow.
    UploadTooLarge {
        /// How many bytes it may have.
        limit: u64,
    },
    /// A message came when the disk had no more room for the event log.
    DiskFull,
}

/// A change that explains a refusal or an end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChangeFacts {
    /// What was done: `delete device`.
    pub what: ChangeKind,
    /// To what.
    pub target: String,
    /// By whom: a policy, or `operator`.
    #[serde(default)]
    pub actor: Option<String>,
    /// From where.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// When.
    pub time: Timestamp,
}

/// The connection that took the place of another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Newcomer {
    /// Where it came from.
    #[serde(default)]
    pub address: Option<IpAddr>,
    /// Its port there, which tells two clients of one machine apart.
    #[serde(default)]
    pub port: Option<u16>,
    /// Its SDK.
    #[serde(default)]
    pub sdk: Option<String>,
    /// When it came.
    pub time: Timestamp,
}

impl Refusal {
    /// The code for the log and for the front to answer with.
    pub fn code(&self) -> HubErrorCode {
        match self {
            Self::UnknownDevice { .. } | Self::DeletedDevice { .. } => HubErrorCode::DeviceNotFound,
            Self::UnknownModule { .. } => HubErrorCode::ModuleNotFound,
            Self::UnknownHost { .. } => HubErrorCode::IotHubNotFound,
            Self::Disabled { .. } => HubErrorCode::DeviceDisabled,
            Self::MissingRight { .. } => HubErrorCode::IotHubUnauthorized,
            Self::MessageTooLarge { .. } | Self::UploadTooLarge { .. } => HubErrorCode::MessageTooLarge,
            Self::AuthenticationProperties { .. } | Self::MalformedOperation { .. } => {
                HubErrorCode::GenericBadRequest
            }
            Self::IllegalId { .. } | Self::UploadName { .. } => HubErrorCode::ArgumentInvalid,
            Self::DiskFull => HubErrorCode::ServiceUnavailable,
            Self::UploadsFull { .. } => HubErrorCode::DeviceMaximumActiveFileUploadLimitExceeded,
            Self::UploadUnknown { ended: None, .. } => HubErrorCode::InvalidFileUploadCorrelationId,
            Self::UploadUnknown { ended: Some(_), .. } => HubErrorCode::ExpiredFileUploadCorrelationId,
            Self::UploadNotWritten { .. } => HubErrorCode::InvalidStorageEndpointOrBlob,
            Self::UploadLink { .. } | Self::UploadLinkEnded { .. } | Self::UploadLinkWritesOnly { .. } => {
                HubErrorCode::IotHubUnauthorizedAccess
            }
            Self::Topic { .. }
            | Self::Protocol { .. }
            | Self::LinkAddress { .. }
            | Self::WrongPort { .. }
            | Self::MqttVersion
            | Self::QosTwo
            | Self::SubscriptionsFull { .. }
            | Self::ConnectTimeout
            | Self::NotAdmittedWithin { .. }
            | Self::TopicFilter { .. }
            | Self::KeepAliveMissed { .. }
            | Self::NotReading
            | Self::CbsTokenType { .. }
            | Self::SaslMechanism { .. }
            | Self::UnknownConsumerGroup { .. }
            | Self::UnknownPartition { .. }
            | Self::UnknownEventHub { .. }
            | Self::ReaderOutranked { .. }
            | Self::ReaderDisplaced { .. }
            | Self::ReadersFull { .. }
            | Self::TokensFull { .. }
            | Self::WebsocketProtocol { .. } => HubErrorCode::InvalidOperation,
            Self::ApiVersion { .. } => HubErrorCode::InvalidProtocolVersion,
            Self::UnknownPath { .. } | Self::WebsocketPath { .. } => HubErrorCode::GenericNotFound,
            Self::SendToEvents { .. } => HubErrorCode::IotHubUnauthorized,
            Self::TakenOver { .. } => HubErrorCode::ConnectionForcefullyClosedOnNewConnection,
            Self::WrongKey { .. }
            | Self::TokenHost { .. }
            | Self::TokenExpired { .. }
            | Self::TokenMalformed { .. }
            | Self::TokenScope { .. }
            | Self::UnknownPolicy { .. }
            | Self::HubKeyNotAllowed { .. }
            | Self::TokenTooLong { .. }
            | Self::TokenInMilliseconds { .. }
            | Self::NoCredential
            | Self::UnknownGateway { .. }
            | Self::GatewayDisabled { .. }
            | Self::NotItsGateway { .. }
            | Self::AuthChain { .. }
            | Self::CredentialKind { .. }
            | Self::ThumbprintMismatch { .. }
            | Self::UntrustedChain { .. }
            | Self::CertificateExpired { .. }
            | Self::CertificateWeak { .. }
            | Self::CertificateRevoked { .. }
            | Self::CertificateName { .. }
            | Self::ClientId { .. }
            | Self::UserName { .. }
            | Self::PlainText { .. }
            | Self::TlsVersion { .. }
            | Self::TlsParameters { .. }
            | Self::TlsServerNotTrusted { .. }
            | Self::TlsFailed { .. }
            | Self::KeyOfAnother { .. }
            | Self::KeyNotDecoded { .. }
            | Self::HubKeyWithoutSkn { .. }
            | Self::TokenSignedOtherSr { .. }
            | Self::TokenSignedOtherText { .. }
            | Self::ContextSignedOtherText { .. }
            | Self::TokenInSeconds { .. }
            | Self::TokenLifetimeAsEnd { .. }
            | Self::KeyAsPassword
            | Self::ConnectionStringAsPassword
            | Self::EntraToken
            | Self::TokenInQuery
            | Self::AuthorityNotVerified { .. }
            | Self::IntermediateMissing { .. }
            | Self::SelfSigned { .. }
            | Self::CertificateNotYetValid { .. }
            | Self::CertificatePurpose { .. }
            | Self::CertificateFault { .. }
            | Self::CertificateEnded { .. }
            | Self::NoCommonCipher { .. }
            | Self::TlsServerName { .. }
            | Self::RightEnded { .. }
            | Self::TokenEnded { .. }
            | Self::ManagementCredential => HubErrorCode::IotHubUnauthorizedAccess,
        }
    }

    /// The stable id of the cause.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::WrongKey { .. } => "wrong-key",
            Self::TokenExpired { .. } => "token-expired",
            Self::TokenMalformed { .. } => "token-malformed",
            Self::TokenScope { .. } => "token-scope",
            Self::UnknownHost { .. } => "unknown-host",
            Self::UnknownDevice { .. } => "unknown-device",
            Self::UnknownModule { .. } => "unknown-module",
            Self::UnknownPolicy { .. } => "unknown-policy",
            Self::IllegalId { .. } => "illegal-id",
            Self::Disabled { .. } => "disabled",
            Self::UnknownGateway { .. } => "unknown-gateway",
            Self::GatewayDisabled { .. } => "gateway-disabled",
            Self::NotItsGateway { .. } => "not-its-gateway",
            Self::AuthChain { .. } => "auth-chain",
            Self::MissingRight { .. } => "missing-right",
            Self::HubKeyNotAllowed { .. } => "hub-key-not-allowed",
            Self::TokenTooLong { .. } => "token-too-long",
            Self::TokenInMilliseconds { .. } => "token-in-milliseconds",
            Self::NoCredential => "no-credential",
            Self::CredentialKind { .. } => "credential-kind",
            Self::ThumbprintMismatch { .. } => "thumbprint-mismatch",
            Self::UntrustedChain { .. } => "untrusted-chain",
            Self::CertificateExpired { .. } => "certificate-expired",
            Self::CertificateWeak { .. } => "certificate-weak",
            Self::CertificateRevoked { .. } => "certificate-revoked",
            Self::CertificateName { .. } => "certificate-name",
            Self::ClientId { .. } => "client-id",
            Self::UserName { .. } => "user-name",
            Self::Topic { .. } => "topic",
            Self::MessageTooLarge { .. } => "message-too-large",
            Self::Protocol { .. } => "protocol",
            Self::PlainText { .. } => "plain-text",
            Self::TlsVersion { .. } => "tls-version",
            Self::TlsParameters { .. } => "tls-parameters",
            Self::TlsServerNotTrusted { .. } => "tls-server-not-trusted",
            Self::TlsFailed { .. } => "tls-failed",
            Self::LinkAddress { .. } => "link-address",
            Self::KeyOfAnother { .. } => "key-of-another",
            Self::KeyNotDecoded { .. } => "key-not-decoded",
            Self::HubKeyWithoutSkn { .. } => "hub-key-without-skn",
            Self::TokenSignedOtherSr { .. } => "token-signed-other-sr",
            Self::TokenSignedOtherText { .. } => "token-signed-other-text",
            Self::TokenHost { .. } => "token-host",
            Self::TokenLifetimeAsEnd { .. } => "token-lifetime-as-end",
            Self::KeyAsPassword => "key-as-password",
            Self::ConnectionStringAsPassword => "connection-string-as-password",
            Self::EntraToken => "entra-token",
            Self::TokenInQuery => "token-in-query",
            Self::DeletedDevice { .. } => "deleted-device",
            Self::AuthorityNotVerified { .. } => "authority-not-verified",
            Self::IntermediateMissing { .. } => "intermediate-missing",
            Self::SelfSigned { .. } => "self-signed",
            Self::CertificateNotYetValid { .. } => "certificate-not-yet-valid",
            Self::CertificatePurpose { .. } => "certificate-purpose",
            Self::CertificateFault { fault, .. } => fault.cause(),
            Self::CertificateEnded { .. } => "certificate-ended",
            Self::NoCommonCipher { .. } => "no-common-cipher",
            Self::TlsServerName { .. } => "tls-server-name",
            Self::WrongPort { .. } => "wrong-port",
            Self::MqttVersion => "mqtt-version",
            Self::AuthenticationProperties { .. } => "authentication-properties",
            Self::ContextSignedOtherText { .. } => "context-signed-other-text",
            Self::TokenInSeconds { .. } => "token-in-seconds",
            Self::MalformedOperation { .. } => "malformed-operation",
            Self::SubscriptionsFull { .. } => "subscriptions-full",
            Self::QosTwo => "qos-two",
            Self::ConnectTimeout => "connect-timeout",
            Self::NotAdmittedWithin { .. } => "not-admitted-within",
            Self::TopicFilter { .. } => "topic-filter",
            Self::KeepAliveMissed { .. } => "keep-alive-missed",
            Self::TakenOver { .. } => "taken-over",
            Self::NotReading => "not-reading",
            Self::RightEnded { .. } => "right-ended",
            Self::TokenEnded { .. } => "token-ended",
            Self::CbsTokenType { .. } => "cbs-token-type",
            Self::TokensFull { .. } => "tokens-full",
            Self::SaslMechanism { .. } => "sasl-mechanism",
            Self::UnknownConsumerGroup { .. } => "unknown-consumer-group",
            Self::UnknownPartition { .. } => "unknown-partition",
            Self::UnknownEventHub { .. } => "unknown-event-hub",
            Self::SendToEvents { .. } => "send-to-events",
            Self::ReaderOutranked { .. } => "reader-outranked",
            Self::ReaderDisplaced { .. } => "reader-displaced",
            Self::ReadersFull { .. } => "readers-full",
            Self::ApiVersion { .. } => "api-version",
            Self::UnknownPath { .. } => "unknown-path",
            Self::WebsocketPath { .. } => "websocket-path",
            Self::WebsocketProtocol { .. } => "websocket-protocol",
            Self::ManagementCredential => "management-credential",
            Self::UploadName { .. } => "upload-name",
            Self::UploadsFull { .. } => "uploads-full",
            Self::UploadUnknown { .. } => "upload-unknown",
            Self::UploadNotWritten { .. } => "upload-not-written",
            Self::UploadLink { .. } => "upload-link",
            Self::UploadLinkEnded { .. } => "upload-link-ended",
            Self::UploadLinkWritesOnly { .. } => "upload-link-read",
            Self::UploadTooLarge { .. } => "upload-too-large",
            Self::DiskFull => "disk-full",
        }
    }
}

/// The signature verifies under none of these keys.
pub fn wrong_key(holder: impl Into<String>) -> Refusal {
    Refusal::WrongKey { holder: holder.into(), change: None, unsearched: false }
}

/// There is no such policy.
pub fn unknown_policy(policy: impl Into<String>) -> Refusal {
    Refusal::UnknownPolicy { policy: policy.into(), near: Vec::new() }
}

/// A right that is missing for an operation of a service.
pub fn missing_right(holder: impl Into<String>, has: Rights, operation: Operation) -> Refusal {
    Refusal::MissingRight {
        holder: holder.into(),
        has,
        needs: operation.needs(),
        operation: operation.as_str().to_owned(),
    }
}

/// A policy without DeviceConnect came for a device.
pub fn missing_device_right(holder: impl Into<String>, has: Rights) -> Refusal {
    let (needs, operation) = (Rights::of(&[Right::DeviceConnect]), "connect as a device".to_owned());
    Refusal::MissingRight { holder: holder.into(), has, needs, operation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_in_json_is_the_stable_id() {
        let refusal = Refusal::ThumbprintMismatch { presented: "AB".into(), registered: vec![] };
        let json = serde_json::to_value(&refusal).expect("serialises");
        assert_eq!(json["cause"], refusal.cause());
    }
}
