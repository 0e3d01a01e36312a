//! The list of properties of a packet of MQTT 5 (§2.2.2).

use super::{Fields, PacketError, nul, protocol};

const PAYLOAD_FORMAT: u8 = 0x01;
const MESSAGE_EXPIRY: u8 = 0x02;
const RESPONSE_TOPIC: u8 = 0x08;
const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
const REQUEST_PROBLEM: u8 = 0x17;
const REQUEST_RESPONSE: u8 = 0x19;
const RECEIVE_MAXIMUM: u8 = 0x21;
const TOPIC_ALIAS: u8 = 0x23;
const USER_PROPERTY: u8 = 0x26;
const MAXIMUM_PACKET_SIZE: u8 = 0x27;

/// What has the properties.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    /// A PUBLISH.
    Publish,
    /// A will.
    Will,
    /// Another packet.
    Other,
}

/// What a list of properties holds.
#[derive(Default)]
pub(super) struct Walked<'a> {
    /// A bit for each identifier.
    seen: u64,
    /// The value of a Message Expiry Interval of 0.
    expiry_of_zero: Option<&'a [u8]>,
}

impl Walked<'_> {
    /// Whether a property is there.
    pub(super) fn has(&self, identifier: u8) -> bool {
        self.seen & bit(identifier) != 0
    }

    /// The place of a Message Expiry Interval of 0 in the packet, of its last byte.
    pub(super) fn expiry_of_zero(&self, body: &[u8]) -> Option<usize> {
        let value = self.expiry_of_zero?;
        Some(value.as_ptr() as usize - body.as_ptr() as usize + value.len() - 1)
    }
}

fn bit(identifier: u8) -> u64 {
    1_u64.checked_shl(identifier.into()).unwrap_or(0)
}

/// How a property is encoded (§2.2.2.2).
enum Form {
    Bytes(usize),
    Variable,
    Binary,
    Text,
    Pair,
}

fn form(identifier: u8) -> Option<Form> {
    Some(match identifier {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Form::Bytes(1),
        0x13 | 0x21 | 0x22 | 0x23 => Form::Bytes(2),
        0x02 | 0x11 | 0x18 | 0x27 => Form::Bytes(4),
        0x0b => Form::Variable,
        0x09 | 0x16 => Form::Binary,
        0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Form::Text,
        0x26 => Form::Pair,
        _ => return None,
    })
}

/// Looks at a list of properties. What is unknown, or not of its form, ends it: the codec names that.
pub(super) fn walk<'a>(fields: &mut Fields<'a>, holder: Holder) -> Result<Walked<'a>, PacketError> {
    let mut walked = Walked::default();
    let list = fields.variable().and_then(|length| fields.take(length));
    let mut list = Fields(list.unwrap_or_default());
    while let Some(&[identifier]) = list.take(1) {
        let Some(form) = form(identifier) else { break };
        if identifier != USER_PROPERTY && walked.has(identifier) {
            return Err(protocol(format!("the property 0x{identifier:02x} is there twice")));
        }
        walked.seen |= bit(identifier);
        let value = match form {
            Form::Bytes(count) => list.take(count),
            Form::Variable => {
                let before = list.0;
                let read = list.variable();
                read.map(|_| &before[..before.len() - list.0.len()])
            }
            Form::Binary => list.text(),
            Form::Text => texts(&mut list, 1)?,
            Form::Pair => texts(&mut list, 2)?,
        };
        let Some(value) = value else { break };
        judge(identifier, value, holder)?;
        if identifier == MESSAGE_EXPIRY && is_zero(value) {
            walked.expiry_of_zero = Some(value);
        }
    }
    Ok(walked)
}

/// The last of so many texts.
fn texts<'a>(list: &mut Fields<'a>, count: usize) -> Result<Option<&'a [u8]>, PacketError> {
    let mut last = None;
    for _ in 0..count {
        last = list.text();
        if last.is_some_and(|text| text.contains(&0)) {
            return Err(nul("a property"));
        }
    }
    Ok(last)
}

fn is_zero(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == 0)
}

/// Values that the standard calls a Protocol Error.
fn judge(identifier: u8, value: &[u8], holder: Holder) -> Result<(), PacketError> {
    match identifier {
        TOPIC_ALIAS if is_zero(value) => Err(PacketError::TopicAliasZero), // [MQTT-3.3.2-8]
        SUBSCRIPTION_IDENTIFIER if holder == Holder::Publish => {
            Err(protocol("a PUBLISH of a client has a subscription identifier")) // [MQTT-3.3.4-6]
        }
        SUBSCRIPTION_IDENTIFIER | RECEIVE_MAXIMUM | MAXIMUM_PACKET_SIZE if is_zero(value) => {
            Err(protocol(format!("the property 0x{identifier:02x} is 0")))
        }
        PAYLOAD_FORMAT | REQUEST_PROBLEM | REQUEST_RESPONSE if value.iter().any(|byte| *byte > 1) => {
            Err(protocol(format!("the property 0x{identifier:02x} is neither 0 nor 1")))
        }
        RESPONSE_TOPIC if matches!(holder, Holder::Publish | Holder::Will) && has_wildcard(value) => {
            Err(protocol("a Response Topic has a wildcard")) // [MQTT-3.3.2-14]
        }
        _ => Ok(()),
    }
}

fn has_wildcard(topic: &[u8]) -> bool {
    topic.iter().any(|byte| matches!(byte, b'+' | b'#'))
}
