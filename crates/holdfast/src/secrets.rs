//! Keys sealed at rest: a master key wraps a data key and a fingerprint key, so that rotating it rewraps two keys.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub::ports::clock::Random;
use hub::ports::secrets::{Fingerprint, SecretError, Secrets};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::files::create_private;
use crate::master_key::{GivenKey, master_key};

const KEY_BYTES: usize = 32;

/// Randomness of the operating system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn fill(&self, bytes: &mut [u8]) {
        rand::fill(bytes).expect("the operating system gives randomness");
    }
}

/// The keys that seal and fingerprint the hub's secrets.
pub(crate) struct KeyRing {
    data: RandomizedNonceKey,
    fingerprint: hmac::Key,
    /// What the keys of codes are made from, one for each purpose.
    codes: hmac::Key,
}

/// The two keys as they rest in `keys.json`, sealed under the master key.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wrapped {
    data_key: String,
    fingerprint_key: String,
}

impl KeyRing {
    /// Opens the key ring of a data directory, or makes it on first start.
    pub(crate) fn open(directory: &Path, given: Option<&GivenKey>) -> anyhow::Result<Self> {
        let master = master_key(directory, given)?;
        let master = RandomizedNonceKey::new(&AES_256_GCM, &master).context("the master key has 32 bytes")?;
        let path = directory.join("keys.json");
        let (data, fingerprint) = match path.exists() {
            true => unwrap_keys(&master, &path)?,
            false => make_keys(&master, &path)?,
        };
        Ok(Self {
            data: RandomizedNonceKey::new(&AES_256_GCM, &data).context("the data key has 32 bytes")?,
            fingerprint: hmac::Key::new(hmac::HMAC_SHA256, &fingerprint),
            codes: hmac::Key::new(hmac::HMAC_SHA256, &data),
        })
    }
}

impl Secrets for KeyRing {
    fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, SecretError> {
        seal(&self.data, place, plain).ok_or_else(|| SecretError::NotSealed { place: place.to_owned() })
    }

    fn open(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        open(&self.data, place, sealed).ok_or_else(|| SecretError::DoesNotOpen { place: place.to_owned() })
    }

    fn fingerprint(&self, plain: &[u8]) -> Fingerprint {
        let tag = hmac::sign(&self.fingerprint, plain);
        let mut fingerprint = [0; Fingerprint::BYTES];
        fingerprint.copy_from_slice(&tag.as_ref()[..Fingerprint::BYTES]);
        Fingerprint(fingerprint)
    }

    fn sign(&self, purpose: &str, message: &[u8]) -> [u8; 32] {
        // The data key itself seals and nothing else.
        let key = hmac::sign(&self.codes, purpose.as_bytes());
        let code = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), message);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(code.as_ref());
        bytes
    }
}

fn seal(key: &RandomizedNonceKey, place: &str, plain: &[u8]) -> Option<Vec<u8>> {
    let mut buffer = plain.to_vec();
    let nonce = key.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut buffer).ok()?;
    Some([&nonce.as_ref()[..], &buffer].concat())
}

fn open(key: &RandomizedNonceKey, place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = key.open_in_place(nonce, Aad::from(place.as_bytes()), &mut buffer).ok()?.len();
    buffer.truncate(length);
    Some(buffer)
}

type KeyPair = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

fn make_keys(master: &RandomizedNonceKey, path: &Path) -> anyhow::Result<KeyPair> {
    let random = || {
        let mut key = Zeroizing::new(vec![0_u8; KEY_BYTES]);
        SystemRandom.fill(&mut key);
        key
    };
    let (data, fingerprint) = (random(), random());
    let wrap = |place, key: &[u8]| {
        seal(master, place, key).map(|b| STANDARD.encode(b)).context("keys can be sealed")
    };
    let wrapped = Wrapped {
        data_key: wrap("data key", &data)?,
        fingerprint_key: wrap("fingerprint key", &fingerprint)?,
    };
    create_private(path, serde_json::to_string_pretty(&wrapped)?.as_bytes())?;
    Ok((data, fingerprint))
}

fn unwrap_keys(master: &RandomizedNonceKey, path: &Path) -> anyhow::Result<KeyPair> {
    let text = fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    let wrapped: Wrapped =
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))?;
    let unwrap = |place: &str, text: &str| {
        let sealed = STANDARD.decode(text).unwrap_or_default();
        open(master, place, &sealed).with_context(|| {
            format!(
                "the {place} in {} does not open: the master key is another one than it was sealed with",
                path.display()
            )
        })
    };
    Ok((unwrap("data key", &wrapped.data_key)?, unwrap("fingerprint key", &wrapped.fingerprint_key)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_only_in_its_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(directory.path(), None).expect("opens");
        let sealed = ring.seal("devices/d1/primary", b"key").expect("seals");
        assert_eq!(ring.open("devices/d1/primary", &sealed).expect("opens").as_slice(), b"key");
        assert!(ring.open("devices/d2/primary", &sealed).is_err());
        assert!(!sealed.windows(3).any(|window| window == b"key"));
    }

    #[test]
    fn a_key_ring_opens_again_and_not_under_another_master_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = KeyRing::open(directory.path(), None).expect("opens");
        let (sealed, print) = (ring.seal("p", b"key").expect("seals"), ring.fingerprint(b"key"));
        let again = KeyRing::open(directory.path(), None).expect("opens again");
        assert_eq!(again.open("p", &sealed).expect("opens").as_slice(), b"key");
        assert_eq!(again.fingerprint(b"key"), print);
        fs::write(directory.path().join("master.key"), crate::master_key::new_key().as_bytes())
            .expect("writes");
        let error = KeyRing::open(directory.path(), None).err().expect("another master key does not open it");
        assert!(error.to_string().contains("another one"), "{error}");
    }
}
