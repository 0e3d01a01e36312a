//! Proofs of a real hub hold, and with any part of them bent they do not.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The exit code and what was said.
fn check(proof: &Path, key: &Path) -> (Option<i32>, String) {
    let done = Command::new(env!("CARGO_BIN_EXE_audit-check")).args([proof, key]).output().unwrap();
    (done.status.code(), String::from_utf8([done.stdout, done.stderr].concat()).unwrap())
}

#[test]
fn the_proofs_of_a_hub_hold() {
    let key = data("log.vkey");
    let (code, said) = check(&data("inclusion.json"), &key);
    assert!(code == Some(0) && said.contains("Record 3 of the 4"), "{said}");
    let (code, said) = check(&data("consistency.json"), &key);
    assert!(code == Some(0) && said.contains("of 6 records begins with that of 4"), "{said}");
}

#[test]
fn no_character_of_a_proof_that_is_hashed_or_signed_can_be_another() {
    let directory = std::env::temp_dir().join(format!("audit-check-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let bent = directory.join("bent.json");
    for name in ["inclusion.json", "consistency.json"] {
        let proof = std::fs::read_to_string(data(name)).unwrap();
        for (at, letter) in
            proof.char_indices().filter(|(_, letter)| letter.is_ascii_alphanumeric()).step_by(7)
        {
            let other = if letter == 'Q' { 'A' } else { 'Q' };
            std::fs::write(&bent, format!("{}{other}{}", &proof[..at], &proof[at + 1..])).unwrap();
            let (code, said) = check(&bent, &data("log.vkey"));
            assert_eq!(code, Some(3), "{name} at {at}: {said}");
        }
    }
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn what_cannot_be_read_is_not_called_wrong() {
    assert_eq!(check(&data("missing.json"), &data("log.vkey")).0, Some(1));
    assert_eq!(check(&data("inclusion.json"), &data("missing.vkey")).0, Some(1));
    let swapped = check(&data("log.vkey"), &data("inclusion.json"));
    assert_eq!(swapped.0, Some(3), "{}", swapped.1);
}
