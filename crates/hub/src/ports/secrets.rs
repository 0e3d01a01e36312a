//! The port that keeps keys sealed at rest.

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

/// A keyed fingerprint in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

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
