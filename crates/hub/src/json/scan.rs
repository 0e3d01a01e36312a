//! What a parser loses: how numbers were written, and members that came twice.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::WrongJson;
use crate::decision::cut;

/// Deeper than the parser goes.
const DEPTH_MAX: usize = 130;

/// Where the scan is.
enum Frame {
    /// In an object: the member, the names so far, and whether a name comes next.
    Object { name: String, names: HashSet<String>, before_name: bool },
    /// In an array.
    Array,
}

/// Looks for numbers that would be changed, and for members that come twice where they may not. What is no JSON is left
/// to the parser.
pub(super) fn scan(text: &[u8], once: bool) -> Result<(), WrongJson> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let token = token(&text[at..]);
        match byte {
            b'{' => {
                frames.push(Frame::Object { name: String::new(), names: HashSet::new(), before_name: true })
            }
            b'[' => frames.push(Frame::Array),
            b'}' | b']' => drop(frames.pop()),
            b',' => {
                if let Some(Frame::Object { before_name, .. }) = frames.last_mut() {
                    *before_name = true;
                }
            }
            b'"' => {
                if let Some(Frame::Object { name, names, before_name: before_name @ true }) =
                    frames.last_mut()
                {
                    *before_name = false;
                    let Ok(read) = serde_json::from_slice::<String>(token) else { return Ok(()) };
                    name.clone_from(&read);
                    if once && !names.insert(read) {
                        return Err(WrongJson::Twice { path: path(&frames) });
                    }
                }
            }
            b'-' | b'0'..=b'9' => check_number(token, &frames)?,
            _ => {}
        }
        if frames.len() > DEPTH_MAX {
            return Ok(());
        }
        at += token.len();
    }
    Ok(())
}

/// The text or number that begins here, or one byte of anything else.
fn token(text: &[u8]) -> &[u8] {
    let length = match text[0] {
        b'"' => text_length(text),
        b'-' | b'0'..=b'9' => text.iter().take_while(|byte| is_of_number(**byte)).count(),
        _ => 1,
    };
    &text[..length]
}

fn text_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

fn is_of_number(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E')
}

fn check_number(token: &[u8], frames: &[Frame]) -> Result<(), WrongJson> {
    let text = String::from_utf8_lossy(token);
    let digits = text.strip_prefix('-').unwrap_or(&text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
            true => Ok(()),
            false => Err(WrongJson::Integer { path: path(frames), number: cut(&text) }),
        };
    }
    let mantissa = digits.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = mantissa.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    match text.parse::<f64>() {
        Ok(number) if !number.is_finite() || (number == 0.0 && !is_zero) => {
            Err(WrongJson::Float { path: path(frames), number: cut(&text) })
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn path(frames: &[Frame]) -> String {
    let names = frames.iter().filter_map(|frame| match frame {
        Frame::Object { name, .. } => Some(cut(name)),
        Frame::Array => None,
    });
    names.collect::<Vec<_>>().join(".")
}

/// The members of an object, each as it was written.
pub(super) struct Written<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Written<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Written<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Written(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}
