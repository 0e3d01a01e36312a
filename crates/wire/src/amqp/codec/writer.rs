use bytes::{BufMut, BytesMut};

use super::{Array, Fields, Symbol, Value, ValueRef, code};

/// Appends values to a buffer, each in its shortest encoding (OASIS part 1, section 1.6).
///
/// Lists and maps are opened with [`Writer::list`] or [`Writer::map`] and closed with
/// [`Writer::end`]; the writer counts nothing, so the caller names the number of elements there.
#[derive(Debug)]
pub struct Writer<'b> {
    out: &'b mut BytesMut,
}

/// A list or map that is open for writing.
#[derive(Debug)]
#[must_use = "an open list or map has to be ended"]
pub struct Compound {
    /// Where the constructor stands.
    start: usize,
    wide: u8,
}

impl<'b> Writer<'b> {
    /// Appends to `out`.
    pub fn new(out: &'b mut BytesMut) -> Self {
        Self { out }
    }

    /// Bytes in the buffer so far, those of earlier writers included.
    pub fn position(&self) -> usize {
        self.out.len()
    }

    /// Takes back what was written behind `position`.
    pub fn truncate(&mut self, position: usize) {
        self.out.truncate(position);
    }

    /// null
    pub fn null(&mut self) {
        self.out.put_u8(code::NULL);
    }

    /// boolean
    pub fn bool(&mut self, value: bool) {
        self.out.put_u8(if value { code::TRUE } else { code::FALSE });
    }

    /// ubyte
    pub fn ubyte(&mut self, value: u8) {
        self.out.put_slice(&[code::UBYTE, value]);
    }

    /// ushort
    pub fn ushort(&mut self, value: u16) {
        self.out.put_u8(code::USHORT);
        self.out.put_u16(value);
    }

    /// uint
    pub fn uint(&mut self, value: u32) {
        match u8::try_from(value) {
            Ok(0) => self.out.put_u8(code::UINT_ZERO),
            Ok(small) => self.out.put_slice(&[code::UINT_SMALL, small]),
            Err(_) => {
                self.out.put_u8(code::UINT);
                self.out.put_u32(value);
            }
        }
    }

    /// ulong
    pub fn ulong(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(0) => self.out.put_u8(code::ULONG_ZERO),
            Ok(small) => self.out.put_slice(&[code::ULONG_SMALL, small]),
            Err(_) => {
                self.out.put_u8(code::ULONG);
                self.out.put_u64(value);
            }
        }
    }

    /// byte
    pub fn byte(&mut self, value: i8) {
        self.out.put_u8(code::BYTE);
        self.out.put_i8(value);
    }

    /// short
    pub fn short(&mut self, value: i16) {
        self.out.put_u8(code::SHORT);
        self.out.put_i16(value);
    }

    /// int
    pub fn int(&mut self, value: i32) {
        match i8::try_from(value) {
            Ok(small) => {
                self.out.put_u8(code::INT_SMALL);
                self.out.put_i8(small);
            }
            Err(_) => {
                self.out.put_u8(code::INT);
                self.out.put_i32(value);
            }
        }
    }

    /// long
    pub fn long(&mut self, value: i64) {
        match i8::try_from(value) {
            Ok(small) => {
                self.out.put_u8(code::LONG_SMALL);
                self.out.put_i8(small);
            }
            Err(_) => {
                self.out.put_u8(code::LONG);
                self.out.put_i64(value);
            }
        }
    }

    /// timestamp: milliseconds since the Unix epoch
    pub fn timestamp(&mut self, value: i64) {
        self.out.put_u8(code::TIMESTAMP);
        self.out.put_i64(value);
    }

    /// uuid, in network byte order
    pub fn uuid(&mut self, value: &[u8; 16]) {
        self.out.put_u8(code::UUID);
        self.out.put_slice(value);
    }

    /// binary
    pub fn binary(&mut self, value: &[u8]) {
        self.variable(code::BINARY8, code::BINARY32, value);
    }

    /// string
    pub fn string(&mut self, value: &str) {
        self.variable(code::STRING8, code::STRING32, value.as_bytes());
    }

    /// symbol; the caller gives ASCII
    pub fn symbol(&mut self, value: &str) {
        debug_assert!(value.is_ascii(), "a symbol is ASCII");
        self.variable(code::SYMBOL8, code::SYMBOL32, value.as_bytes());
    }

    /// A list without elements (list0).
    pub fn empty_list(&mut self) {
        self.out.put_u8(code::LIST_EMPTY);
    }

    /// Opens a list.
    pub fn list(&mut self) -> Compound {
        self.open(code::LIST8, code::LIST32)
    }

    /// Opens a map.
    pub fn map(&mut self) -> Compound {
        self.open(code::MAP8, code::MAP32)
    }

    /// Opens a list behind a descriptor, which is written as `00 53 xx`: one client of the field
    /// reads the code at that fixed place.
    pub fn composite(&mut self, descriptor: u64) -> Compound {
        self.descriptor(descriptor);
        self.list()
    }

    /// Writes a descriptor; its value follows.
    pub fn descriptor(&mut self, code: u64) {
        self.out.put_u8(code::DESCRIBED);
        self.ulong(code);
    }

    /// Closes a list or map of `count` elements (keys and values both count).
    pub fn end(&mut self, compound: Compound, count: usize) {
        let Compound { start, wide } = compound;
        // A narrow compound: constructor, size (which covers the count), count, elements.
        let elements = self.out.len() - start - 3;
        if let (Ok(size), Ok(count)) = (u8::try_from(elements + 1), u8::try_from(count)) {
            self.out[start + 1] = size;
            self.out[start + 2] = count;
            return;
        }
        // The wide header takes six bytes more; the elements move up once.
        self.out.put_bytes(0, 6);
        self.out.copy_within(start + 3..start + 3 + elements, start + 9);
        self.out[start] = wide;
        self.out[start + 1..start + 5].copy_from_slice(&wire_size(elements + 4));
        self.out[start + 5..start + 9].copy_from_slice(&wire_size(count));
    }

    /// A string, or null.
    pub fn opt_string(&mut self, value: Option<&str>) {
        self.optional(value, Self::string);
    }

    /// A symbol, or null.
    pub fn opt_symbol(&mut self, value: Option<&Symbol>) {
        self.optional(value, |w, symbol| w.symbol(symbol.as_str()));
    }

    /// A binary, or null.
    pub fn opt_binary(&mut self, value: Option<&[u8]>) {
        self.optional(value, Self::binary);
    }

    /// A boolean, or null.
    pub fn opt_bool(&mut self, value: Option<bool>) {
        self.optional(value, Self::bool);
    }

    /// A ubyte, or null.
    pub fn opt_ubyte(&mut self, value: Option<u8>) {
        self.optional(value, Self::ubyte);
    }

    /// A ushort, or null.
    pub fn opt_ushort(&mut self, value: Option<u16>) {
        self.optional(value, Self::ushort);
    }

    /// A uint, or null.
    pub fn opt_uint(&mut self, value: Option<u32>) {
        self.optional(value, Self::uint);
    }

    /// A ulong, or null.
    pub fn opt_ulong(&mut self, value: Option<u64>) {
        self.optional(value, Self::ulong);
    }

    /// A timestamp, or null.
    pub fn opt_timestamp(&mut self, value: Option<i64>) {
        self.optional(value, Self::timestamp);
    }

    /// Writes the value, or null when there is none.
    pub fn optional<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            Some(value) => write(self, value),
            None => self.null(),
        }
    }

    /// Several symbols as an array, even when there is only one; null when there is none.
    pub fn symbols(&mut self, symbols: &[Symbol]) {
        if symbols.is_empty() {
            return self.null();
        }
        self.array(code::SYMBOL32, symbols, |w, symbol| w.body32(symbol.as_str().as_bytes()));
    }

    /// A map with symbols as keys; null when it is empty.
    pub fn fields(&mut self, fields: &Fields) {
        if fields.is_empty() {
            return self.null();
        }
        let map = self.map();
        for (key, value) in fields {
            self.symbol(key.as_str());
            self.value(value);
        }
        self.end(map, fields.len() * 2);
    }

    /// Any value.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(v) => self.bool(*v),
            Value::Ubyte(v) => self.ubyte(*v),
            Value::Ushort(v) => self.ushort(*v),
            Value::Uint(v) => self.uint(*v),
            Value::Ulong(v) => self.ulong(*v),
            Value::Byte(v) => self.byte(*v),
            Value::Short(v) => self.short(*v),
            Value::Int(v) => self.int(*v),
            Value::Long(v) => self.long(*v),
            Value::Timestamp(v) => self.timestamp(*v),
            Value::Uuid(v) => self.uuid(v),
            Value::Binary(v) => self.binary(v),
            Value::String(v) => self.string(v),
            Value::Symbol(v) => self.symbol(v.as_str()),
            Value::List(items) => {
                let list = self.list();
                items.iter().for_each(|item| self.value(item));
                self.end(list, items.len());
            }
            Value::Map(entries) => {
                let map = self.map();
                for (key, value) in entries {
                    self.value(key);
                    self.value(value);
                }
                self.end(map, entries.len() * 2);
            }
            Value::Array(array) => self.array_of(array),
            Value::Described(described) => {
                self.out.put_u8(code::DESCRIBED);
                self.value(&described.descriptor);
                self.value(&described.value);
            }
            // These have one encoding only.
            Value::Float(_)
            | Value::Double(_)
            | Value::Decimal32(_)
            | Value::Decimal64(_)
            | Value::Decimal128(_)
            | Value::Char(_) => {
                self.out.put_u8(widest_code(value));
                self.widest_body(value);
            }
        }
    }

    /// Any value that is not copied first. A compound value goes out with the bytes it came with.
    pub fn value_ref(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.null(),
            ValueRef::Bool(v) => self.bool(v),
            ValueRef::Ubyte(v) => self.ubyte(v),
            ValueRef::Ushort(v) => self.ushort(v),
            ValueRef::Uint(v) => self.uint(v),
            ValueRef::Ulong(v) => self.ulong(v),
            ValueRef::Byte(v) => self.byte(v),
            ValueRef::Short(v) => self.short(v),
            ValueRef::Int(v) => self.int(v),
            ValueRef::Long(v) => self.long(v),
            ValueRef::Float(v) => self.fixed(code::FLOAT, &v.to_be_bytes()),
            ValueRef::Double(v) => self.fixed(code::DOUBLE, &v.to_be_bytes()),
            ValueRef::Decimal32(v) => self.fixed(code::DECIMAL32, &v),
            ValueRef::Decimal64(v) => self.fixed(code::DECIMAL64, &v),
            ValueRef::Decimal128(v) => self.fixed(code::DECIMAL128, &v),
            ValueRef::Char(v) => self.fixed(code::CHAR, &u32::from(v).to_be_bytes()),
            ValueRef::Timestamp(v) => self.timestamp(v),
            ValueRef::Uuid(v) => self.uuid(&v),
            ValueRef::Binary(v) => self.binary(v),
            ValueRef::String(v) => self.string(v),
            ValueRef::Symbol(v) => self.symbol(v),
            ValueRef::List(v) => {
                let list = self.list();
                self.raw(v.bytes);
                self.end(list, v.count as usize);
            }
            ValueRef::Map(v) => {
                let map = self.map();
                self.raw(v.bytes);
                self.end(map, v.count as usize);
            }
            ValueRef::Array(v) => {
                self.out.put_u8(code::ARRAY32);
                self.out.put_slice(&wire_size(v.bytes.len() + 4));
                self.out.put_u32(v.count);
                self.raw(v.bytes);
            }
            ValueRef::Described(v) => {
                self.out.put_u8(code::DESCRIBED);
                self.raw(v.descriptor);
                self.out.put_u8(v.code);
                self.raw(v.body);
            }
        }
    }

    /// Bytes that are already encoded.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    fn open(&mut self, narrow: u8, wide: u8) -> Compound {
        let start = self.out.len();
        self.out.put_slice(&[narrow, 0, 0]);
        Compound { start, wide }
    }

    fn fixed(&mut self, constructor: u8, body: &[u8]) {
        self.out.put_u8(constructor);
        self.out.put_slice(body);
    }

    fn variable(&mut self, narrow: u8, wide: u8, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(size) => {
                self.out.put_slice(&[narrow, size]);
                self.out.put_slice(bytes);
            }
            Err(_) => {
                self.out.put_u8(wide);
                self.body32(bytes);
            }
        }
    }

    fn body32(&mut self, bytes: &[u8]) {
        self.out.put_slice(&wire_size(bytes.len()));
        self.out.put_slice(bytes);
    }

    fn array<T>(&mut self, constructor: u8, items: &[T], write: impl FnMut(&mut Self, &T)) {
        self.array_behind(|w| w.out.put_u8(constructor), items, write);
    }

    fn array_of(&mut self, array: &Array) {
        let items = array.items();
        self.array_behind(
            |w| match items.first() {
                Some(first) => w.widest_constructor(first),
                None => w.out.put_u8(code::SYMBOL32),
            },
            items,
            Self::widest_body,
        );
    }

    fn array_behind<T>(
        &mut self,
        constructor: impl FnOnce(&mut Self),
        items: &[T],
        mut write: impl FnMut(&mut Self, &T),
    ) {
        let start = self.out.len();
        self.out.put_slice(&[code::ARRAY8, 0, 0]);
        constructor(self);
        items.iter().for_each(|item| write(self, item));
        // An array is laid out like a list as far as size and count go.
        self.end(Compound { start, wide: code::ARRAY32 }, items.len());
    }

    fn widest_constructor(&mut self, value: &Value) {
        if let Value::Described(described) = value {
            self.out.put_u8(code::DESCRIBED);
            self.value(&described.descriptor);
            self.widest_constructor(&described.value);
        } else {
            self.out.put_u8(widest_code(value));
        }
    }

    /// The body of a value as it stands behind [`widest_code`].
    fn widest_body(&mut self, value: &Value) {
        match value {
            Value::Null => {}
            Value::Bool(v) => self.out.put_u8((*v).into()),
            Value::Ubyte(v) => self.out.put_u8(*v),
            Value::Ushort(v) => self.out.put_u16(*v),
            Value::Uint(v) => self.out.put_u32(*v),
            Value::Ulong(v) => self.out.put_u64(*v),
            Value::Byte(v) => self.out.put_i8(*v),
            Value::Short(v) => self.out.put_i16(*v),
            Value::Int(v) => self.out.put_i32(*v),
            Value::Long(v) | Value::Timestamp(v) => self.out.put_i64(*v),
            Value::Float(v) => self.out.put_f32(*v),
            Value::Double(v) => self.out.put_f64(*v),
            Value::Decimal32(v) => self.out.put_slice(v),
            Value::Decimal64(v) => self.out.put_slice(v),
            Value::Decimal128(v) | Value::Uuid(v) => self.out.put_slice(v),
            Value::Char(v) => self.out.put_u32((*v).into()),
            Value::Binary(v) => self.body32(v),
            Value::String(v) => self.body32(v.as_bytes()),
            Value::Symbol(v) => self.body32(v.as_str().as_bytes()),
            Value::List(items) => self.wide_compound(items.len(), |w| {
                items.iter().for_each(|item| w.value(item));
            }),
            Value::Map(entries) => self.wide_compound(entries.len() * 2, |w| {
                for (key, value) in entries {
                    w.value(key);
                    w.value(value);
                }
            }),
            Value::Array(array) => self.wide_compound(array.items().len(), |w| {
                match array.items().first() {
                    Some(first) => w.widest_constructor(first),
                    None => w.out.put_u8(code::SYMBOL32),
                }
                array.items().iter().for_each(|item| w.widest_body(item));
            }),
            Value::Described(described) => self.widest_body(&described.value),
        }
    }

    fn wide_compound(&mut self, count: usize, write: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.out.put_bytes(0, 4);
        self.out.put_slice(&wire_size(count));
        write(self);
        let size = wire_size(self.out.len() - start - 4);
        self.out[start..start + 4].copy_from_slice(&size);
    }
}

/// The constructor that can hold every value of the type, as the elements of an array need it.
fn widest_code(value: &Value) -> u8 {
    match value {
        Value::Null => code::NULL,
        Value::Bool(_) => code::BOOLEAN,
        Value::Ubyte(_) => code::UBYTE,
        Value::Ushort(_) => code::USHORT,
        Value::Uint(_) => code::UINT,
        Value::Ulong(_) => code::ULONG,
        Value::Byte(_) => code::BYTE,
        Value::Short(_) => code::SHORT,
        Value::Int(_) => code::INT,
        Value::Long(_) => code::LONG,
        Value::Float(_) => code::FLOAT,
        Value::Double(_) => code::DOUBLE,
        Value::Decimal32(_) => code::DECIMAL32,
        Value::Decimal64(_) => code::DECIMAL64,
        Value::Decimal128(_) => code::DECIMAL128,
        Value::Char(_) => code::CHAR,
        Value::Timestamp(_) => code::TIMESTAMP,
        Value::Uuid(_) => code::UUID,
        Value::Binary(_) => code::BINARY32,
        Value::String(_) => code::STRING32,
        Value::Symbol(_) => code::SYMBOL32,
        Value::List(_) => code::LIST32,
        Value::Map(_) => code::MAP32,
        Value::Array(_) => code::ARRAY32,
        Value::Described(_) => code::DESCRIBED,
    }
}

/// A length as the wire has it. Nothing longer than 4 GiB is ever encoded: messages are bounded
/// far below.
fn wire_size(length: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(length).is_ok(), "an encoding stays below 4 GiB");
    (length as u32).to_be_bytes()
}
