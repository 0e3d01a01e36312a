//! What a look says of symmetric keys, and which of them need not be opened again.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use hub::authenticate::open_key;
use hub::hub::Hub;
use hub::record::SealedKey;
use hub::sas::key_bytes;
use posture::facts::{KeyFacts, SLOTS};
use posture::key::{published, weakness};

/// The keys that the last look found nothing to say of. Opening and judging each key of a fleet is most of what a look
/// would compute, and hardly a key changes between two looks.
#[derive(Default)]
pub(super) struct Judged {
    /// The lengths of those of the last look, by a hash of fingerprint and owner.
    last: HashMap<u64, u32>,
    /// Those of this look.
    now: HashMap<u64, u32>,
    hasher: RandomState,
}

impl Judged {
    /// A look is over: keys that it did not come across are forgotten.
    pub(super) fn end_look(&mut self) {
        self.last = std::mem::take(&mut self.now);
        self.last.shrink_to_fit();
    }

    /// What there is to know of the two keys of an owner; the keys themselves are gone when this returns.
    pub(super) fn facts(
        &mut self,
        hub: &Hub,
        place: &str,
        name: &str,
        keys: [&SealedKey; 2],
    ) -> [KeyFacts; 2] {
        let mut slots = SLOTS.into_iter();
        keys.map(|key| {
            let slot = slots.next();
            let mut facts = KeyFacts {
                fingerprint: key.fingerprint.clone(),
                length: 0,
                weakness: None,
                published: None,
                set: key.set,
            };
            let known = self.hasher.hash_one((&key.fingerprint, name));
            if let Some(length) = self.last.get(&known) {
                facts.length = *length as usize;
                self.now.insert(known, *length);
                return facts;
            }
            let text = slot.and_then(|slot| open_key(key, place, slot, &*hub.secrets));
            let Some(bytes) = text.and_then(|text| key_bytes(&text).map(zeroize::Zeroizing::new)) else {
                return facts;
            };
            facts.length = bytes.len();
            facts.weakness = weakness(&bytes, name);
            facts.published = published(&bytes);
            if facts.weakness.is_none() && facts.published.is_none() {
                self.now.insert(known, u32::try_from(facts.length).unwrap_or(u32::MAX));
            }
            facts
        })
    }
}
