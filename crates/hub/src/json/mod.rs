//! JSON as clients send it: read so that nothing becomes something else on the way in. A number that would be rounded is
//! refused, a member that comes twice too, and one that nobody reads is named.

mod scan;
mod shape;

use serde_json::Value;
use serde_json::value::RawValue;

use self::scan::scan;
pub use self::shape::Shape;
use crate::decision::cut;
use crate::error::{HubError, HubErrorCode};

/// Why a text is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrongJson {
    /// It is no JSON.
    #[error("The body is not JSON: {0}")]
    Syntax(String),
    /// A whole number that 64 bits do not hold.
    #[error(
        "`{path}` is {number}, a whole number lies between -9223372036854775808 and 18446744073709551615"
    )]
    Integer {
        /// The path of the member.
        path: String,
        /// The number as it was written.
        number: String,
    },
    /// A number that no 64-bit floating-point number is near to.
    #[error(
        "`{path}` is {number}, a number lies between -1.797e308 and 1.797e308 and is 0 or not below 4.9e-324"
    )]
    Float {
        /// The path of the member.
        path: String,
        /// The number as it was written.
        number: String,
    },
    /// A member that stands in its object twice.
    #[error("`{path}` comes twice")]
    Twice {
        /// The path of the second one.
        path: String,
    },
    /// A member that nobody reads.
    #[error("`{path}` is no member that is read here; those are {known}")]
    Unknown {
        /// The path of the member.
        path: String,
        /// The members that are read there.
        known: String,
    },
}

impl WrongJson {
    /// The same about what lies below a path.
    #[must_use]
    pub fn below(self, root: &str) -> Self {
        let longer = |path: String| if path.is_empty() { root.to_owned() } else { format!("{root}.{path}") };
        match self {
            Self::Syntax(problem) => Self::Syntax(problem),
            Self::Integer { path, number } => Self::Integer { path: longer(path), number },
            Self::Float { path, number } => Self::Float { path: longer(path), number },
            Self::Twice { path } => Self::Twice { path: longer(path) },
            Self::Unknown { path, known } => Self::Unknown { path: longer(path), known },
        }
    }
}

impl From<WrongJson> for HubError {
    fn from(error: WrongJson) -> Self {
        let code = match error {
            WrongJson::Syntax(_) => HubErrorCode::IotHubFormatError,
            WrongJson::Integer { .. }
            | WrongJson::Float { .. }
            | WrongJson::Twice { .. }
            | WrongJson::Unknown { .. } => HubErrorCode::ArgumentInvalid,
        };
        Self::new(code, error.to_string())
    }
}

/// Reads a document that may hold what it likes. Of two members of one name the last one counts, as with Azure.
pub fn read(text: &[u8]) -> Result<Value, WrongJson> {
    let text = without_mark(text);
    scan(text, false)?;
    parse(text)
}

/// Reads a body whose members mean something: each stands in it once, and the names that the shape knows are read
/// without regard to case.
pub fn read_body(text: &[u8], shape: &Shape) -> Result<Value, WrongJson> {
    let text = without_mark(text);
    scan(text, true)?;
    shape.fold(parse(text)?)
}

/// The members of an object as they were written, each with the name that is known.
pub fn members_of<'a>(
    text: &'a [u8],
    known: &'static [&'static str],
) -> Result<Vec<(&'static str, &'a RawValue)>, WrongJson> {
    let written: Vec<(String, &RawValue)> = parse::<scan::Written<'_>>(without_mark(text))?.0;
    let mut members: Vec<(&'static str, &RawValue)> = Vec::with_capacity(written.len());
    for (name, value) in written {
        let Some(name) = shape::known_name(known.iter().copied(), &name) else {
            return Err(WrongJson::Unknown { path: cut(&name), known: known.join(", ") });
        };
        if members.iter().any(|(have, _)| *have == name) {
            return Err(WrongJson::Twice { path: name.to_owned() });
        }
        members.push((name, value));
    }
    Ok(members)
}

fn parse<'a, T: serde::Deserialize<'a>>(text: &'a [u8]) -> Result<T, WrongJson> {
    serde_json::from_slice(text).map_err(|error| WrongJson::Syntax(error.to_string()))
}

fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
}

#[cfg(test)]
mod tests;
