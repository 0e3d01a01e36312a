//! What is wrong with a certificate whose issuer is there: not who issued it, but how it was made.

use serde::{Deserialize, Serialize};

/// A fault of a certificate that only whoever issues it can put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum CertificateFault {
    /// It has a critical extension that the hub does not know.
    CriticalExtension {
        /// The extension.
        oid: String,
    },
    /// The client's own certificate is one of an authority.
    IsAuthority,
    /// It stands above another, and is no certificate of an authority.
    IssuerNoAuthority {
        /// Its version; only version 3 can say that it is one.
        version: u32,
    },
    /// It stands above another, and its key usage does not let it sign certificates.
    IssuerMayNotSign,
    /// More intermediates are below it than it allows.
    PathTooLong {
        /// How many it allows.
        longest: u32,
        /// How many there are.
        length: usize,
    },
    /// An authority above it does not allow its names, or they cannot be compared.
    NameConstraint,
    /// It has several common names that differ.
    SeveralNames {
        /// The names.
        names: Vec<String>,
    },
    /// It is not as RFC 5280 wants it.
    Malformed {
        /// What the reader of certificates said.
        problem: String,
    },
}

impl CertificateFault {
    /// The stable id of the cause.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::CriticalExtension { .. } => "certificate-critical-extension",
            Self::IsAuthority => "certificate-is-authority",
            Self::IssuerNoAuthority { .. } => "issuer-no-authority",
            Self::IssuerMayNotSign => "issuer-may-not-sign",
            Self::PathTooLong { .. } => "path-too-long",
            Self::NameConstraint => "name-constraint",
            Self::SeveralNames { .. } => "certificate-several-names",
            Self::Malformed { .. } => "certificate-malformed",
        }
    }
}
