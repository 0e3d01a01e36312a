//! Which mistake made a signature that does not verify. It runs beside the answer that the client gets, never before
//! it, and what it may cost is bounded: see [`DEVICES_MAX`] and the limits of its caller.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::access::PolicyName;
use crate::authenticate::{key_place, open_key, policy_place};
use crate::decision::{DecisionFilter, cut};
use crate::identity::{DeviceId, Identity};
use crate::policies::POLICIES_MAX;
use crate::ports::registry::{Registry, StoreError};
use crate::ports::secrets::Secrets;
use crate::record::{Authentication, Key, Kind, Record, SealedKey, Slot};
use crate::refusal::Refusal;
use crate::sas::{Token, key_bytes};
use crate::signed_context::SignedContext;

/// The most devices whose keys are tried for one refusal.
pub const DEVICES_MAX: usize = 1_000;
/// Devices on each side of the claimed id, in the order of ids, that are tried before any other.
const NEIGHBOURS_MAX: usize = 50;
/// Decisions of the same address that are looked through for devices that connect from there.
const DECISIONS_MAX: usize = 100;
/// Devices that are loaded at once.
const PAGE: usize = 250;

/// What a search needs of a refused request. It lives for as long as the search and is never stored: the token is in
/// it.
#[derive(Clone, PartialEq, Eq)]
pub struct Clue {
    identity: Option<Identity>,
    presented: Presented,
}

#[derive(Clone, PartialEq, Eq)]
enum Presented {
    Token(Zeroizing<String>),
    Context(SignedContext),
}

impl Clue {
    /// The clue that a token left which was presented for this device or module, or by a service.
    pub fn new(identity: Option<&Identity>, token: &str) -> Box<Self> {
        let presented = Presented::Token(Zeroizing::new(token.to_owned()));
        Box::new(Self { identity: identity.cloned(), presented })
    }

    /// The clue that a signed context left which was presented for this device or module.
    pub fn of_context(identity: Option<&Identity>, context: &SignedContext) -> Box<Self> {
        Box::new(Self { identity: identity.cloned(), presented: Presented::Context(context.clone()) })
    }

    fn token(&self) -> Option<Token<'_>> {
        match &self.presented {
            Presented::Token(text) => Token::parse(text).ok(),
            Presented::Context(context) => Some(context.token()),
        }
    }
}

impl fmt::Debug for Clue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<a clue>")
    }
}

/// Tries the keys that a client may have mistaken for its own.
pub struct KeySearch {
    /// Where the keys are.
    pub registry: Arc<dyn Registry>,
    /// Opens them.
    pub secrets: Arc<dyn Secrets>,
}

impl KeySearch {
    /// Says which mistake with its own keys, or with those nearest to it, a client made: a few dozen signatures.
    pub async fn nearby(&self, clue: &Clue, address: Option<IpAddr>) -> Result<Option<Refusal>, StoreError> {
        let Some(token) = clue.token() else { return Ok(None) };
        let own = self.own_keys(clue, &token).await?;
        if let Some(found) = misused(&token, &own) {
            return Ok(Some(found));
        }
        if let Some(found) = self.of_a_policy(clue, &token).await? {
            return Ok(Some(found));
        }
        let Some(identity) = &clue.identity else { return Ok(None) };
        if let Some(found) = self.of_the_device(&identity.device, clue, &token).await? {
            return Ok(Some(found));
        }
        for device in self.seen_from(address).await? {
            if let Some(found) = self.of_the_device(&device, clue, &token).await? {
                return Ok(Some(found));
            }
        }
        let before = shortened(&identity.device);
        let neighbours = self.registry.list(Kind::Device, before, 2 * NEIGHBOURS_MAX).await?;
        Ok(neighbours.into_iter().find_map(|(_, stored)| self.owner(stored.record, clue, &token)))
    }

    /// Tries the keys of the first [`DEVICES_MAX`] devices: what `nearby` did not find, in a fleet that is not large.
    pub async fn fleet(&self, clue: &Clue) -> Result<Option<Refusal>, StoreError> {
        let Some(token) = clue.token() else { return Ok(None) };
        let (mut tried, mut after) = (0, None);
        while tried < DEVICES_MAX {
            let page = self.registry.list(Kind::Device, after.take(), PAGE).await?;
            tried += page.len();
            after = page.last().map(|(key, _)| key.clone());
            let full = page.len() == PAGE;
            if let Some(found) =
                page.into_iter().find_map(|(_, stored)| self.owner(stored.record, clue, &token))
            {
                return Ok(Some(found));
            }
            if !full {
                break;
            }
        }
        Ok(None)
    }

    /// Whose keys the token had to be signed with, and their texts.
    async fn own_keys(&self, clue: &Clue, token: &Token<'_>) -> Result<Keys, StoreError> {
        let (key, holder) = match (&token.skn, &clue.identity) {
            (Some(name), _) => match PolicyName::parse(name) {
                Ok(name) => (Key::Policy(name.clone()), format!("policy {name}")),
                Err(_) => return Ok(Keys::default()),
            },
            (None, Some(identity)) => (key_of(identity), owner_name(identity)),
            (None, None) => return Ok(Keys::default()),
        };
        let stored = self.registry.load(key).await?;
        let texts = stored.map(|stored| self.texts(&stored.record)).unwrap_or_default();
        let texts = texts.into_iter().map(|(_, text)| text).collect();
        Ok(Keys { holder, texts })
    }

    /// The policy whose key signed, in place of the device's or of another policy's.
    async fn of_a_policy(&self, clue: &Clue, token: &Token<'_>) -> Result<Option<Refusal>, StoreError> {
        let policies = self.registry.list(Kind::Policy, None, POLICIES_MAX).await?;
        for (_, stored) in policies {
            let slot = self.signer(&stored.record, token);
            if let (Some(slot), Record::Policy(policy)) = (slot, stored.record) {
                let policy = policy.name.to_string();
                return Ok(Some(match &token.skn {
                    None => Refusal::HubKeyWithoutSkn { policy, slot },
                    Some(_) => Refusal::KeyOfAnother {
                        holder: holder(clue, token),
                        owner: format!("policy {policy}"),
                    },
                }));
            }
        }
        Ok(None)
    }

    /// The device, or one of its modules, whose key signed.
    async fn of_the_device(
        &self,
        device: &DeviceId,
        clue: &Clue,
        token: &Token<'_>,
    ) -> Result<Option<Refusal>, StoreError> {
        let own = self.registry.load(Key::Device(device.clone())).await?.map(|stored| stored.record);
        let modules = self.registry.list_of(Kind::Module, device.clone()).await?;
        let records = own.into_iter().chain(modules.into_iter().map(|(_, stored)| stored.record));
        Ok(records.into_iter().find_map(|record| self.owner(record, clue, token)))
    }

    fn owner(&self, record: Record, clue: &Clue, token: &Token<'_>) -> Option<Refusal> {
        let identity = identity_of(&record)?;
        if clue.identity.as_ref() == Some(&identity) {
            return None;
        }
        self.signer(&record, token)
            .map(|_| Refusal::KeyOfAnother { holder: holder(clue, token), owner: owner_name(&identity) })
    }

    /// The devices that were let in from an address lately.
    async fn seen_from(&self, address: Option<IpAddr>) -> Result<Vec<DeviceId>, StoreError> {
        if address.is_none() {
            return Ok(Vec::new());
        }
        let filter = DecisionFilter { address, limit: DECISIONS_MAX, ..DecisionFilter::default() };
        let mut seen = Vec::new();
        for numbered in self.registry.decisions(filter).await? {
            let id = numbered.record.identity.as_deref().unwrap_or_default();
            let id = id.split('/').next().unwrap_or_default();
            if let (None, Ok(id)) = (&numbered.record.refusal, DeviceId::parse(id))
                && !seen.contains(&id)
            {
                seen.push(id);
            }
        }
        Ok(seen)
    }

    /// The slot of a record whose key signed.
    fn signer(&self, record: &Record, token: &Token<'_>) -> Option<Slot> {
        self.texts(record).into_iter().find_map(|(slot, text)| signed_by_either(token, &text).then_some(slot))
    }

    fn texts(&self, record: &Record) -> Vec<(Slot, Zeroizing<String>)> {
        let (place, keys): (String, [&SealedKey; 2]) = match record {
            Record::Policy(policy) => (policy_place(&policy.name), [&policy.primary, &policy.secondary]),
            Record::Device(device) => match &device.authentication {
                Authentication::Sas { primary, secondary } => {
                    (key_place(&Identity::device(device.id.clone())), [primary, secondary])
                }
                _ => return Vec::new(),
            },
            Record::Module(module) => match &module.authentication {
                Authentication::Sas { primary, secondary } => (
                    key_place(&Identity::module(module.device.clone(), module.id.clone())),
                    [primary, secondary],
                ),
                _ => return Vec::new(),
            },
            _ => return Vec::new(),
        };
        let slots = [Slot::Primary, Slot::Secondary];
        keys.into_iter()
            .zip(slots)
            .filter_map(|(key, slot)| Some((slot, open_key(key, &place, slot, &*self.secrets)?)))
            .collect()
    }
}

/// The texts of somebody's keys.
#[derive(Default)]
struct Keys {
    holder: String,
    texts: Vec<Zeroizing<String>>,
}

/// What was done with the right key that was not right.
fn misused(token: &Token<'_>, own: &Keys) -> Option<Refusal> {
    for text in &own.texts {
        if token.signed_with(text.as_bytes()) {
            return Some(Refusal::KeyNotDecoded { holder: own.holder.clone() });
        }
        let Some(key) = key_bytes(text) else { continue };
        if let Some(context) = token.context {
            let tokens = spellings(token.sr).into_iter().chain([token.sr.to_owned()]);
            match context.mistake(&key, tokens) {
                Some(problem) => return Some(Refusal::ContextSignedOtherText { problem }),
                None => continue,
            }
        }
        for signed in spellings(token.sr) {
            if token.is_signature_of(&format!("{signed}\n{}", token.se_text), &key) {
                return Some(Refusal::TokenSignedOtherSr { presented: cut(token.sr), signed: cut(&signed) });
            }
        }
        for (text, problem) in other_texts(token) {
            if token.is_signature_of(&text, &key) {
                return Some(Refusal::TokenSignedOtherText { problem: problem.to_owned() });
            }
        }
        if token.is_signed_in_hexadecimal(&key) {
            let problem = "the signature is written in hexadecimal digits".to_owned();
            return Some(Refusal::TokenSignedOtherText { problem });
        }
    }
    None
}

/// What encoders leave as it is, as RFC 3986 has it.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// The same for encoders that leave slashes (Python's `quote`).
const SLASHES_TOO: &AsciiSet = &UNRESERVED.remove(b'/');

/// The other spellings of a resource that clients sign by mistake: not encoded, encoded, encoded twice, in lower case.
fn spellings(sr: &str) -> Vec<String> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let small_digits = |text: &str| {
        // Only the digits of the escapes become small, not the rest.
        let mut small = String::with_capacity(text.len());
        for (at, part) in text.split('%').enumerate() {
            match (at, part.split_at_checked(2)) {
                (0, _) | (_, None) => small.push_str(part),
                (_, Some((digits, rest))) => {
                    small.push('%');
                    small.push_str(&digits.to_ascii_lowercase());
                    small.push_str(rest);
                }
            }
        }
        small
    };
    let plain = decode(&decode(sr));
    let lower = plain.to_lowercase();
    let mut all = vec![
        small_digits(&encode(&plain)),
        encode(&plain),
        utf8_percent_encode(&plain, SLASHES_TOO).to_string(),
        encode(&encode(&plain)),
        small_digits(&encode(&lower)),
        encode(&lower),
        sr.to_lowercase(),
        plain,
        lower,
    ];
    all.retain(|spelling| spelling != sr);
    all.dedup();
    all
}

/// Other texts that clients sign by mistake, and what is wrong with each.
fn other_texts(token: &Token<'_>) -> [(String, &'static str); 5] {
    let (sr, se) = (token.sr, token.se_text);
    [
        (format!("{sr}\n{se}\n"), "a line feed follows the end (`echo` adds one, `printf` does not)"),
        (format!("{sr}\r\n{se}"), "a carriage return stands before the line feed"),
        (format!("{sr}{se}"), "there is no line feed between the resource and the end"),
        (format!("{sr}\\n{se}"), "a backslash and an `n` stand in place of the line feed"),
        (format!("{sr} {se}"), "a blank stands in place of the line feed"),
    ]
}

fn signed_by_either(token: &Token<'_>, text: &str) -> bool {
    key_bytes(text).is_some_and(|bytes| token.signed_with(&bytes)) || token.signed_with(text.as_bytes())
}

fn holder(clue: &Clue, token: &Token<'_>) -> String {
    match (&token.skn, &clue.identity) {
        (Some(policy), _) => format!("policy {}", cut(policy)),
        (None, Some(identity)) => owner_name(identity),
        (None, None) => "the client".to_owned(),
    }
}

fn owner_name(identity: &Identity) -> String {
    match &identity.module {
        None => format!("device {}", identity.device),
        Some(module) => format!("module {}/{module}", identity.device),
    }
}

fn key_of(identity: &Identity) -> Key {
    match &identity.module {
        None => Key::Device(identity.device.clone()),
        Some(module) => Key::Module(identity.device.clone(), module.clone()),
    }
}

fn identity_of(record: &Record) -> Option<Identity> {
    match record {
        Record::Device(device) => Some(Identity::device(device.id.clone())),
        Record::Module(module) => Some(Identity::module(module.device.clone(), module.id.clone())),
        _ => None,
    }
}

/// The key before all ids that begin as this one does but for its last two characters: `pump-07` and its like.
fn shortened(id: &DeviceId) -> Option<Key> {
    let text = id.as_str();
    let prefix = text.get(..text.len().saturating_sub(2)).filter(|prefix| !prefix.is_empty())?;
    DeviceId::parse(prefix).ok().map(Key::Device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_spellings_of_a_resource_are_few_and_none_is_the_one_presented() {
        let sr = "hub.example.net%2Fdevices%2FPump-1";
        let all = spellings(sr);
        assert!(all.len() <= 9 && !all.iter().any(|spelling| spelling == sr), "{all:?}");
        for signed in [
            "hub.example.net/devices/Pump-1",
            "hub.example.net%2fdevices%2fPump-1",
            "hub.example.net%2fdevices%2fpump-1",
            "hub.example.net%252Fdevices%252FPump-1",
        ] {
            assert!(all.iter().any(|spelling| spelling == signed), "{signed} of {all:?}");
        }
    }

    #[test]
    fn a_clue_shows_nothing() {
        let clue = Clue::new(None, "SharedAccessSignature sr=x&sig=c2VjcmV0&se=1");
        assert!(!format!("{clue:?}").contains("c2VjcmV0"));
    }
}
