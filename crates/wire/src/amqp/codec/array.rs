use thiserror::Error;

use super::{Symbol, Value};

/// An array: values of one type (OASIS part 1, section 1.6.24).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Array(Vec<Value>);

/// The values given for an array are of different types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("an array takes values of one type only")]
pub struct MixedArray;

impl Array {
    /// Makes an array of values that all have one type and, when they are described, one descriptor.
    pub fn new(items: Vec<Value>) -> Result<Self, MixedArray> {
        let uniform = items.windows(2).all(|pair| same_constructor(&pair[0], &pair[1]));
        if uniform { Ok(Self(items)) } else { Err(MixedArray) }
    }

    /// An array of strings.
    pub fn of_strings<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().map(|text| Value::String(text.into())).collect())
    }

    /// An array of symbols.
    pub fn of_symbols(items: impl IntoIterator<Item = Symbol>) -> Self {
        Self(items.into_iter().map(Value::Symbol).collect())
    }

    /// Items that were read from an array and so share a constructor.
    pub(super) fn trusted(items: Vec<Value>) -> Self {
        Self(items)
    }

    /// The items.
    pub fn items(&self) -> &[Value] {
        &self.0
    }
}

fn same_constructor(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Described(a), Value::Described(b)) => {
            a.descriptor == b.descriptor && same_constructor(&a.value, &b.value)
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}
