//! Signed notes (C2SP `signed-note`) with Ed25519: a text, an empty line, and a line for each signature.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The longest note that is read, in bytes.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;

/// The algorithm's number in key ids and verifier keys.
const ED25519_TYPE: u8 = 1;

/// Why a note or a key is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The text is no note.
    #[error("it is no signed note: {0}")]
    Form(&'static str),
    /// None of its signatures names the key.
    #[error("it is not signed by the key `{0}`")]
    OtherSigner(String),
    /// The signature is not the key's.
    #[error("its signature is not that of the key `{0}`: the text was changed, or the key is another one")]
    Signature(String),
    /// The text is no verifier key.
    #[error("it is no verifier key: `<name>+<8 hexadecimal digits>+<base64>` with an Ed25519 key is one")]
    VerifierKey,
    /// The name cannot be that of a key.
    #[error("`{0}` cannot name a key: a name is not empty and has no blank and no `+`")]
    Name(String),
    /// The bytes are no private key.
    #[error("the private key is damaged")]
    PrivateKey,
}

/// The public half of a key, as those have it who check notes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    public: [u8; 32],
}

impl VerifierKey {
    /// The name of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The first four bytes of a digest of name and key, by which a signature names its key.
    fn id(&self) -> [u8; 4] {
        let text = [self.name.as_bytes(), &[b'\n', ED25519_TYPE], &self.public].concat();
        let digest = digest(&SHA256, &text);
        let mut id = [0; 4];
        id.copy_from_slice(&digest.as_ref()[..4]);
        id
    }

    /// The text of a note that this key signed. Signatures of other keys are passed over.
    pub fn open<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let (text, signatures) = parts(note)?;
        let mut found = false;
        for line in signatures.lines() {
            let (name, signature) = line
                .strip_prefix("— ")
                .and_then(|line| line.split_once(' '))
                .ok_or(NoteError::Form("a line of a signature is `— <name> <base64>`"))?;
            let signature =
                STANDARD.decode(signature).map_err(|_| NoteError::Form("a signature is base64"))?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else {
                return Err(NoteError::Form("a signature begins with the id of its key"));
            };
            if name != self.name || *id != self.id() {
                continue;
            }
            if UnparsedPublicKey::new(&ED25519, self.public).verify(text.as_bytes(), signature).is_err() {
                return Err(NoteError::Signature(self.name.clone()));
            }
            found = true;
        }
        if found { Ok(text) } else { Err(NoteError::OtherSigner(self.name.clone())) }
    }
}

/// The text of a note with its last line end, and the lines of its signatures.
pub(super) fn parts(note: &str) -> Result<(&str, &str), NoteError> {
    if note.len() > NOTE_BYTES_MAX {
        return Err(NoteError::Form("it is longer than a note can be"));
    }
    if note.bytes().any(|byte| byte < 0x20 && byte != b'\n') {
        return Err(NoteError::Form("it has control characters"));
    }
    let end = note.rfind("\n\n").ok_or(NoteError::Form("an empty line stands before the signatures"))?;
    let signatures = &note[end + 2..];
    if signatures.is_empty() || !signatures.ends_with('\n') {
        return Err(NoteError::Form("it ends with a line for each signature"));
    }
    Ok((&note[..=end], signatures))
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = u32::from_be_bytes(self.id());
        let key = STANDARD.encode([&[ED25519_TYPE], &self.public[..]].concat());
        write!(f, "{}+{id:08x}+{key}", self.name)
    }
}

impl FromStr for VerifierKey {
    type Err = NoteError;
    fn from_str(text: &str) -> Result<Self, NoteError> {
        let mut parts = text.trim().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::VerifierKey);
        };
        let key = STANDARD.decode(key).map_err(|_| NoteError::VerifierKey)?;
        let Some((&[ED25519_TYPE], public)) = key.split_first_chunk::<1>() else {
            return Err(NoteError::VerifierKey);
        };
        let public = public.try_into().map_err(|_| NoteError::VerifierKey)?;
        let key = Self { name: named(name)?, public };
        let as_written = format!("{:08x}", u32::from_be_bytes(key.id()));
        if as_written == id { Ok(key) } else { Err(NoteError::VerifierKey) }
    }
}

fn named(name: &str) -> Result<String, NoteError> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+') {
        return Err(NoteError::Name(name.to_owned()));
    }
    Ok(name.to_owned())
}

/// The private half of a key.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    verifier: VerifierKey,
}

impl SigningKey {
    /// The key of a seed, 32 bytes that must be random and stay secret.
    pub fn from_seed(name: &str, seed: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::PrivateKey)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| NoteError::PrivateKey)?;
        Ok(Self { pair, verifier: VerifierKey { name: named(name)?, public } })
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// The note of a text, which must end with a line end. Ed25519 is deterministic: the same text gives the same note.
    pub fn sign(&self, text: &str) -> String {
        let signature = self.pair.sign(text.as_bytes());
        let signature = STANDARD.encode([&self.verifier.id(), signature.as_ref()].concat());
        format!("{text}\n— {} {signature}\n", self.verifier.name)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    // The example of Go's golang.org/x/mod/sumdb/note, which C2SP's format is that of.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\
        \n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n\
        — EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

    #[test]
    fn a_note_of_another_implementation_opens_with_each_of_its_keys() {
        for key in [PETER, ENOCH] {
            let key: VerifierKey = key.parse().unwrap();
            assert!(key.open(NOTE).unwrap().ends_with("what your problem is.\n"));
        }
        let key: VerifierKey = PETER.parse().unwrap();
        assert_eq!(key.to_string(), PETER);
        let changed = NOTE.replace("your problem", "my problem");
        assert_eq!(key.open(&changed), Err(NoteError::Signature("PeterNeumann".into())));
    }

    #[test]
    fn a_note_opens_with_the_key_that_signed_it_and_with_no_other() {
        let key = SigningKey::from_seed("hub.example/audit", &[7; 32]).unwrap();
        let other = SigningKey::from_seed("hub.example/audit", &[8; 32]).unwrap();
        let note = key.sign("a\nb\n");
        assert_eq!(key.verifier().open(&note), Ok("a\nb\n"));
        assert!(matches!(other.verifier().open(&note), Err(NoteError::OtherSigner(_))));
        let verifier: VerifierKey = key.verifier().to_string().parse().unwrap();
        assert_eq!(verifier.open(&note), Ok("a\nb\n"));
        for text in
            ["", "a\n", "a\n\n", "a\n\nb\n", "a\n\n— n\n", "a\n\n— n AAA=\n", "\u{1}\n\n— n AAAAAAAA\n"]
        {
            assert!(matches!(key.verifier().open(text), Err(NoteError::Form(_))), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_verifier_key_is_not_read_as_one() {
        let other_id = PETER.replace("c74f20a3", "c74f20a4");
        for text in ["", "a+b", "a b+c74f20a3+AR", "PeterNeumann+c74f20a3+AhpC", &other_id] {
            assert!(text.parse::<VerifierKey>().is_err(), "{text}");
        }
        assert!(SigningKey::from_seed("a+b", &[7; 32]).is_err());
        assert!(SigningKey::from_seed("a", &[7; 31]).is_err());
    }
}
