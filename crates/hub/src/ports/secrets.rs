//! The port that keeps keys sealed at rest.

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use zeroize::Zeroizing;

/// Seals, opens and fingerprints keys. Plain keys exist only while they are used.
pub trait Secrets: Send + Sync {
    /// Seals a secret for one place. The place (identity and slot) is bound to the ciphertext: sealed bytes
    /// moved to another place do not open there.
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError>;

    /// Opens what was sealed for this place.
    fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError>;

    /// A keyed fingerprint, by which secrets are compared and named in records. It tells nothing to those who do
    /// not hold the fingerprint key.
    fn fingerprint(&self, plain: &[u8]) -> Fingerprint;

    /// A code by which the hub knows what it wrote itself: HMAC-SHA256 under a key that serves this purpose alone.
    fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32];
}

/// A keyed fingerprint: 16 bytes, which people and records see as 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; Self::BYTES]);

impl Fingerprint {
    /// Its length in bytes.
    pub const BYTES: usize = 16;

    /// The first eight digits, by which people tell keys apart.
    pub fn short(&self) -> String {
        format!("{:08x}", u128::from_be_bytes(self.0) >> 96)
    }

    fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 2 * Self::BYTES {
            return None;
        }
        let mut bytes = [0; Self::BYTES];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = digit(digits[0])? << 4 | digit(digits[1])?;
        }
        Some(Self(bytes))
    }
}

fn digit(text: u8) -> Option<u8> {
    match text {
        b'0'..=b'9' => Some(text - b'0'),
        b'a'..=b'f' => Some(text - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl serde::Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(FingerprintVisitor)
    }
}

struct FingerprintVisitor;

impl Visitor<'_> for FingerprintVisitor {
    type Value = Fingerprint;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a fingerprint, 32 lower-case hexadecimal digits")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Fingerprint, E> {
        Fingerprint::from_hex(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

/// Why a secret could not be sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// The ciphertext is damaged, belongs to another place, or was sealed under another key.
    #[error("the secret of `{place}` does not open: it is damaged, moved, or sealed under another data key")]
    DoesNotOpen {
        /// Where the secret rests.
        place: String,
    },
    /// The sealing itself failed.
    #[error("the secret of `{place}` could not be sealed")]
    NotSealed {
        /// Where the secret was meant to rest.
        place: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_written() {
        let fingerprint = Fingerprint(std::array::from_fn(|at| at as u8 * 17));
        let text = serde_json::to_string(&fingerprint).expect("text");
        assert_eq!(text, r#""00112233445566778899aabbccddeeff""#);
        assert_eq!(serde_json::from_str::<Fingerprint>(&text).expect("a fingerprint"), fingerprint);
        assert_eq!(fingerprint.short(), "00112233");
    }

    #[test]
    fn what_is_no_fingerprint_is_named() {
        for text in ["", "00ff", "+0112233445566778899aabbccddeeff", "00112233445566778899AABBCCDDEEFF"] {
            let error = serde_json::from_value::<Fingerprint>(text.into()).expect_err(text).to_string();
            assert!(error.contains("32 lower-case hexadecimal digits"), "{error}");
        }
    }
}
