use bytes::BufMut;

use super::writer::{Compound, Writer, wire_size};
use super::{Array, Value, ValueRef, code};

impl Writer<'_> {
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

    pub(super) fn array<T>(&mut self, constructor: u8, items: &[T], write: impl FnMut(&mut Self, &T)) {
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
