//! Checks, offline, a proof that `holdfast audit prove` made: `audit-check PROOF.json KEY.vkey`.
//!
//! It shares no code with the hub. The tree is that of RFC 9162 §2.1, checkpoints are C2SP `tlog-checkpoint` in C2SP
//! `signed-note`, signed with Ed25519.

use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, VerifyingKey};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

type Hash = [u8; 32];
type Outcome<T> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [proof, key] = &arguments[..] else {
        eprintln!(
            "usage: audit-check PROOF.json KEY.vkey\nExit code 0: the proof holds. 3: it does not. 1: it cannot be read."
        );
        return ExitCode::FAILURE;
    };
    let read =
        |path: &str| std::fs::read_to_string(path).map_err(|error| format!("could not read {path}: {error}"));
    let (proof, key) = match (read(proof), read(key)) {
        (Ok(proof), Ok(key)) => (proof, key),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("audit-check: {error}");
            return ExitCode::FAILURE;
        }
    };
    match check(&proof, &key) {
        Ok(text) => {
            println!("The proof holds. {}", visible(&text));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("The proof does not hold: {}.", visible(&error));
            ExitCode::from(3)
        }
    }
}

/// The text with what a terminal or a reader would obey escaped: a record holds what clients chose.
fn visible(text: &str) -> String {
    let is_obeyed = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0001}'..='\u{e007f}')
    };
    let mut visible = String::with_capacity(text.len());
    for c in text.chars() {
        match is_obeyed(c) {
            true => visible.extend(c.escape_default()),
            false => visible.push(c),
        }
    }
    visible
}

fn check(proof: &str, key: &str) -> Outcome<String> {
    let key = Key::parse(key.trim())?;
    let proof: Value = serde_json::from_str(proof).map_err(|error| format!("it is not JSON: {error}"))?;
    let path = proof["path"].as_array().ok_or("`path` is missing")?;
    let path = path
        .iter()
        .map(|hash| decode_hash(hash.as_str().unwrap_or_default()))
        .collect::<Outcome<Vec<_>>>()?;
    match proof["format"].as_str() {
        Some("holdfast-audit-inclusion/1") => check_inclusion(&proof, &path, &key),
        Some("holdfast-audit-consistency/1") => check_consistency(&proof, &path, &key),
        _ => Err("`format` is none that this program knows".to_owned()),
    }
}

fn check_inclusion(proof: &Value, path: &[Hash], key: &Key) -> Outcome<String> {
    let note = proof["checkpoint"].as_str().ok_or("`checkpoint` is missing")?;
    let checkpoint = key.checkpoint(note)?;
    let entry = proof["entry"].as_str().ok_or("`entry` is missing")?;
    let index = proof["index"].as_u64().ok_or("`index` is missing")?;
    if proof["size"].as_u64() != Some(checkpoint.size) {
        return Err("`size` is not the size of the checkpoint".to_owned());
    }
    let mut steps = path.iter();
    let root = root_of(hash(&[&[0], entry.as_bytes()]), index, checkpoint.size, &mut steps)?;
    if steps.next().is_some() || root != checkpoint.root {
        return Err("the path does not lead from this record to the signed root".to_owned());
    }
    let record: Value = serde_json::from_str(entry).map_err(|_| "the record is not JSON")?;
    if record["number"].as_u64() != index.checked_add(1) {
        return Err("the record has another number than its place".to_owned());
    }
    let (number, size, origin) = (index + 1, checkpoint.size, checkpoint.origin);
    Ok(format!("Record {number} of the {size} that the log `{origin}` signed:\n{entry}"))
}

fn check_consistency(proof: &Value, path: &[Hash], key: &Key) -> Outcome<String> {
    let old = key.checkpoint(proof["old"].as_str().ok_or("`old` is missing")?)?;
    let new = key.checkpoint(proof["new"].as_str().ok_or("`new` is missing")?)?;
    if old.size > new.size {
        return Err("the older log is longer than the newer one".to_owned());
    }
    let mut steps = path.iter();
    let (old_root, new_root) = match old.size {
        0 => (hash(&[]), new.root),
        _ => both_roots(old.size, new.size, Some(old.root), &mut steps)?,
    };
    if steps.next().is_some() || old_root != old.root || new_root != new.root {
        return Err("the newer log does not begin with the older one".to_owned());
    }
    Ok(format!("The log `{}` of {} records begins with that of {}.", new.origin, new.size, old.size))
}

/// The root over a leaf, by recursion from the root down, as RFC 9162 §2.1.3.1 defines the path.
fn root_of<'a>(
    leaf: Hash,
    index: u64,
    size: u64,
    steps: &mut impl Iterator<Item = &'a Hash>,
) -> Outcome<Hash> {
    if index >= size {
        return Err("the index is beyond the log".to_owned());
    }
    if size == 1 {
        return Ok(leaf);
    }
    let k = largest_power_of_two_below(size);
    let step =
        |steps: &mut dyn Iterator<Item = &'a Hash>| steps.next().copied().ok_or("the path is too short");
    if index < k {
        let left = root_of(leaf, index, k, steps)?;
        Ok(hash(&[&[1], &left, &step(steps)?]))
    } else {
        let right = root_of(leaf, index - k, size - k, steps)?;
        Ok(hash(&[&[1], &step(steps)?, &right]))
    }
}

/// The roots of the first `old` and of all `new` leaves, as RFC 9162 §2.1.4.1 defines the proof. `known` is the old root as
/// long as the subtree looked at begins with the first leaf and the proof need not name it.
fn both_roots<'a>(
    old: u64,
    new: u64,
    known: Option<Hash>,
    steps: &mut impl Iterator<Item = &'a Hash>,
) -> Outcome<(Hash, Hash)> {
    let step =
        |steps: &mut dyn Iterator<Item = &'a Hash>| steps.next().copied().ok_or("the path is too short");
    if old == new {
        let root = match known {
            Some(root) => root,
            None => step(steps)?,
        };
        return Ok((root, root));
    }
    let k = largest_power_of_two_below(new);
    if old <= k {
        let (old_root, left) = both_roots(old, k, known, steps)?;
        Ok((old_root, hash(&[&[1], &left, &step(steps)?])))
    } else {
        let (old_right, new_right) = both_roots(old - k, new - k, None, steps)?;
        let left = step(steps)?;
        Ok((hash(&[&[1], &left, &old_right]), hash(&[&[1], &left, &new_right])))
    }
}

fn largest_power_of_two_below(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut sha = Sha256::new();
    parts.iter().for_each(|part| sha.update(part));
    sha.finalize().into()
}

fn decode(text: &str) -> Outcome<Vec<u8>> {
    STANDARD.decode(text).map_err(|_| format!("`{text}` is not base64"))
}

fn decode_hash(text: &str) -> Outcome<Hash> {
    decode(text)?.try_into().map_err(|_| format!("`{text}` is not a hash"))
}

struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

/// A verifier key of C2SP `signed-note`: `<name>+<id>+<base64 of 1 and the public key>`.
struct Key {
    name: String,
    id: [u8; 4],
    public: VerifyingKey,
}

impl Key {
    fn parse(text: &str) -> Outcome<Self> {
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        let [name, id, key] = parts[..] else { return Err("the key is no verifier key".to_owned()) };
        let key = decode(key)?;
        let Some((1, public)) = key.split_first() else { return Err("the key is no Ed25519 key".to_owned()) };
        let public: [u8; 32] = public.try_into().map_err(|_| "the key is no Ed25519 key")?;
        let digest = hash(&[name.as_bytes(), b"\n\x01", &public]);
        let expected = [digest[0], digest[1], digest[2], digest[3]];
        if id != format!("{:08x}", u32::from_be_bytes(expected)) {
            return Err("the key was changed: its id is not that of its name and bytes".to_owned());
        }
        let public = VerifyingKey::from_bytes(&public).map_err(|_| "the key is no Ed25519 key")?;
        Ok(Self { name: name.to_owned(), id: expected, public })
    }

    /// Reads a checkpoint, if this key signed it.
    fn checkpoint(&self, note: &str) -> Outcome<Checkpoint> {
        let end = note.rfind("\n\n").ok_or("the checkpoint is not signed")?;
        let (text, signatures) = (&note[..=end], &note[end + 2..]);
        let own = format!("— {} ", self.name);
        let signed = signatures.lines().filter_map(|line| line.strip_prefix(&own)).any(|signature| {
            let bytes = decode(signature).unwrap_or_default();
            let signature = bytes.strip_prefix(&self.id).and_then(|bytes| Signature::from_slice(bytes).ok());
            signature.is_some_and(|signature| self.public.verify_strict(text.as_bytes(), &signature).is_ok())
        });
        if !signed {
            return Err(format!("the checkpoint is not signed by `{}`", self.name));
        }
        let lines: Vec<&str> = text.lines().collect();
        let [origin, size, root, ..] = lines[..] else {
            return Err("the checkpoint has too few lines".to_owned());
        };
        if origin != self.name {
            return Err(format!("the checkpoint is of the log `{origin}`"));
        }
        let size = size.parse().map_err(|_| "the size of the checkpoint is no number")?;
        Ok(Checkpoint { origin: origin.to_owned(), size, root: decode_hash(root)? })
    }
}
