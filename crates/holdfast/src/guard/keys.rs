//! What a look says of symmetric keys.

use std::borrow::Cow;

use hub::authenticate::open_key;
use hub::hub::Hub;
use hub::key_quality::{EDITION, KeyQuality};
use hub::record::SealedKey;
use hub::sas::key_bytes;
use posture::facts::{KeyFacts, SLOTS};

/// What there is to know of the two keys of an owner. Only keys that were set by an earlier version are opened for it, and
/// they are gone when this returns.
pub(super) fn facts<'a>(
    hub: &Hub,
    place: impl Fn() -> String,
    name: &str,
    keys: [&'a SealedKey; 2],
) -> [KeyFacts<'a>; 2] {
    let mut slots = SLOTS.into_iter();
    keys.map(|key| {
        let slot = slots.next();
        let judged = key.quality.as_deref().filter(|quality| quality.edition == EDITION);
        let judge_now = || {
            let text = open_key(key, &place(), slot?, &*hub.secrets)?;
            let bytes = zeroize::Zeroizing::new(key_bytes(&text)?);
            Some(KeyQuality::of(&bytes, name))
        };
        let quality = match judged {
            Some(judged) => Cow::Borrowed(judged),
            None => Cow::Owned(judge_now().unwrap_or_default()),
        };
        KeyFacts { fingerprint: &key.fingerprint, quality, set: key.set }
    })
}
