use thiserror::Error;

/// Why bytes of the peer are not what the standard allows at this place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end inside a value.
    #[error("the bytes end inside a value")]
    Truncated,
    /// A constructor byte that OASIS part 1, section 1.6 does not define.
    #[error("{0:#04x} is not the constructor of any type")]
    UnknownConstructor(u8),
    /// A value of another type than this place takes.
    #[error("expected {expected}")]
    WrongType {
        /// The type that would have been right, in the standard's words.
        expected: &'static str,
    },
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A symbol with bytes outside ASCII.
    #[error("a symbol is not ASCII")]
    NotAscii,
    /// A char that is no Unicode scalar value.
    #[error("{0:#x} is not a Unicode character")]
    InvalidChar(u32),
    /// A boolean (0x56) whose byte is neither 0 nor 1.
    #[error("{0:#04x} is neither true nor false")]
    InvalidBoolean(u8),
    /// A list, map or array that announces more elements than its bytes can hold.
    #[error("{count} elements do not fit into {bytes} bytes")]
    CountTooLarge {
        /// Elements announced.
        count: u32,
        /// Bytes that follow the count.
        bytes: usize,
    },
    /// A map with a key but no value at its end.
    #[error("a map holds an odd number of elements ({0})")]
    OddMap(u32),
    /// Bytes are left after the announced elements.
    #[error("{0} bytes are left after the last element")]
    TrailingBytes(usize),
    /// Values nested deeper than this decoder follows.
    #[error("values are nested more than {limit} deep")]
    TooDeep {
        /// Levels allowed.
        limit: u8,
    },
    /// A mandatory field is null or missing.
    #[error("the mandatory field `{0}` is missing")]
    MissingField(&'static str),
    /// A field holds a value that the standard does not define.
    #[error("the field `{0}` holds a value that is not defined")]
    InvalidField(&'static str),
    /// A described type that may not stand here.
    #[error("the described type {descriptor:#x} may not stand where {expected} is expected")]
    UnexpectedType {
        /// What would have been right.
        expected: &'static str,
        /// The numeric descriptor found; `u64::MAX` for a symbol that is not known.
        descriptor: u64,
    },
    /// The same section of a message occurs twice.
    #[error("the section `{0}` occurs twice")]
    RepeatedSection(&'static str),
    /// Body sections of different kinds in one message.
    #[error("the body mixes data, sequence and value sections")]
    MixedBody,
}
