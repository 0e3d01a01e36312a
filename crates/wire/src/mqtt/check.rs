//! What the standards demand of a packet and the codec does not look at: bodies of packets that have none, reserved bits,
//! bytes behind the last field, characters that no topic has, and which rule a property breaks. Looks at the bytes of a
//! whole packet, before the codec takes them.

mod properties;

use self::properties::{Holder, Walked};
use super::PacketError;

/// The types of packets that are looked at, with their flags (§2.2.1, §2.2.2).
mod kind {
    pub(super) const CONNECT: u8 = 0x10;
    pub(super) const PUBLISH_FIRST: u8 = 0x30;
    pub(super) const PUBLISH_LAST: u8 = 0x3f;
    pub(super) const PUBACK: u8 = 0x40;
    pub(super) const SUBSCRIBE: u8 = 0x82;
    pub(super) const UNSUBSCRIBE: u8 = 0xa2;
    pub(super) const PINGREQ: u8 = 0xc0;
    pub(super) const DISCONNECT: u8 = 0xe0;
    pub(super) const AUTH: u8 = 0xf0;
}

/// The flags of a CONNECT (§3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 0x01;
    pub(super) const CLEAN: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const PASSWORD: u8 = 0x40;
    pub(super) const USER_NAME: u8 = 0x80;
}

/// The reasons of a DISCONNECT that a client may give (MQTT 5 §3.14.2.1).
const CLIENTS_REASONS: [u8; 14] =
    [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
/// The property of a DISCONNECT that only a server may send (MQTT 5 §3.14.2.2.5).
const SERVER_REFERENCE: u8 = 0x1c;

/// Looks at a packet of MQTT 3.1.1. What is too short, and all else, is for the codec to judge.
pub(super) fn three(first_byte: u8, body: &[u8]) -> Result<(), PacketError> {
    match first_byte {
        kind::PUBLISH_FIRST..=kind::PUBLISH_LAST => publish(first_byte, &mut Fields(body)),
        kind::CONNECT => connect_three(&mut Fields(body)).unwrap_or(Ok(())),
        kind::SUBSCRIBE => subscribe(&mut Fields(body.get(2..).unwrap_or_default()), 0x03).unwrap_or(Ok(())),
        kind::UNSUBSCRIBE => unsubscribe(&mut Fields(body.get(2..).unwrap_or_default())).unwrap_or(Ok(())),
        kind::PINGREQ | kind::DISCONNECT if !body.is_empty() => {
            Err(malformed("a packet without a body has one"))
        }
        _ => Ok(()),
    }
}

/// Looks at a packet of MQTT 5, and gives the place of a Message Expiry Interval of 0, which the codec does not read.
pub(super) fn five(first_byte: u8, body: &[u8]) -> Result<Option<usize>, PacketError> {
    let mut fields = Fields(body);
    let walked = match first_byte {
        kind::PUBLISH_FIRST..=kind::PUBLISH_LAST => {
            publish(first_byte, &mut fields)?;
            if first_byte & 0x06 != 0 {
                fields.take(2);
            }
            properties::walk(&mut fields, Holder::Publish)?
        }
        kind::CONNECT => return connect_five(body).unwrap_or(Ok(None)),
        kind::PUBACK if body.len() > 3 => {
            fields.take(3);
            properties::walk(&mut fields, Holder::Other)?
        }
        kind::SUBSCRIBE | kind::UNSUBSCRIBE => {
            fields.take(2);
            properties::walk(&mut fields, Holder::Other)?;
            let filters = match first_byte {
                kind::SUBSCRIBE => subscribe(&mut fields, u8::MAX),
                _ => unsubscribe(&mut fields),
            };
            return filters.unwrap_or(Ok(())).map(|()| None);
        }
        kind::PINGREQ if !body.is_empty() => return Err(malformed("a PINGREQ has a body")),
        kind::DISCONNECT | kind::AUTH if !body.is_empty() => {
            let reason = fields.take(1).map_or(0, |reason| reason[0]);
            if first_byte == kind::DISCONNECT && !CLIENTS_REASONS.contains(&reason) {
                return Err(protocol("a DISCONNECT has a reason that only a server gives"));
            }
            if fields.0.is_empty() {
                return Ok(None);
            }
            let walked = properties::walk(&mut fields, Holder::Other)?;
            if first_byte == kind::DISCONNECT && walked.has(SERVER_REFERENCE) {
                return Err(protocol("a DISCONNECT of a client has a Server Reference"));
            }
            walked
        }
        _ => Walked::default(),
    };
    Ok(walked.expiry_of_zero(body))
}

/// The topic of a PUBLISH [MQTT-3.3.2-2, MQTT-1.5.3-2], and its DUP [MQTT-3.3.1-2].
fn publish(first_byte: u8, fields: &mut Fields<'_>) -> Result<(), PacketError> {
    if first_byte & 0x0e == 0x08 {
        return Err(malformed("a PUBLISH of QoS 0 says that it is sent again"));
    }
    fields.text().map_or(Ok(()), topic_name)
}

/// A name of a topic, as opposed to a filter.
fn topic_name(topic: &[u8]) -> Result<(), PacketError> {
    let is_foreign = |byte: u8| byte == 0 || byte == b'+' || byte == b'#';
    // Without a way out in between, a piece is looked at in few steps.
    let any = |piece: &[u8]| piece.iter().fold(false, |any, byte| any | is_foreign(*byte));
    if !topic.chunks(64).any(any) {
        return Ok(());
    }
    match topic.iter().find(|byte| is_foreign(**byte)) {
        Some(0) | None => Err(nul("a topic")),
        Some(wildcard) => Err(PacketError::TopicName(char::from(*wildcard))),
    }
}

fn text_without_nul(text: &[u8], what: &str) -> Result<(), PacketError> {
    if text.contains(&0) { Err(nul(what)) } else { Ok(()) }
}

/// `None` for what is too short.
fn connect_three(fields: &mut Fields<'_>) -> Option<Result<(), PacketError>> {
    let is_mqtt = fields.text()? == b"MQTT";
    let &[level, flags, _, _] = fields.take(4)? else { return None };
    // Of another level not even the form is known [MQTT-3.1.2-2].
    if level != super::PROTOCOL_LEVEL {
        return None;
    }
    if !is_mqtt {
        return Some(Err(PacketError::ProtocolLevel)); // [MQTT-3.1.2-1]
    }
    if flags & flag::RESERVED != 0 {
        return None;
    }
    if flags & (flag::USER_NAME | flag::PASSWORD) == flag::PASSWORD {
        return Some(Err(malformed("a CONNECT has a password and no user name"))); // [MQTT-3.1.2-22]
    }
    let client_id = fields.text()?;
    let mut check = text_without_nul(client_id, "the client id");
    if flags & flag::WILL != 0 {
        check = check.and(topic_name(fields.text()?));
        fields.text()?;
    }
    if flags & flag::USER_NAME != 0 {
        check = check.and(text_without_nul(fields.text()?, "the user name"));
    }
    if flags & flag::PASSWORD != 0 {
        fields.text()?;
    }
    Some(check.and(fields.end()).and(client_id_of(client_id, flags)))
}

fn client_id_of(client_id: &[u8], flags: u8) -> Result<(), PacketError> {
    // [MQTT-3.1.3-8]
    if client_id.is_empty() && flags & flag::CLEAN == 0 { Err(PacketError::ClientId) } else { Ok(()) }
}

fn connect_five(body: &[u8]) -> Option<Result<Option<usize>, PacketError>> {
    let mut fields = Fields(body);
    fields.text()?;
    let &[_level, flags, _, _] = fields.take(4)? else { return None };
    if let Err(error) = properties::walk(&mut fields, Holder::Other) {
        return Some(Err(error));
    }
    let client_id = fields.text()?;
    let mut check = text_without_nul(client_id, "the client id");
    let mut will = Walked::default();
    if flags & flag::WILL != 0 {
        will = match properties::walk(&mut fields, Holder::Will) {
            Ok(will) => will,
            Err(error) => return Some(Err(error)),
        };
        check = check.and(text_without_nul(fields.text()?, "the topic of the will"));
        fields.text()?;
    }
    if flags & flag::USER_NAME != 0 {
        check = check.and(text_without_nul(fields.text()?, "the user name"));
    }
    if flags & flag::PASSWORD != 0 {
        fields.text()?;
    }
    let check = check.and(fields.end());
    // In MQTT 5 a server may give an id to a client that has none; this one does not, and says so in either case.
    Some(check.and(client_id_of(client_id, flags)).map(|()| will.expiry_of_zero(body)))
}

/// The filters of a SUBSCRIBE, and the bits of their options that have a meaning [MQTT-3.8.3-4].
fn subscribe(fields: &mut Fields<'_>, known_bits: u8) -> Option<Result<(), PacketError>> {
    while !fields.0.is_empty() {
        if let Err(error) = text_without_nul(fields.text()?, "a filter") {
            return Some(Err(error));
        }
        if fields.take(1)?[0] & !known_bits != 0 {
            return Some(Err(malformed("a SUBSCRIBE sets bits that are reserved")));
        }
    }
    Some(Ok(()))
}

fn unsubscribe(fields: &mut Fields<'_>) -> Option<Result<(), PacketError>> {
    while !fields.0.is_empty() {
        if let Err(error) = text_without_nul(fields.text()?, "a filter") {
            return Some(Err(error));
        }
    }
    Some(Ok(()))
}

fn malformed(problem: &str) -> PacketError {
    PacketError::Malformed(problem.to_owned())
}

fn protocol(problem: impl Into<String>) -> PacketError {
    PacketError::Protocol(problem.into())
}

fn nul(what: &str) -> PacketError {
    PacketError::Malformed(format!("{what} has the character U+0000")) // [MQTT-1.5.3-2]
}

/// What is left of a packet.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A text, or bytes, behind their length.
    fn text(&mut self) -> Option<&'a [u8]> {
        let &[high, low] = self.take(2)? else { return None };
        self.take(usize::from(u16::from_be_bytes([high, low])))
    }

    /// A Variable Byte Integer (MQTT 5 §1.5.5).
    fn variable(&mut self) -> Option<usize> {
        let mut value = 0;
        for at in 0..4 {
            let digit = self.take(1)?[0];
            value |= usize::from(digit & 0x7f) << (7 * at);
            if digit & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn end(&self) -> Result<(), PacketError> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("there are bytes behind the last field")) }
    }
}

#[cfg(test)]
mod tests;
