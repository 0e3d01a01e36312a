use super::reader::Reader;
use super::{Array, DEPTH_MAX, DecodeError, Described, Symbol, Value, code};

/// A value that borrows from the bytes it was read from (OASIS part 1, section 1.6).
///
/// Compound values stay encoded; their iterators report what is wrong inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// null
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
    Binary(&'a [u8]),
    /// string
    String(&'a str),
    /// symbol
    Symbol(&'a str),
    /// list
    List(ListRef<'a>),
    /// map
    Map(MapRef<'a>),
    /// array
    Array(ArrayRef<'a>),
    /// a value with a descriptor
    Described(DescribedRef<'a>),
}

impl<'a> ValueRef<'a> {
    /// The text of a string or a symbol.
    pub fn as_text(self) -> Option<&'a str> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Any integer type that fits into an `i64`.
    pub fn as_i64(self) -> Option<i64> {
        match self {
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

    /// Copies the value, and everything inside it, out of the bytes.
    pub fn to_value(self) -> Result<Value, DecodeError> {
        self.to_value_within(DEPTH_MAX)
    }

    fn to_value_within(self, depth: u8) -> Result<Value, DecodeError> {
        let inner = depth.checked_sub(1).ok_or(DecodeError::TooDeep { limit: DEPTH_MAX });
        Ok(match self {
            Self::Null => Value::Null,
            Self::Bool(v) => Value::Bool(v),
            Self::Ubyte(v) => Value::Ubyte(v),
            Self::Ushort(v) => Value::Ushort(v),
            Self::Uint(v) => Value::Uint(v),
            Self::Ulong(v) => Value::Ulong(v),
            Self::Byte(v) => Value::Byte(v),
            Self::Short(v) => Value::Short(v),
            Self::Int(v) => Value::Int(v),
            Self::Long(v) => Value::Long(v),
            Self::Float(v) => Value::Float(v),
            Self::Double(v) => Value::Double(v),
            Self::Decimal32(v) => Value::Decimal32(v),
            Self::Decimal64(v) => Value::Decimal64(v),
            Self::Decimal128(v) => Value::Decimal128(v),
            Self::Char(v) => Value::Char(v),
            Self::Timestamp(v) => Value::Timestamp(v),
            Self::Uuid(v) => Value::Uuid(v),
            Self::Binary(v) => Value::Binary(v.to_vec()),
            Self::String(v) => Value::String(v.to_owned()),
            Self::Symbol(v) => Value::Symbol(Symbol::from(v)),
            Self::List(list) => Value::List(owned(list.iter(), inner?)?),
            Self::Map(map) => {
                let inner = inner?;
                let mut entries = Vec::new();
                for entry in map.iter() {
                    let (key, value) = entry?;
                    entries.push((key.to_value_within(inner)?, value.to_value_within(inner)?));
                }
                Value::Map(entries)
            }
            Self::Array(array) => Value::Array(Array::trusted(owned(array.iter(), inner?)?)),
            Self::Described(described) => {
                let inner = inner?;
                Value::Described(Box::new(Described {
                    descriptor: described.descriptor()?.to_value_within(inner)?,
                    value: described.value()?.to_value_within(inner)?,
                }))
            }
        })
    }
}

fn owned<'a>(
    items: impl Iterator<Item = Result<ValueRef<'a>, DecodeError>>,
    depth: u8,
) -> Result<Vec<Value>, DecodeError> {
    let mut values = Vec::new();
    for item in items {
        values.push(item?.to_value_within(depth)?);
    }
    Ok(values)
}

/// A list that is still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRef<'a> {
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> ListRef<'a> {
    /// The elements. Bytes after the last one are reported as an error.
    pub fn iter(self) -> impl Iterator<Item = Result<ValueRef<'a>, DecodeError>> {
        let mut reader = Reader::new(self.bytes);
        let mut left = self.count;
        fused(move || {
            if left == 0 {
                return reader.expect_end().err().map(Err);
            }
            left -= 1;
            Some(reader.value())
        })
    }
}

/// A map that is still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MapRef<'a> {
    /// Keys and values together; always even.
    pub(super) count: u32,
    pub(super) bytes: &'a [u8],
}

impl<'a> MapRef<'a> {
    /// The entries, in the order in which they stand.
    pub fn iter(self) -> impl Iterator<Item = Result<(ValueRef<'a>, ValueRef<'a>), DecodeError>> {
        let mut reader = Reader::new(self.bytes);
        let mut left = self.count / 2;
        fused(move || {
            if left == 0 {
                return reader.expect_end().err().map(Err);
            }
            left -= 1;
            Some(reader.value().and_then(|key| Ok((key, reader.value()?))))
        })
    }

    /// The value of the first string or symbol key with this text. Broken entries end the search.
    pub fn get(self, key: &str) -> Option<ValueRef<'a>> {
        self.iter().map_while(Result::ok).find(|(k, _)| k.as_text() == Some(key)).map(|(_, value)| value)
    }

    /// How many entries the map announces.
    pub fn len(self) -> usize {
        self.count as usize / 2
    }

    /// Whether the map has no entry.
    pub fn is_empty(self) -> bool {
        self.count == 0
    }

    /// The encoded keys and values, without constructor, size and count.
    pub fn as_bytes(self) -> &'a [u8] {
        self.bytes
    }
}

/// An array that is still encoded: one constructor, then the bodies of the elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrayRef<'a> {
    pub(super) count: u32,
    /// Constructor and elements.
    pub(super) bytes: &'a [u8],
}

impl<'a> ArrayRef<'a> {
    /// The elements.
    pub fn iter(self) -> impl Iterator<Item = Result<ValueRef<'a>, DecodeError>> {
        let mut reader = Reader::new(self.bytes);
        let mut left = self.count;
        let mut constructor = None;
        fused(move || {
            if left == 0 {
                // An empty array may leave out the constructor or end after it.
                return if self.count == 0 { None } else { reader.expect_end().err().map(Err) };
            }
            left -= 1;
            let constructor = match constructor {
                Some(known) => known,
                None => match reader.array_constructor(self.count) {
                    Ok(read) => *constructor.insert(read),
                    Err(error) => return Some(Err(error)),
                },
            };
            Some(constructor.element(&mut reader))
        })
    }
}

/// Constructor of the elements of an array, with the descriptor when they are described.
#[derive(Debug, Clone, Copy)]
pub(super) struct ArrayConstructor<'a> {
    pub(super) descriptor: Option<&'a [u8]>,
    pub(super) code: u8,
}

impl<'a> ArrayConstructor<'a> {
    fn element(self, reader: &mut Reader<'a>) -> Result<ValueRef<'a>, DecodeError> {
        let Some(descriptor) = self.descriptor else {
            return reader.value_of(self.code);
        };
        let body = reader.span_of(self.code)?;
        Ok(ValueRef::Described(DescribedRef { descriptor, code: self.code, body }))
    }
}

/// A described value that is still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DescribedRef<'a> {
    pub(super) descriptor: &'a [u8],
    /// Constructor of the value, which in an array stands elsewhere than its body.
    pub(super) code: u8,
    pub(super) body: &'a [u8],
}

impl<'a> DescribedRef<'a> {
    /// The descriptor, in practice a ulong or a symbol.
    pub fn descriptor(self) -> Result<ValueRef<'a>, DecodeError> {
        Reader::new(self.descriptor).value()
    }

    /// The value that is described.
    pub fn value(self) -> Result<ValueRef<'a>, DecodeError> {
        let mut reader = Reader::new(self.body);
        if self.code == code::DESCRIBED { reader.described() } else { reader.value_of(self.code) }
    }
}

/// An iterator that ends after its first error.
fn fused<T>(
    mut next: impl FnMut() -> Option<Result<T, DecodeError>>,
) -> impl Iterator<Item = Result<T, DecodeError>> {
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed {
            return None;
        }
        let item = next();
        failed = matches!(item, Some(Err(_)));
        item
    })
}
