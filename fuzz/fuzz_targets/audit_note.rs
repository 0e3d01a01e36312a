//! Any text as a signed checkpoint and as a verifier key, and any hashes as a proof: what is not the log's is refused, and
//! nothing panics.
#![no_main]

use hub::audit::Hash;
use hub::audit::checkpoint::Checkpoint;
use hub::audit::note::{SigningKey, VerifierKey};
use hub::audit::proof::{is_consistent, root_by_inclusion};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    proofs(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = text.parse::<VerifierKey>() {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let key = SigningKey::from_seed("hub.example/audit/0", &[7; 32]).expect("a key");
    assert!(Checkpoint::open(text, key.verifier()).is_err(), "a forged checkpoint opens");
    if let Ok(checkpoint) = Checkpoint::unverified(text) {
        let own = Checkpoint { origin: key.verifier().name().to_owned(), ..checkpoint };
        assert_eq!(Checkpoint::open(&own.sign(&key), key.verifier()), Ok(own));
    }
});

fn proofs(bytes: &[u8]) {
    let Some((sizes, hashes)) = bytes.split_first_chunk::<16>() else { return };
    let [old, new] =
        [&sizes[..8], &sizes[8..]].map(|size| u64::from_le_bytes(size.try_into().expect("eight bytes")));
    let path = Hash::all_from_bytes(&hashes[..hashes.len() / 32 * 32]).expect("whole hashes");
    let (leaf, other) = (Hash::of_leaf(b"leaf"), Hash::of_leaf(b"other"));
    assert_ne!(root_by_inclusion(leaf, old, new, &path), Some(other), "a hash was guessed");
    assert!(!is_consistent(old, leaf, new, other, &path), "two hashes were guessed");
}
