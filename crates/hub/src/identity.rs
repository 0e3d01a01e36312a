//! The names of devices and modules (`docs/protocol/limits.md` §4).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest device or module id, in characters.
pub const ID_CHARS_MAX: usize = 128;

/// Why a text is not a device or module id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum IdError {
    /// The text is empty.
    #[error("an id has at least one character")]
    Empty,
    /// The text has more than [`ID_CHARS_MAX`] characters.
    #[error("an id has at most {ID_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    /// The text holds a character outside the documented set.
    #[error(
        "the character {0:?} is not allowed in an id; allowed are A-Z a-z 0-9 and - . _ : + % # * ? ! ( ) , = @ $ ' ;"
    )]
    Character(char),
}

/// The characters of an id beside letters and digits.
const MARKS: &[u8] = b"-._:+%#*?!(),=@$';";

/// Which bytes an id may hold. Ids are checked wherever one is read, so that this is asked often.
const ALLOWED: [bool; 256] = {
    let mut allowed = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < MARKS.len() {
        allowed[MARKS[at] as usize] = true;
        at += 1;
    }
    allowed
};

fn check(text: &str) -> Result<(), IdError> {
    if text.is_empty() {
        return Err(IdError::Empty);
    }
    if let Some(at) = text.bytes().position(|byte| !ALLOWED[usize::from(byte)])
        && let Some(bad) = text[at..].chars().next()
    {
        return Err(IdError::Character(bad));
    }
    if text.len() > ID_CHARS_MAX {
        return Err(IdError::TooLong(text.len()));
    }
    Ok(())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the text against `docs/protocol/limits.md` §4. Ids are case-sensitive.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text)?;
                Ok(Self(text.into()))
            }

            /// The id as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.as_ref().to_owned()
            }
        }
    };
}

id! {
    /// The id of a device, unique in its hub.
    DeviceId
}

id! {
    /// The id of a module, unique on its device. Ids that start with `$` are system modules.
    ModuleId
}

impl ModuleId {
    /// The module by whose key an edge device connects its children.
    pub fn edge_hub() -> Self {
        Self("$edgeHub".into())
    }

    /// The module that starts the others of an edge device.
    pub fn edge_agent() -> Self {
        Self("$edgeAgent".into())
    }

    /// The modules that an edge device is made with.
    pub fn of_edge_devices() -> [Self; 2] {
        [Self::edge_agent(), Self::edge_hub()]
    }

    /// Whether it is made and deleted with its device only.
    pub fn is_system(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// Who connects: a device, or one of its modules. Each is an identity of its own.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Debug)]
pub struct Identity {
    /// The device, or the device that the module belongs to.
    pub device: DeviceId,
    /// The module, when the identity is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<ModuleId>,
}

impl Identity {
    /// The identity of a device itself.
    pub fn device(device: DeviceId) -> Self {
        Self { device, module: None }
    }

    /// The identity of a module on a device.
    pub fn module(device: DeviceId, module: ModuleId) -> Self {
        Self { device, module: Some(module) }
    }

    /// Reads `device` or `device/module`, as an identity is shown.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Ok(match text.split_once('/') {
            None => Self::device(DeviceId::parse(text)?),
            Some((device, module)) => Self::module(DeviceId::parse(device)?, ModuleId::parse(module)?),
        })
    }

    /// Whether it is the other one, or the device of that module.
    pub fn begins(&self, other: &Self) -> bool {
        self == other || self.module.is_none() && self.device == other.device
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            None => write!(f, "{}", self.device),
            Some(module) => write!(f, "{}/{}", self.device, module),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_character_is_allowed() {
        assert!(DeviceId::parse("aZ09-._:+%#*?!(),=@$';").is_ok());
        assert!(DeviceId::parse(&"x".repeat(128)).is_ok());
    }

    #[test]
    fn what_is_not_an_id_is_named() {
        assert_eq!(DeviceId::parse(""), Err(IdError::Empty));
        assert_eq!(DeviceId::parse(&"x".repeat(129)), Err(IdError::TooLong(129)));
        for bad in ['/', ' ', '\\', '"', '<', '>', '[', ']', '{', '}', '^', '~', '|', '&', '`', 'é', '\0'] {
            assert_eq!(DeviceId::parse(&format!("a{bad}b")), Err(IdError::Character(bad)), "{bad:?}");
        }
    }
}
