//! Checkpoints (C2SP `tlog-checkpoint`): the name of a log, its size and its root, signed as a note.

use super::note::{NoteError, SigningKey, VerifierKey, parts};
use super::tree::Hash;

/// What a log was at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The name of the log.
    pub origin: String,
    /// How many records it had.
    pub size: u64,
    /// The root of the tree of these records.
    pub root: Hash,
}

impl Checkpoint {
    /// The note of this checkpoint, signed.
    pub fn sign(&self, key: &SigningKey) -> String {
        key.sign(&format!("{}\n{}\n{}\n", self.origin, self.size, self.root))
    }

    /// Reads a note that this key signed, for a log that is named as the key is.
    pub fn open(note: &str, key: &VerifierKey) -> Result<Self, NoteError> {
        let checkpoint = Self::from_text(key.open(note)?)?;
        if checkpoint.origin != key.name() {
            return Err(NoteError::OtherSigner(key.name().to_owned()));
        }
        Ok(checkpoint)
    }

    /// Reads a note without asking who signed it.
    pub fn unverified(note: &str) -> Result<Self, NoteError> {
        Self::from_text(parts(note)?.0)
    }

    fn from_text(text: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(NoteError::Form("a checkpoint has a line for origin, size and root each"));
        };
        if origin.is_empty() {
            return Err(NoteError::Form("the origin of a checkpoint is not empty"));
        }
        let number: u64 = size.parse().map_err(|_| NoteError::Form("a size is a decimal number"))?;
        if number.to_string() != size {
            return Err(NoteError::Form("a size has no sign and no leading zero"));
        }
        let root = Hash::try_from(root.to_owned()).map_err(|_| NoteError::Form("a root is base64"))?;
        Ok(Self { origin: origin.to_owned(), size: number, root })
    }
}

/// How many checkpoints a hub keeps beside those that were exported.
pub const KEPT_MAX: usize = 1_024;

/// Which of the kept sizes, in rising order, go when there are more than [`KEPT_MAX`]: every other one of the older half, so
/// that the newer a checkpoint is, the closer is the one before it.
pub fn thinned_out(sizes: &[u64]) -> Vec<u64> {
    if sizes.len() <= KEPT_MAX {
        return Vec::new();
    }
    sizes[..sizes.len() / 2].iter().skip(1).step_by(2).copied().collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_checkpoint_is_written_as_the_standard_says_and_read_back() {
        let key = SigningKey::from_seed("hub.example/audit", &[7; 32]).unwrap();
        let checkpoint =
            Checkpoint { origin: "hub.example/audit".into(), size: 20_852_163, root: Hash([1; 32]) };
        let note = checkpoint.sign(&key);
        let lines: Vec<&str> = note.lines().collect();
        assert_eq!(
            lines[..4],
            ["hub.example/audit", "20852163", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=", ""]
        );
        assert_eq!(lines.len(), 5);
        assert_eq!(Checkpoint::open(&note, key.verifier()), Ok(checkpoint.clone()));
        assert_eq!(Checkpoint::unverified(&note), Ok(checkpoint.clone()));
        assert!(Checkpoint::open(&note.replace("20852163", "20852164"), key.verifier()).is_err());
        let another_log = Checkpoint { origin: "other".into(), ..checkpoint };
        assert!(Checkpoint::open(&another_log.sign(&key), key.verifier()).is_err());
    }

    #[test]
    fn what_is_no_checkpoint_is_named() {
        let key = SigningKey::from_seed("o", &[7; 32]).unwrap();
        let root = Hash([0; 32]).to_string();
        for text in [
            "o\n",
            "o\n1\n",
            "\n1\nAA==\n",
            "o\n01\nx\n",
            "o\n+1\nx\n",
            "o\n1\nAA==\n",
            &format!("o\n-1\n{root}\n"),
        ] {
            assert!(Checkpoint::open(&key.sign(text), key.verifier()).is_err(), "{text:?}");
        }
        // Lines behind these three are for extensions.
        assert!(Checkpoint::open(&key.sign(&format!("o\n1\n{root}\nmore\n")), key.verifier()).is_ok());
    }

    #[test]
    fn the_older_half_is_thinned_out() {
        let sizes: Vec<u64> = (0..=KEPT_MAX as u64).collect();
        assert!(thinned_out(&sizes[1..]).is_empty());
        let gone = thinned_out(&sizes);
        assert_eq!(gone.len(), KEPT_MAX / 4);
        assert_eq!((gone[0], gone[1]), (1, 3));
        assert!(*gone.last().unwrap() < KEPT_MAX as u64 / 2);
    }
}
