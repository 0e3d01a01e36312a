use std::borrow::{Borrow, Cow};
use std::fmt;

/// A symbol: ASCII text from a constrained domain (OASIS part 1, section 1.6.21).
///
/// Symbols made from constants do not allocate.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Cow<'static, str>);

impl Symbol {
    /// A symbol from a constant of the caller, which has to be ASCII.
    pub const fn from_static(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Symbol {
    /// Characters outside ASCII become `?`: a symbol cannot carry them.
    fn from(text: &str) -> Self {
        if text.is_ascii() {
            Self(Cow::Owned(text.to_owned()))
        } else {
            Self(Cow::Owned(text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect()))
        }
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Symbol {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Symbol {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ":{}", self.0)
    }
}
