use super::value_ref::{ArrayConstructor, ArrayRef, DescribedRef, ListRef, MapRef, ValueRef};
use super::{DecodeError, Fields, Symbol, Value, code};
use crate::amqp::descriptor;

/// Levels of nesting that are followed. Real peers need four: an error's info in a described list.
pub const DEPTH_MAX: u8 = 16;

/// Elements without a body (null, true, list0, …) take no bytes, so their number is bounded here:
/// seven bytes may otherwise ask for four billion of them.
const BODILESS_ELEMENTS_MAX: u32 = 16;

/// Reads values from a slice, front to back (OASIS part 1, section 1.2).
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// Reads one value; compound values stay encoded.
    pub fn value(&mut self) -> Result<ValueRef<'a>, DecodeError> {
        match self.u8()? {
            code::DESCRIBED => self.described(),
            constructor => self.value_of(constructor),
        }
    }

    /// Passes over one value and returns its bytes, constructor included.
    pub fn skip(&mut self) -> Result<&'a [u8], DecodeError> {
        self.skip_within(DEPTH_MAX)
    }

    /// Reads a described list, the shape of every performative and most other types.
    pub fn composite(&mut self) -> Result<Composite<'a>, DecodeError> {
        let descriptor = self.descriptor()?;
        match self.value()? {
            ValueRef::List(list) => {
                Ok(Composite { descriptor, fields: Reader::new(list.bytes), left: list.count })
            }
            _ => Err(DecodeError::WrongType { expected: "a described list" }),
        }
    }

    /// Reads the start of a described value and gives the code of its descriptor: the number, or the
    /// number that belongs to a symbol of the standard; `u64::MAX` for any other symbol.
    pub fn descriptor(&mut self) -> Result<u64, DecodeError> {
        if self.u8()? != code::DESCRIBED {
            return Err(DecodeError::WrongType { expected: "a described type" });
        }
        match self.value()? {
            ValueRef::Ulong(code) => Ok(code),
            ValueRef::Symbol(name) => Ok(descriptor::code_of(name).unwrap_or(u64::MAX)),
            _ => Err(DecodeError::WrongType { expected: "a ulong or symbol as descriptor" }),
        }
    }

    /// Fails when something is left.
    pub(super) fn expect_end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::TrailingBytes(self.bytes.len())) }
    }

    /// Reads a described value whose 0x00 is already consumed.
    pub(super) fn described(&mut self) -> Result<ValueRef<'a>, DecodeError> {
        let descriptor = self.skip()?;
        let code = self.u8()?;
        let body = self.span_of(code)?;
        Ok(ValueRef::Described(DescribedRef { descriptor, code, body }))
    }

    /// Reads the body that belongs to a constructor.
    pub(super) fn value_of(&mut self, constructor: u8) -> Result<ValueRef<'a>, DecodeError> {
        Ok(match constructor {
            code::NULL => ValueRef::Null,
            code::TRUE => ValueRef::Bool(true),
            code::FALSE => ValueRef::Bool(false),
            code::BOOLEAN => match self.u8()? {
                0 => ValueRef::Bool(false),
                1 => ValueRef::Bool(true),
                other => return Err(DecodeError::InvalidBoolean(other)),
            },
            code::UINT_ZERO => ValueRef::Uint(0),
            code::UINT_SMALL => ValueRef::Uint(self.u8()?.into()),
            code::UINT => ValueRef::Uint(u32::from_be_bytes(self.array()?)),
            code::ULONG_ZERO => ValueRef::Ulong(0),
            code::ULONG_SMALL => ValueRef::Ulong(self.u8()?.into()),
            code::ULONG => ValueRef::Ulong(u64::from_be_bytes(self.array()?)),
            code::UBYTE => ValueRef::Ubyte(self.u8()?),
            code::USHORT => ValueRef::Ushort(u16::from_be_bytes(self.array()?)),
            code::BYTE => ValueRef::Byte(i8::from_be_bytes(self.array()?)),
            code::SHORT => ValueRef::Short(i16::from_be_bytes(self.array()?)),
            code::INT_SMALL => ValueRef::Int(i8::from_be_bytes(self.array()?).into()),
            code::INT => ValueRef::Int(i32::from_be_bytes(self.array()?)),
            code::LONG_SMALL => ValueRef::Long(i8::from_be_bytes(self.array()?).into()),
            code::LONG => ValueRef::Long(i64::from_be_bytes(self.array()?)),
            code::FLOAT => ValueRef::Float(f32::from_be_bytes(self.array()?)),
            code::DOUBLE => ValueRef::Double(f64::from_be_bytes(self.array()?)),
            code::DECIMAL32 => ValueRef::Decimal32(self.array()?),
            code::DECIMAL64 => ValueRef::Decimal64(self.array()?),
            code::DECIMAL128 => ValueRef::Decimal128(self.array()?),
            code::CHAR => {
                let scalar = u32::from_be_bytes(self.array()?);
                ValueRef::Char(char::from_u32(scalar).ok_or(DecodeError::InvalidChar(scalar))?)
            }
            code::TIMESTAMP => ValueRef::Timestamp(i64::from_be_bytes(self.array()?)),
            code::UUID => ValueRef::Uuid(self.array()?),
            code::BINARY8 | code::BINARY32 => ValueRef::Binary(self.variable(constructor)?),
            code::STRING8 | code::STRING32 => {
                let text = std::str::from_utf8(self.variable(constructor)?);
                ValueRef::String(text.map_err(|_| DecodeError::NotUtf8)?)
            }
            code::SYMBOL8 | code::SYMBOL32 => {
                let bytes = self.variable(constructor)?;
                let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii());
                ValueRef::Symbol(text.ok_or(DecodeError::NotAscii)?)
            }
            code::LIST_EMPTY => ValueRef::List(ListRef { count: 0, bytes: &[] }),
            code::LIST8 | code::LIST32 => {
                let (count, bytes) = self.compound(constructor)?;
                ValueRef::List(ListRef { count, bytes })
            }
            code::MAP8 | code::MAP32 => {
                let (count, bytes) = self.compound(constructor)?;
                if count % 2 != 0 {
                    return Err(DecodeError::OddMap(count));
                }
                ValueRef::Map(MapRef { count, bytes })
            }
            code::ARRAY8 | code::ARRAY32 => {
                let mut body = Reader::new(self.variable(constructor)?);
                let count = body.count_of(constructor)?;
                ValueRef::Array(ArrayRef { count, bytes: body.bytes })
            }
            unknown => return Err(DecodeError::UnknownConstructor(unknown)),
        })
    }

    /// Passes over the body that belongs to a constructor and returns it. For a described value
    /// this is everything behind its 0x00.
    pub(super) fn span_of(&mut self, constructor: u8) -> Result<&'a [u8], DecodeError> {
        self.span_within(constructor, DEPTH_MAX)
    }

    /// Reads the constructor of an array's elements and checks that `count` of them can follow.
    pub(super) fn array_constructor(&mut self, count: u32) -> Result<ArrayConstructor<'a>, DecodeError> {
        let mut descriptor = None;
        let mut code = self.u8()?;
        if code == code::DESCRIBED {
            descriptor = Some(self.skip()?);
            code = self.u8()?;
        }
        let element_bytes_min: usize = match code >> 4 {
            0x4 => 0,
            0x5 | 0xa | 0xc | 0xe => 1,
            0x6 => 2,
            0x7 | 0xb | 0xd | 0xf => 4,
            0x8 => 8,
            0x9 => 16,
            _ => return Err(DecodeError::UnknownConstructor(code)),
        };
        let fits = match element_bytes_min {
            0 => count <= BODILESS_ELEMENTS_MAX,
            width => count as usize <= self.bytes.len() / width,
        };
        if !fits {
            return Err(DecodeError::CountTooLarge { count, bytes: self.bytes.len() });
        }
        Ok(ArrayConstructor { descriptor, code })
    }

    fn skip_within(&mut self, depth: u8) -> Result<&'a [u8], DecodeError> {
        let start = self.bytes;
        let constructor = self.u8()?;
        self.span_within(constructor, depth)?;
        Ok(&start[..start.len() - self.bytes.len()])
    }

    /// Sizes follow from the upper half of the constructor (OASIS part 1, section 1.2), so that only
    /// descriptors nest here; the inside of compound values is not looked at.
    fn span_within(&mut self, constructor: u8, depth: u8) -> Result<&'a [u8], DecodeError> {
        let width = match constructor >> 4 {
            0x0 if constructor == code::DESCRIBED => {
                let depth = depth.checked_sub(1).ok_or(DecodeError::TooDeep { limit: DEPTH_MAX })?;
                let start = self.bytes;
                self.skip_within(depth)?;
                self.skip_within(depth)?;
                return Ok(&start[..start.len() - self.bytes.len()]);
            }
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xa | 0xc | 0xe => {
                let size = *self.bytes.first().ok_or(DecodeError::Truncated)?;
                1 + usize::from(size)
            }
            0xb | 0xd | 0xf => {
                let size = *self.bytes.first_chunk::<4>().ok_or(DecodeError::Truncated)?;
                4usize.saturating_add(u32::from_be_bytes(size) as usize)
            }
            _ => return Err(DecodeError::UnknownConstructor(constructor)),
        };
        self.take(width)
    }

    fn compound(&mut self, constructor: u8) -> Result<(u32, &'a [u8]), DecodeError> {
        let mut body = Reader::new(self.variable(constructor)?);
        let count = body.count_of(constructor)?;
        // Every element takes at least its constructor byte.
        if count as usize > body.bytes.len() {
            return Err(DecodeError::CountTooLarge { count, bytes: body.bytes.len() });
        }
        Ok((count, body.bytes))
    }

    /// The bytes behind a size of one byte (0xa., 0xc., 0xe.) or four (0xb., 0xd., 0xf.).
    fn variable(&mut self, constructor: u8) -> Result<&'a [u8], DecodeError> {
        let size = self.count_of(constructor)?;
        self.take(size as usize)
    }

    /// A size or count, one or four bytes wide as the constructor says.
    fn count_of(&mut self, constructor: u8) -> Result<u32, DecodeError> {
        if constructor & 0x10 == 0 { Ok(self.u8()?.into()) } else { Ok(u32::from_be_bytes(self.array()?)) }
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(taken)
    }
}

/// The fields of a described list, read in order. Missing trailing fields read as null
/// (OASIS part 1, section 1.4), and fields that are too many are not looked at.
#[derive(Debug, Clone, Copy)]
pub struct Composite<'a> {
    descriptor: u64,
    fields: Reader<'a>,
    left: u32,
}

/// A method that reads one optional field of one primitive type.
macro_rules! primitive_field {
    ($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty, $expected:literal) => {
        $(#[$doc])*
        pub fn $name(&mut self) -> Result<Option<$type>, DecodeError> {
            match self.field()? {
                ValueRef::Null => Ok(None),
                ValueRef::$variant(value) => Ok(Some(value)),
                _ => Err(DecodeError::WrongType { expected: $expected }),
            }
        }
    };
}

impl<'a> Composite<'a> {
    /// The code of the descriptor, as [`Reader::descriptor`] gives it.
    pub fn descriptor(&self) -> u64 {
        self.descriptor
    }

    /// Checks which type this is.
    pub fn expect(self, descriptor: u64, expected: &'static str) -> Result<Self, DecodeError> {
        if self.descriptor == descriptor {
            Ok(self)
        } else {
            Err(DecodeError::UnexpectedType { expected, descriptor: self.descriptor })
        }
    }

    /// The next field, whatever its type.
    pub fn field(&mut self) -> Result<ValueRef<'a>, DecodeError> {
        if self.left == 0 {
            return Ok(ValueRef::Null);
        }
        self.left -= 1;
        self.fields.value()
    }

    /// The next field, if it is not null, as bytes to read something described from.
    pub fn raw(&mut self) -> Result<Option<Reader<'a>>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let bytes = self.fields.skip()?;
        Ok((bytes != [code::NULL]).then_some(Reader::new(bytes)))
    }

    primitive_field!(/** A boolean. */ bool, Bool, bool, "a boolean");
    primitive_field!(/** A ubyte. */ ubyte, Ubyte, u8, "a ubyte");
    primitive_field!(/** A ushort. */ ushort, Ushort, u16, "a ushort");
    primitive_field!(/** A uint. */ uint, Uint, u32, "a uint");
    primitive_field!(/** A ulong. */ ulong, Ulong, u64, "a ulong");
    primitive_field!(/** A timestamp in milliseconds. */ timestamp, Timestamp, i64, "a timestamp");
    primitive_field!(/** A binary. */ binary, Binary, &'a [u8], "a binary");
    primitive_field!(/** A map. */ map, Map, MapRef<'a>, "a map");

    /// A string. Symbols are taken too: peers confuse the two, and nothing here depends on it.
    pub fn text(&mut self) -> Result<Option<&'a str>, DecodeError> {
        match self.field()? {
            ValueRef::Null => Ok(None),
            ValueRef::String(text) | ValueRef::Symbol(text) => Ok(Some(text)),
            _ => Err(DecodeError::WrongType { expected: "a string" }),
        }
    }

    /// A string that is kept.
    pub fn string(&mut self) -> Result<Option<String>, DecodeError> {
        Ok(self.text()?.map(str::to_owned))
    }

    /// A symbol that is kept. Strings are taken too, unless a symbol cannot hold them.
    pub fn symbol(&mut self) -> Result<Option<Symbol>, DecodeError> {
        match self.text()? {
            Some(text) if !text.is_ascii() => Err(DecodeError::NotAscii),
            text => Ok(text.map(Symbol::from)),
        }
    }

    /// A field that may hold several symbols: null, one symbol, or an array of them.
    pub fn symbols(&mut self) -> Result<Vec<Symbol>, DecodeError> {
        match self.field()? {
            ValueRef::Null => Ok(Vec::new()),
            ValueRef::Symbol(one) => Ok(vec![Symbol::from(one)]),
            ValueRef::Array(array) => array
                .iter()
                .map(|item| match item? {
                    ValueRef::Symbol(text) => Ok(Symbol::from(text)),
                    _ => Err(DecodeError::WrongType { expected: "an array of symbols" }),
                })
                .collect(),
            _ => Err(DecodeError::WrongType { expected: "symbols" }),
        }
    }

    /// A map with symbols as keys.
    pub fn fields(&mut self) -> Result<Fields, DecodeError> {
        match self.map()? {
            Some(map) => Fields::read(map),
            None => Ok(Fields::default()),
        }
    }

    /// Any value that is kept; null when it is missing.
    pub fn any(&mut self) -> Result<Value, DecodeError> {
        self.field()?.to_value()
    }
}
