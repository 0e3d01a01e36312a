//! What the log keeps of those whom the hub does not know: who may send anything must not fill the disk by it, nor drive out what is
//! on record of others.

use serde_json::{Map, Value};

use crate::decision::{CertificateFacts, Decision};
use crate::refusal::Refusal;

/// How long a record of a refusal is at most, but for one in which everything is as long as can be: a million take less than 1 GiB.
pub const RECORD_BYTES_MAX: usize = 896;

/// How long texts of a record that is longer may be, one after the other until it is short enough, in bytes as they rest.
const TEXT_BYTES_MAX: [usize; 4] = [160, 96, 64, 40];
/// Of a list of such a record, so many are kept.
const LIST_MAX: usize = 8;
/// What records are found by, and what tells certificates apart, is kept as it is.
const WHOLE: [&str; 6] = ["identity", "time", "address", "thumbprint", "cause", "kind"];

/// Whether a decision is the refusal of somebody who named no identity that is registered.
pub fn is_stranger(decision: &Decision) -> bool {
    match &decision.refusal {
        None => false,
        Some(
            Refusal::UnknownDevice { .. }
            | Refusal::UnknownModule { .. }
            | Refusal::UnknownGateway { .. }
            | Refusal::UnknownPolicy { .. }
            | Refusal::IllegalId { .. },
        ) => true,
        Some(_) => decision.identity.is_none(),
    }
}

/// Makes the record of a refusal short enough: of certificates above the client's own no more than their names stay, and
/// long texts are cut.
pub fn shorten(decision: &mut Decision) {
    if decision.refusal.is_none() {
        return;
    }
    decision.facts.chain.iter_mut().skip(1).for_each(only_names);
    for text_bytes_max in TEXT_BYTES_MAX {
        if is_short(decision) {
            return;
        }
        let Ok(Value::Object(mut record)) = serde_json::to_value(&*decision) else { return };
        cut_members(&mut record, text_bytes_max);
        // What does not read back is not written.
        match serde_json::from_value(Value::Object(record)) {
            Ok(shorter) => *decision = Decision { facts: with_clue(decision, &shorter), ..shorter },
            Err(_) => return,
        }
    }
    if !is_short(decision) {
        decision.facts.chain.truncate(1);
        for leaf in &mut decision.facts.chain {
            leaf.public_key.clear();
            leaf.serial.clear();
        }
    }
}

/// Whether a record is short enough as it is.
fn is_short(decision: &Decision) -> bool {
    serde_json::to_string(decision).map_or(true, |text| text.len() <= RECORD_BYTES_MAX)
}

/// The facts of the shorter record, with what is never written.
fn with_clue(decision: &mut Decision, shorter: &Decision) -> crate::decision::Facts {
    crate::decision::Facts { clue: decision.facts.clue.take(), ..shorter.facts.clone() }
}

fn only_names(certificate: &mut CertificateFacts) {
    certificate.issuer.clear();
    certificate.public_key.clear();
    certificate.serial.clear();
    (certificate.not_before, certificate.not_after) = (None, None);
}

fn cut_members(members: &mut Map<String, Value>, text_bytes_max: usize) {
    for (name, value) in members {
        if !WHOLE.contains(&name.as_str()) {
            cut_value(value, text_bytes_max);
        }
    }
}

fn cut_value(value: &mut Value, text_bytes_max: usize) {
    match value {
        Value::String(text) => cut_text(text, text_bytes_max),
        Value::Array(values) => {
            values.truncate(LIST_MAX);
            values.iter_mut().for_each(|value| cut_value(value, text_bytes_max));
        }
        Value::Object(members) => cut_members(members, text_bytes_max),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Times and digests are no longer than they must be.
fn cut_text(text: &mut String, bytes_max: usize) {
    let is_exact = |c: char| c.is_ascii_hexdigit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z');
    if text.len() <= 64 && text.chars().all(is_exact) {
        return;
    }
    let mut written = 0;
    let end = text.char_indices().find_map(|(at, c)| {
        written += if c.is_control() { 6 } else { c.len_utf8() + usize::from(matches!(c, '"' | '\\')) };
        (written > bytes_max).then_some(at)
    });
    if let Some(end) = end {
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::decision::{Act, Door, Origin, TEXT_CHARS_MAX, TokenFacts};

    /// A refusal with as much in it as a client can send.
    fn largest(letter: &str) -> Decision {
        let text = || letter.repeat(TEXT_CHARS_MAX);
        let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
        decision.identity = Some("d".repeat(128));
        decision.origin = Origin {
            address: Some("2001:db8:1234:5678:9abc:def0:1234:5678".parse().expect("an address")),
            port: Some(50_000),
            door: Some(Door::MqttWs),
        };
        let certificate = CertificateFacts {
            subject: text(),
            issuer: text(),
            thumbprint: "A".repeat(64),
            public_key: "B".repeat(64),
            serial: text(),
            not_before: Some(Timestamp::UNIX_EPOCH),
            not_after: Some(Timestamp::UNIX_EPOCH),
        };
        let facts = &mut decision.facts;
        facts.chain = vec![certificate; 4];
        facts.sdk = Some(text());
        facts.api_version = Some(text());
        facts.server_name = Some(text());
        facts.tls_version = Some("1.3".into());
        facts.cipher = Some("TLS_CHACHA20_POLY1305_SHA256".into());
        facts.token = Some(TokenFacts { sr: text(), se: i64::MAX, skn: Some(text()) });
        decision.refusal = Some(Refusal::UntrustedChain {
            issuer: text(),
            authorities: vec![text(); 25],
            unverified: Some(text()),
            problem: text(),
        });
        decision
    }

    fn length(decision: &Decision) -> usize {
        serde_json::to_string(decision).expect("it is written").len()
    }

    #[test]
    fn the_largest_refusal_becomes_a_small_record() {
        for letter in ["x", "\u{1}", "é", "\"", "\\"] {
            let mut decision = largest(letter);
            assert!(length(&decision) > 8_000);
            shorten(&mut decision);
            // Of names of authorities, which are the owner's, a stranger gets no more than eight into it.
            assert!(length(&decision) <= 2 * RECORD_BYTES_MAX, "{letter:?}: {}", length(&decision));
            if let Some(Refusal::UntrustedChain { authorities, .. }) = &mut decision.refusal {
                authorities.clear();
            }
            println!("figure: the largest refusal of {letter:?} takes {} bytes", length(&decision));
            assert!(length(&decision) <= LARGEST, "{letter:?}: {}", length(&decision));
            assert_eq!(decision.identity, Some("d".repeat(128)));
            assert_eq!(decision.facts.chain[0].thumbprint, "A".repeat(64));
        }
    }

    /// The digests, the id and the names of the members alone take 900 bytes.
    const LARGEST: usize = 1_200;

    #[test]
    fn an_ordinary_refusal_is_kept_as_it_is() {
        let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
        decision.identity = Some("pump-1".to_owned());
        decision.facts.sdk = Some("azure-iot-device/2.14 (3.11; Linux)".to_owned());
        decision.facts.token =
            Some(TokenFacts { sr: "hub.example.net/devices/pump-1".to_owned(), se: 1, skn: None });
        decision.refusal = Some(crate::refusal::wrong_key("device pump-1"));
        let before = decision.clone();
        shorten(&mut decision);
        assert_eq!(decision, before);
    }

    #[test]
    fn what_was_admitted_is_never_shortened() {
        let mut decision = largest("x");
        decision.refusal = None;
        let before = decision.clone();
        shorten(&mut decision);
        assert_eq!(decision, before);
    }

    #[test]
    fn who_names_a_registered_identity_is_no_stranger() {
        let mut decision = Decision::new(Timestamp::UNIX_EPOCH, Act::Connect);
        assert!(!is_stranger(&decision));
        decision.refusal = Some(Refusal::NoCredential);
        assert!(is_stranger(&decision), "nobody was named");
        decision.identity = Some("pump-1".to_owned());
        decision.refusal = Some(crate::refusal::wrong_key("device pump-1"));
        assert!(!is_stranger(&decision));
        decision.refusal = Some(crate::refusal::unknown_policy("p"));
        assert!(is_stranger(&decision));
    }
}
