use super::{Array, Fields, Symbol};

/// A value that owns its content (OASIS part 1, section 1.6).
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// null
    #[default]
    Null,
    /// boolean
    Bool(bool),
    /// ubyte
    Ubyte(u8),
    /// ushort
    Ushort(u16),
    /// uint
    Uint(u32),
    /// ulong
    Ulong(u64),
    /// byte
    Byte(i8),
    /// short
    Short(i16),
    /// int
    Int(i32),
    /// long
    Long(i64),
    /// float
    Float(f32),
    /// double
    Double(f64),
    /// decimal32, as its bytes
    Decimal32([u8; 4]),
    /// decimal64, as its bytes
    Decimal64([u8; 8]),
    /// decimal128, as its bytes
    Decimal128([u8; 16]),
    /// char
    Char(char),
    /// timestamp: milliseconds since the Unix epoch
    Timestamp(i64),
    /// uuid, in network byte order
    Uuid([u8; 16]),
    /// binary
    Binary(Vec<u8>),
    /// string
    String(String),
    /// symbol
    Symbol(Symbol),
    /// list
    List(Vec<Value>),
    /// map, in the order of the wire
    Map(Vec<(Value, Value)>),
    /// array
    Array(Array),
    /// a value with a descriptor
    Described(Box<Described>),
}

/// A value with a descriptor (OASIS part 1, section 1.1.2).
#[derive(Debug, Clone, PartialEq)]
pub struct Described {
    /// What the value means, in practice a ulong or a symbol.
    pub descriptor: Value,
    /// The value.
    pub value: Value,
}

impl Value {
    /// The text of a string or a symbol.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    /// Any integer type that fits into an `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => n.try_into().ok(),
            Self::Byte(n) => Some(n.into()),
            Self::Short(n) => Some(n.into()),
            Self::Int(n) => Some(n.into()),
            Self::Long(n) => Some(n),
            _ => None,
        }
    }

    /// The value behind a descriptor, or this one.
    pub fn undescribed(&self) -> &Self {
        match self {
            Self::Described(described) => described.value.undescribed(),
            plain => plain,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<Symbol> for Value {
    fn from(symbol: Symbol) -> Self {
        Self::Symbol(symbol)
    }
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Map(fields.into_iter().map(|(key, value)| (Self::Symbol(key), value)).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
#[path = "value_tests.rs"]
mod tests;
