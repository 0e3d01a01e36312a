//! When a certificate of a file is valid.

use std::fmt;
use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pem;

/// The time in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    /// Its beginning.
    pub(super) begins: Timestamp,
    /// Its end.
    pub(super) ends: Timestamp,
}

impl Validity {
    /// That of the first certificate of a PEM file.
    pub(super) fn of_first(path: &Path) -> anyhow::Result<Self> {
        let certificates = pem::certificates(path)?;
        let first = certificates.first().map_or(&[][..], |first| first);
        let (_, certificate) =
            X509Certificate::from_der(first).with_context(|| format!("{} is damaged", path.display()))?;
        let validity = certificate.validity();
        let time = |seconds: i64| Timestamp::from_second(seconds);
        Ok(Self {
            begins: time(validity.not_before.timestamp())?,
            ends: time(validity.not_after.timestamp())?,
        })
    }

    /// Whether it is valid at this time.
    pub(super) fn holds(&self, now: Timestamp) -> bool {
        self.begins <= now && now <= self.ends
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "from {} to {}", self.begins, self.ends)
    }
}
