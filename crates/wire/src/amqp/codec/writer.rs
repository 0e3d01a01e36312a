use bytes::{BufMut, BytesMut};

use super::{Fields, Symbol, code};

/// Appends values to a buffer, each in its shortest encoding (OASIS part 1, section 1.6).
///
/// Lists and maps are opened with [`Writer::list`] or [`Writer::map`] and closed with
/// [`Writer::end`]; the writer counts nothing, so the caller names the number of elements there.
#[derive(Debug)]
pub struct Writer<'b> {
    pub(super) out: &'b mut BytesMut,
}

/// A list or map that is open for writing.
#[derive(Debug)]
#[must_use = "an open list or map has to be ended"]
pub struct Compound {
    /// Where the constructor stands.
    pub(super) start: usize,
    pub(super) wide: u8,
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

    /// Bytes that are already encoded.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    fn open(&mut self, narrow: u8, wide: u8) -> Compound {
        let start = self.out.len();
        self.out.put_slice(&[narrow, 0, 0]);
        Compound { start, wide }
    }

    pub(super) fn fixed(&mut self, constructor: u8, body: &[u8]) {
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

    pub(super) fn body32(&mut self, bytes: &[u8]) {
        self.out.put_slice(&wire_size(bytes.len()));
        self.out.put_slice(bytes);
    }
}

/// A length as the wire has it. Nothing longer than 4 GiB is ever encoded: messages are bounded
/// far below.
pub(super) fn wire_size(length: usize) -> [u8; 4] {
    debug_assert!(u32::try_from(length).is_ok(), "an encoding stays below 4 GiB");
    (length as u32).to_be_bytes()
}
