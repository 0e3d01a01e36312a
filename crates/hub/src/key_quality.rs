//! Whether a symmetric key can be guessed, or was published. It is found out when a key is set, for then its text is at
//! hand: no look at a fleet has to open keys.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// Rises when keys are judged by more than before; a quality of an earlier edition is found out anew.
pub const EDITION: u32 = 1;

/// What was found out of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyQuality {
    /// The [`EDITION`] that it was judged by.
    pub edition: u32,
    /// The decoded length in bytes.
    pub length: usize,
    /// Why it can be guessed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weakness: Option<String>,
    /// Where it was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
}

impl KeyQuality {
    /// Judges the bytes of a key whose owner has this name.
    pub fn of(key: &[u8], owner: &str) -> Self {
        Self {
            edition: EDITION,
            length: key.len(),
            weakness: weakness(key, owner),
            published: published(key).map(ToOwned::to_owned),
        }
    }
}

/// Decoded bytes below which a key is called weak, although Azure accepts 16.
const BYTES_MIN: usize = 32;
/// The least entropy of a key's bytes, in bits per byte. 32 random bytes have 4.9, 16 have 3.9.
const ENTROPY_MIN: f64 = 3.5;

/// Why a key can be guessed by somebody who knows the identity's name; `None` for one that cannot.
fn weakness(key: &[u8], name: &str) -> Option<String> {
    if derived_from(key, name) {
        return Some("it is made from the name of its owner".to_owned());
    }
    let entropy = entropy(key);
    if entropy < ENTROPY_MIN {
        return Some(format!("its bytes have {entropy:.1} bits of entropy each, less than {ENTROPY_MIN}"));
    }
    if key.len() < BYTES_MIN {
        return Some(format!("it has {} bytes, less than {BYTES_MIN}", key.len()));
    }
    None
}

/// Whether a key is a spelling or a plain digest of a name or a part of it.
fn derived_from(key: &[u8], name: &str) -> bool {
    // A device's name is its only part.
    let whole = name.contains('/').then_some(name);
    name.split('/').chain(whole).filter(|part| !part.is_empty()).any(|part| {
        let part = part.as_bytes();
        let repeated = key.iter().enumerate().all(|(at, byte)| *byte == part[at % part.len()]);
        let padded =
            key.starts_with(part) && key[part.len()..].iter().all(|byte| *byte == key[key.len() - 1]);
        repeated || padded || key == digest(&SHA256, part).as_ref()
    })
}

/// Shannon's entropy of the bytes, in bits per byte.
fn entropy(bytes: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    bytes.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = bytes.len().max(1) as f64;
    // Most bytes of a good key occur once, and the logarithm of one is nothing: this is done for each key of a fleet.
    let repeated = bytes.iter().map(|byte| counts[usize::from(*byte)]).filter(|count| *count > 1);
    length.log2() - repeated.map(|count| f64::from(count).log2()).sum::<f64>() / length
}

/// Keys that stand in documentation and tools, by the SHA-256 of their bytes in base64.
const PUBLISHED: &[(&str, &str)] = &[
    (
        "HzvbH+yFo28N/rQlac+nIW1JdFCXg5tCOaPB2drqXRU=",
        "the documentation of Azure's Device Provisioning Service",
    ),
    (
        "G/xjyBiYdns1vdoSk2NjJBRsq9O7hbFscWknsSFQb3w=",
        "the documentation of Azure's Device Provisioning Service",
    ),
    ("y03pf0BafkaGcQ24bzRayVrLJ8MxkugsqvqcGX8gGeU=", "the Azure Storage emulator"),
    ("Sw/5jmbGujvOZ+68FnIZ3CSSq5C3HHg8qMITMDAVVuQ=", "the Azure Cosmos DB emulator"),
];

/// The digests of [`PUBLISHED`] as bytes.
static DIGESTS: LazyLock<Vec<Vec<u8>>> =
    LazyLock::new(|| PUBLISHED.iter().map(|(known, _)| STANDARD.decode(known).unwrap_or_default()).collect());

/// Where a key was published.
fn published(key: &[u8]) -> Option<&'static str> {
    let digest = digest(&SHA256, key);
    let at = DIGESTS.iter().position(|known| known == digest.as_ref())?;
    Some(PUBLISHED[at].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(length: usize) -> Vec<u8> {
        digest(&SHA256, b"a seed").as_ref().iter().copied().cycle().take(length).collect()
    }

    #[test]
    fn keys_that_can_be_guessed_are_told_from_random_ones() {
        assert_eq!(weakness(&random(32), "pump-1"), None);
        assert!(weakness(&random(16), "pump-1").is_some_and(|why| why.contains("16 bytes")));
        assert!(weakness(&[0; 64], "pump-1").is_some_and(|why| why.contains("entropy")));
        for derived in ["pump-1pump-1pump-1pump-1pump-1pu".as_bytes(), digest(&SHA256, b"pump-1").as_ref()] {
            assert!(weakness(derived, "pump-1").is_some_and(|why| why.contains("name")));
            assert!(weakness(derived, "pump-1/camera").is_some_and(|why| why.contains("name")));
            assert!(!weakness(derived, "pump-2").is_some_and(|why| why.contains("name")));
        }
    }

    #[test]
    fn keys_of_the_documentation_are_known() {
        // The enrollment group key and the device key of Microsoft's page on symmetric key attestation.
        for text in [
            "8isrFI1sGsIlvvFSSFRiMfCNzv21fjbE/+ah/lSh3lF8e2YG1Te7w1KpZhJFFXJrqYKi9yegxkqIChbqOS9Egw==",
            "Jsm0lyGpjaVYVP2g3FnmnmG9dI/9qU24wNoykUmermc=",
        ] {
            let key = STANDARD.decode(text).expect("base64");
            assert!(published(&key).is_some_and(|place| place.contains("Device Provisioning Service")));
        }
        assert_eq!(published(&random(32)), None);
    }
}
