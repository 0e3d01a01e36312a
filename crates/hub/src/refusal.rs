//! Why somebody was refused, with the facts. A device never sees any of this: fronts answer with the code alone, and
//! [`crate::explain`] tells the operator.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::access::{Operation, Rights};
use crate::error::HubErrorCode;

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum Refusal {
    /// The signature verifies under neither key of the device, module or policy.
    WrongKey {
        /// Whose keys were tried: `device d1` or `policy service`.
        holder: String,
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
    /// The management credential is missing or wrong.
    ManagementCredential,
}

impl Refusal {
    /// The code for the log and for the front to answer with.
    pub fn code(&self) -> HubErrorCode {
        match self {
            Self::UnknownDevice { .. } => HubErrorCode::DeviceNotFound,
            Self::UnknownModule { .. } => HubErrorCode::ModuleNotFound,
            Self::UnknownHost { .. } => HubErrorCode::IotHubNotFound,
            Self::Disabled { .. } => HubErrorCode::DeviceDisabled,
            Self::MissingRight { .. } => HubErrorCode::IotHubUnauthorized,
            Self::MessageTooLarge { .. } => HubErrorCode::MessageTooLarge,
            Self::IllegalId { .. } => HubErrorCode::ArgumentInvalid,
            Self::Topic { .. } | Self::Protocol { .. } | Self::LinkAddress { .. } => {
                HubErrorCode::InvalidOperation
            }
            Self::WrongKey { .. }
            | Self::TokenExpired { .. }
            | Self::TokenMalformed { .. }
            | Self::TokenScope { .. }
            | Self::UnknownPolicy { .. }
            | Self::HubKeyNotAllowed { .. }
            | Self::TokenTooLong { .. }
            | Self::NoCredential
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
            Self::MissingRight { .. } => "missing-right",
            Self::HubKeyNotAllowed { .. } => "hub-key-not-allowed",
            Self::TokenTooLong { .. } => "token-too-long",
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
            Self::ManagementCredential => "management-credential",
        }
    }
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
