//! What a look says of symmetric keys.

use std::sync::{Arc, LazyLock};

use hub::authenticate::open_key;
use hub::key_quality::{EDITION, KeyQuality};
use hub::ports::secrets::Secrets;
use hub::record::SealedKey;
use hub::sas::key_bytes;
use posture::facts::{KeyFacts, SLOTS};

/// That of the keys which the hub makes: a fleet has one of them for all.
static SOUND: LazyLock<Arc<KeyQuality>> =
    LazyLock::new(|| Arc::new(KeyQuality { edition: EDITION, length: 32, ..KeyQuality::default() }));

/// What there is to know of the two keys of an owner. Only keys that were set by an earlier version are opened for it, and
/// they are gone when this returns.
pub(super) fn facts(
    secrets: &dyn Secrets,
    place: impl Fn() -> String,
    name: &str,
    keys: [&SealedKey; 2],
) -> [KeyFacts; 2] {
    let mut slots = SLOTS.into_iter();
    keys.map(|key| {
        let slot = slots.next();
        let judged = key.quality.as_deref().filter(|quality| quality.edition == EDITION);
        let judge_now = || {
            let text = open_key(key, &place(), slot?, secrets)?;
            let bytes = zeroize::Zeroizing::new(key_bytes(&text)?);
            Some(KeyQuality::of(&bytes, name))
        };
        let quality = match judged {
            Some(judged) if *judged == **SOUND => SOUND.clone(),
            Some(judged) => Arc::new(judged.clone()),
            None => Arc::new(judge_now().unwrap_or_default()),
        };
        KeyFacts { fingerprint: key.fingerprint, quality, set: key.set }
    })
}
