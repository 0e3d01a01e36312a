//! What may stand in a twin (`docs/protocol/limits.md` §1.2, §1.3).

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::Members;
use crate::decision::cut;
use crate::error::{HubError, HubErrorCode};
use crate::limits::{TWIN_PROPERTIES_BYTES_MAX, TWIN_TAGS_BYTES_MAX};

/// The longest key, in bytes of UTF-8.
pub const KEY_BYTES_MAX: usize = 1024;
/// The longest text, in bytes of UTF-8.
pub const STRING_BYTES_MAX: usize = 4 * 1024;
/// How deep objects and arrays may lie in each other below the root of a part. Arrays count too: what is stored must be
/// read back by a parser that has a limit of its own.
pub const DEPTH_MAX: usize = 10;
/// The integers that every client can represent.
pub const INTEGER_RANGE: RangeInclusive<i64> = -4_503_599_627_370_496..=4_503_599_627_370_495;

/// A part of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The tags.
    Tags,
    /// The desired properties.
    Desired,
    /// The reported properties.
    Reported,
}

impl Part {
    /// Where it stands in the document.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tags => "tags",
            Self::Desired => "properties.desired",
            Self::Reported => "properties.reported",
        }
    }

    /// How large it may be, in bytes as the limits count them (`docs/protocol/limits.md` §1.2).
    pub fn bytes_max(self) -> usize {
        match self {
            Self::Tags => TWIN_TAGS_BYTES_MAX,
            Self::Desired | Self::Reported => TWIN_PROPERTIES_BYTES_MAX,
        }
    }
}

/// Why a change of a twin is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TwinError {
    /// A part is no JSON object.
    #[error("`{}` must be a JSON object, or null to clear it", .0.as_str())]
    NotAnObject(Part),
    /// What the properties stand in is no JSON object.
    #[error("`properties` must be a JSON object with `desired`")]
    PropertiesNotAnObject,
    /// Something in a part is not what it may be.
    #[error("`{}{}` {}", .part.as_str(), .path, .what)]
    Content {
        /// The part.
        part: Part,
        /// The path below it: empty, or keys with a dot before each.
        path: String,
        /// What is wrong there.
        what: WrongContent,
    },
    /// A part would become too large.
    #[error("`{}` would be {bytes} bytes large, the limit is {}", .part.as_str(), .part.bytes_max())]
    TooLarge {
        /// The part.
        part: Part,
        /// Its size after the change.
        bytes: usize,
    },
    /// The twin has another etag than the change was made for.
    #[error("Precondition failed: the ETag does not match")]
    OtherEtag,
    /// The reported properties have another version than the change was made for.
    #[error("the reported properties have version {current}, not {wanted}")]
    OtherVersion {
        /// The version that was asked for.
        wanted: u64,
        /// The version that they have.
        current: u64,
    },
}

impl From<TwinError> for HubError {
    fn from(error: TwinError) -> Self {
        let code = match error {
            TwinError::NotAnObject(_)
            | TwinError::PropertiesNotAnObject
            | TwinError::Content { .. }
            | TwinError::TooLarge { .. } => HubErrorCode::ArgumentInvalid,
            TwinError::OtherEtag | TwinError::OtherVersion { .. } => HubErrorCode::PreconditionFailed,
        };
        Self::new(code, error.to_string())
    }
}

/// What is wrong with a key or value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrongContent {
    /// The key is empty.
    EmptyKey,
    /// The key has this character.
    KeyCharacter(char),
    /// The key has so many bytes.
    LongKey(usize),
    /// The text has so many bytes.
    LongString(usize),
    /// The integer is out of range.
    Integer(String),
    /// It lies too deep.
    TooDeep,
    /// It is null and lies in an array, where it removes nothing.
    Null,
}

impl fmt::Display for WrongContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyKey => f.write_str("has an empty key, a key has at least one character"),
            Self::KeyCharacter(character) => {
                write!(f, "has {character:?} in its key, a key has no control characters, blanks, `.` or `$`")
            }
            Self::LongKey(bytes) => {
                write!(f, "has a key of {bytes} bytes, the limit is {KEY_BYTES_MAX}")
            }
            Self::LongString(bytes) => {
                write!(f, "is a text of {bytes} bytes, the limit is {STRING_BYTES_MAX}")
            }
            Self::Integer(value) => write!(
                f,
                "is {value}, an integer lies between {} and {}",
                INTEGER_RANGE.start(),
                INTEGER_RANGE.end()
            ),
            Self::TooDeep => {
                write!(f, "lies deeper than {DEPTH_MAX} objects and arrays in each other")
            }
            Self::Null => f.write_str("has null in an array, a value in an array cannot be null"),
        }
    }
}

/// Checks keys and values; `null` may stand for what is to be removed, and so nowhere in an array.
pub(super) fn check(part: Part, members: &Members) -> Result<(), TwinError> {
    check_members(members, 0, Null::Removes).map_err(|Misplaced { mut path, what }| {
        path.reverse();
        TwinError::Content { part, path: path.concat(), what }
    })
}

/// The size of an object (`docs/protocol/limits.md` §1.2): keys and texts by their UTF-8 without control characters,
/// numbers 8, Booleans 4.
pub(super) fn bytes_of(members: &Members) -> usize {
    members.iter().map(|(key, value)| key.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null => 0,
        Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.chars().filter(|c| !c.is_control()).map(char::len_utf8).sum(),
        Value::Array(values) => values.iter().map(value_bytes).sum(),
        Value::Object(members) => bytes_of(members),
    }
}

/// What is wrong, and the keys that lead there, the last one first.
struct Misplaced {
    path: Vec<String>,
    what: WrongContent,
}

impl From<WrongContent> for Misplaced {
    fn from(what: WrongContent) -> Self {
        Self { path: Vec::new(), what }
    }
}

/// What `null` means at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    /// That the property goes.
    Removes,
    /// Nothing: an array is set as a whole.
    Wrong,
}

fn check_members(members: &Members, depth: usize, null: Null) -> Result<(), Misplaced> {
    members.iter().try_for_each(|(key, value)| {
        check_key(key).map_err(Misplaced::from).and_then(|()| check_value(value, depth + 1, null)).map_err(
            |mut wrong| {
                wrong.path.push(format!(".{}", cut(key)));
                wrong
            },
        )
    })
}

fn check_key(key: &str) -> Result<(), WrongContent> {
    if key.is_empty() {
        return Err(WrongContent::EmptyKey);
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(WrongContent::LongKey(key.len()));
    }
    match key.chars().find(|c| c.is_control() || matches!(c, '.' | '$' | ' ')) {
        Some(character) => Err(WrongContent::KeyCharacter(character)),
        None => Ok(()),
    }
}

/// `depth` is how many objects and arrays the value would be in, itself included, if it is one.
fn check_value(value: &Value, depth: usize, null: Null) -> Result<(), Misplaced> {
    match value {
        Value::Null if null == Null::Wrong => Err(WrongContent::Null.into()),
        Value::Null | Value::Bool(_) => Ok(()),
        Value::Number(number) => match (number.as_i64(), number.is_f64()) {
            (Some(integer), _) if INTEGER_RANGE.contains(&integer) => Ok(()),
            (_, true) => Ok(()),
            _ => Err(WrongContent::Integer(number.to_string()).into()),
        },
        Value::String(text) if text.len() > STRING_BYTES_MAX => {
            Err(WrongContent::LongString(text.len()).into())
        }
        Value::String(_) => Ok(()),
        Value::Array(_) | Value::Object(_) if depth > DEPTH_MAX => Err(WrongContent::TooDeep.into()),
        Value::Array(values) => {
            values.iter().try_for_each(|value| check_value(value, depth + 1, Null::Wrong))
        }
        Value::Object(members) => check_members(members, depth, null),
    }
}
