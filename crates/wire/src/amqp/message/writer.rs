use bytes::BytesMut;

use super::{Header, Properties};
use crate::amqp::codec::{Value, ValueRef, Writer};
use crate::amqp::descriptor;

/// Encodes a message section by section, straight into an output buffer.
///
/// The order of the standard is: header, delivery-annotations, message-annotations, properties,
/// application-properties, body, footer. The caller keeps it.
#[derive(Debug)]
pub struct MessageWriter<'b> {
    w: Writer<'b>,
}

impl<'b> MessageWriter<'b> {
    /// Appends to `out`.
    pub fn new(out: &'b mut BytesMut) -> Self {
        Self { w: Writer::new(out) }
    }

    /// The header section.
    pub fn header(&mut self, header: &Header) {
        header.write(&mut self.w);
    }

    /// The delivery-annotations section; none when `entries` writes nothing.
    pub fn delivery_annotations(&mut self, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        self.map(descriptor::DELIVERY_ANNOTATIONS, KeyType::Symbol, entries);
    }

    /// The message-annotations section; none when `entries` writes nothing.
    pub fn message_annotations(&mut self, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        self.map(descriptor::MESSAGE_ANNOTATIONS, KeyType::Symbol, entries);
    }

    /// The properties section; none when nothing is set.
    pub fn properties(&mut self, properties: &Properties<'_>) {
        if *properties == Properties::default() {
            return;
        }
        properties.write(&mut self.w);
    }

    /// The application-properties section; none when `entries` writes nothing.
    pub fn application_properties(&mut self, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        self.map(descriptor::APPLICATION_PROPERTIES, KeyType::String, entries);
    }

    /// A data section.
    pub fn data(&mut self, content: &[u8]) {
        self.w.descriptor(descriptor::DATA);
        self.w.binary(content);
    }

    /// A data section that holds a complete message, as batches have it.
    pub fn data_message(&mut self, message: impl FnOnce(&mut MessageWriter<'_>)) {
        let mut encoded = BytesMut::new();
        message(&mut MessageWriter::new(&mut encoded));
        self.data(&encoded);
    }

    /// An amqp-value section.
    pub fn value(&mut self, value: &Value) {
        self.w.descriptor(descriptor::AMQP_VALUE);
        self.w.value(value);
    }

    /// An amqp-value section with a map of string keys.
    pub fn value_map(&mut self, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        self.w.descriptor(descriptor::AMQP_VALUE);
        write_map(&mut self.w, KeyType::String, entries);
    }

    /// Sections that are already encoded.
    pub fn encoded(&mut self, sections: &[u8]) {
        self.w.raw(sections);
    }

    fn map(&mut self, code: u64, keys: KeyType, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) {
        let start = self.w.position();
        self.w.descriptor(code);
        if write_map(&mut self.w, keys, entries) == 0 {
            self.w.truncate(start);
        }
    }
}

fn write_map<'b>(w: &mut Writer<'b>, keys: KeyType, entries: impl FnOnce(&mut MapWriter<'_, 'b>)) -> usize {
    let map = w.map();
    let mut writer = MapWriter { w: &mut *w, keys, entries: 0 };
    entries(&mut writer);
    let count = writer.entries;
    w.end(map, count * 2);
    count
}

/// Annotations have symbols as keys, application properties strings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum KeyType {
    Symbol,
    String,
}

/// Writes the entries of a map.
#[derive(Debug)]
pub struct MapWriter<'w, 'b> {
    w: &'w mut Writer<'b>,
    keys: KeyType,
    entries: usize,
}

/// A method that writes one entry of one primitive type.
macro_rules! entry {
    ($(#[$doc:meta])* $name:ident, $type:ty) => {
        $(#[$doc])*
        pub fn $name(&mut self, key: &str, value: $type) {
            self.key(key);
            self.w.$name(value);
        }
    };
}

impl MapWriter<'_, '_> {
    entry!(/** A string. */ string, &str);
    entry!(/** A symbol, which is ASCII. */ symbol, &str);
    entry!(/** A binary. */ binary, &[u8]);
    entry!(/** A boolean. */ bool, bool);
    entry!(/** A ubyte. */ ubyte, u8);
    entry!(/** An int. */ int, i32);
    entry!(/** A uint. */ uint, u32);
    entry!(/** A long. */ long, i64);
    entry!(/** A ulong. */ ulong, u64);
    entry!(/** Milliseconds since the Unix epoch. */ timestamp, i64);
    entry!(/** Any value that is kept elsewhere. */ value, &Value);
    entry!(/** Any value that is borrowed. */ value_ref, ValueRef<'_>);

    fn key(&mut self, key: &str) {
        self.entries += 1;
        match self.keys {
            KeyType::Symbol if key.is_ascii() => self.w.symbol(key),
            KeyType::Symbol | KeyType::String => self.w.string(key),
        }
    }
}
