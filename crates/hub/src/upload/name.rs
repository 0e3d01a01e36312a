//! Names of files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest name, in characters, the device's folder not counted.
pub const NAME_CHARS_MAX: usize = 1_024;

/// The name of a file as its device gave it: its folder is the device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BlobName(String);

impl BlobName {
    /// Checks a name; the text says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let chars = text.chars().count();
        if chars == 0 || chars > NAME_CHARS_MAX {
            return Err(format!("a file's name has 1 to {NAME_CHARS_MAX} characters, this one has {chars}"));
        }
        if let Some(bad) = text.chars().find(|c| c.is_control() || *c == '\\') {
            return Err(format!("the character {bad:?} is not allowed in a file's name"));
        }
        if text.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            let text = "a file's name does not begin or end with a slash, and no part of it between slashes is empty, \
                        `.` or `..`";
            return Err(text.to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for BlobName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text)
    }
}

impl From<BlobName> for String {
    fn from(name: BlobName) -> String {
        name.0
    }
}
