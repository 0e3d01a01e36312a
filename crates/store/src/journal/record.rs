//! One message as bytes.
//!
//! ```text
//! record  bytes u32 (of what follows), flags u8,
//!         [source u8, device, [module], generation, [auth method], [model id]]   unless SENDER_BEFORE
//!         enqueued zigzag (milliseconds after the section's base time),
//!         n varint, n × (system property u8, value),
//!         n varint, n × (name, kind u8, value),
//!         body (the rest)
//! text    bytes varint, UTF-8
//! ```
//!
//! A record that says SENDER_BEFORE has the sender of the record before it in its section, and one that says
//! AUTH_BEFORE has the authentication method of the last record that wrote one: connections repeat both, and
//! together they are larger than many a message.

use std::sync::Arc;

use bytes::Bytes;
use hub::identity::{DeviceId, Identity, ModuleId};
use hub::telemetry::{Message, Millis, PropertyValue, Sender, Source, SystemProperty};

use super::codec::{DecodeError, Reader, put_blob, put_varint, put_zigzag};

const SENDER_BEFORE: u8 = 1;
const AUTH_BEFORE: u8 = 2;
const MODULE: u8 = 4;
const MODEL: u8 = 8;
const FLAGS: u8 = SENDER_BEFORE | AUTH_BEFORE | MODULE | MODEL;

/// The length in front of a record.
pub(super) const LENGTH_BYTES: usize = 4;

/// What a record may refer back to within its section, when writing.
#[derive(Debug, Default)]
pub(super) struct Before {
    sender: Option<Arc<Sender>>,
}

impl Before {
    pub(super) fn clear(&mut self) {
        self.sender = None;
    }
}

/// At least as many bytes as [`write`] will write, or `None` when this version has no form for the message.
pub(super) fn bytes_max(message: &Message) -> Option<usize> {
    let sender = &*message.sender;
    let texts = sender.identity.device.as_str().len()
        + sender.identity.module.as_ref().map_or(0, |module| module.as_str().len())
        + sender.generation.len()
        + sender.auth_method.len()
        + sender.model_id.as_ref().map_or(0, String::len);
    // The fixed part, ten bytes for each integer of variable length, and the values counted by their own rule.
    let bytes =
        128 + texts + 12 * message.system.len() + 24 * message.application.len() + message.metered_bytes();
    let known = message.application.iter().all(|(_, value)| kind(value).is_some());
    (known && bytes <= RECORD_BYTES_MAX).then_some(bytes)
}

/// No record is longer. The hub's own limit is far below; this one keeps the lengths on disk in range.
const RECORD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Appends one message, for which [`bytes_max`] gave a number, to a section whose base time this is.
pub(super) fn write(out: &mut Vec<u8>, message: &Message, base: Millis, before: &mut Before) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write_sender(out, &message.sender, before);
    put_zigzag(out, message.enqueued.wrapping_sub(base));
    put_varint(out, message.system.len() as u64);
    for (property, value) in &message.system {
        out.push(*property as u8);
        put_blob(out, value.as_bytes());
    }
    put_varint(out, message.application.len() as u64);
    for (name, value) in &message.application {
        put_blob(out, name.as_bytes());
        write_value(out, value);
    }
    out.extend_from_slice(&message.body);
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

fn write_sender(out: &mut Vec<u8>, sender: &Arc<Sender>, before: &mut Before) {
    if before.sender.as_ref().is_some_and(|last| Arc::ptr_eq(last, sender)) {
        out.push(SENDER_BEFORE);
        return;
    }
    let same_auth = before.sender.as_ref().is_some_and(|last| last.auth_method == sender.auth_method);
    let mut flags = 0;
    flags |= if same_auth { AUTH_BEFORE } else { 0 };
    flags |= if sender.identity.module.is_some() { MODULE } else { 0 };
    flags |= if sender.model_id.is_some() { MODEL } else { 0 };
    out.push(flags);
    out.push(source_code(sender.source));
    put_blob(out, sender.identity.device.as_str().as_bytes());
    if let Some(module) = &sender.identity.module {
        put_blob(out, module.as_str().as_bytes());
    }
    put_blob(out, sender.generation.as_bytes());
    if !same_auth {
        put_blob(out, sender.auth_method.as_bytes());
    }
    if let Some(model) = &sender.model_id {
        put_blob(out, model.as_bytes());
    }
    before.sender = Some(Arc::clone(sender));
}

/// The number of a source on disk: never reuse one.
fn source_code(source: Source) -> u8 {
    match source {
        Source::Telemetry => 1,
        Source::TwinChange => 2,
        Source::DeviceLifecycle => 3,
        Source::DeviceConnectionState => 4,
    }
}

fn read_source(code: u8) -> Result<Source, DecodeError> {
    match code {
        1 => Ok(Source::Telemetry),
        2 => Ok(Source::TwinChange),
        3 => Ok(Source::DeviceLifecycle),
        4 => Ok(Source::DeviceConnectionState),
        code => Err(DecodeError::Unknown { what: "message source", code: code.into() }),
    }
}

const TEXT: u8 = 1;
const NULL: u8 = 2;
const FALSE: u8 = 3;
const TRUE: u8 = 4;
const LONG: u8 = 5;
const DOUBLE: u8 = 6;
const TIMESTAMP: u8 = 7;
const BINARY: u8 = 8;

/// The number of a value's kind on disk: never reuse one. `None` for a kind that this version does not know.
fn kind(value: &PropertyValue) -> Option<u8> {
    Some(match value {
        PropertyValue::Text(_) => TEXT,
        PropertyValue::Null => NULL,
        PropertyValue::Bool(false) => FALSE,
        PropertyValue::Bool(true) => TRUE,
        PropertyValue::Long(_) => LONG,
        PropertyValue::Double(_) => DOUBLE,
        PropertyValue::Timestamp(_) => TIMESTAMP,
        PropertyValue::Binary(_) => BINARY,
        _ => return None,
    })
}

fn write_value(out: &mut Vec<u8>, value: &PropertyValue) {
    out.push(kind(value).unwrap_or(NULL));
    match value {
        PropertyValue::Text(text) => put_blob(out, text.as_bytes()),
        PropertyValue::Long(value) | PropertyValue::Timestamp(value) => put_zigzag(out, *value),
        PropertyValue::Double(value) => out.extend_from_slice(&value.to_bits().to_le_bytes()),
        PropertyValue::Binary(value) => put_blob(out, value),
        _ => {}
    }
}

fn read_value(reader: &mut Reader) -> Result<PropertyValue, DecodeError> {
    Ok(match reader.u8()? {
        TEXT => PropertyValue::Text(reader.text()?),
        NULL => PropertyValue::Null,
        FALSE => PropertyValue::Bool(false),
        TRUE => PropertyValue::Bool(true),
        LONG => PropertyValue::Long(reader.zigzag()?),
        DOUBLE => PropertyValue::Double(f64::from_bits(reader.u64()?)),
        TIMESTAMP => PropertyValue::Timestamp(reader.zigzag()?),
        BINARY => PropertyValue::Binary(reader.blob()?),
        code => return Err(DecodeError::Unknown { what: "kind of property value", code: code.into() }),
    })
}

/// A record of which the sender and the time were looked at, and nothing else yet.
#[derive(Debug)]
pub(super) struct Glance {
    /// When the hub received the message.
    pub(super) enqueued: Millis,
    rest: Reader,
}

/// The senders seen so far in a section, when reading. They are decoded only for events that are wanted.
#[derive(Debug, Default)]
pub(super) struct Senders {
    written: Option<Written>,
    decoded: Option<Arc<Sender>>,
}

#[derive(Debug, Clone)]
struct Written {
    source: u8,
    device: Bytes,
    module: Option<Bytes>,
    generation: Bytes,
    auth: Bytes,
    model: Option<Bytes>,
}

impl Senders {
    fn pass(&mut self, reader: &mut Reader) -> Result<(), DecodeError> {
        let flags = reader.u8()?;
        if flags & !FLAGS != 0 {
            return Err(DecodeError::Unknown { what: "record flags", code: flags.into() });
        }
        if flags & SENDER_BEFORE != 0 {
            return if self.written.is_some() { Ok(()) } else { Err(DecodeError::NoSender) };
        }
        let source = reader.u8()?;
        let device = reader.blob()?;
        let module = if flags & MODULE != 0 { Some(reader.blob()?) } else { None };
        let generation = reader.blob()?;
        let auth = match &self.written {
            Some(before) if flags & AUTH_BEFORE != 0 => before.auth.clone(),
            None if flags & AUTH_BEFORE != 0 => return Err(DecodeError::NoSender),
            _ => reader.blob()?,
        };
        let model = if flags & MODEL != 0 { Some(reader.blob()?) } else { None };
        self.decoded = None;
        self.written = Some(Written { source, device, module, generation, auth, model });
        Ok(())
    }

    fn current(&mut self) -> Result<Arc<Sender>, DecodeError> {
        if let Some(sender) = &self.decoded {
            return Ok(Arc::clone(sender));
        }
        let sender = Arc::new(self.written.as_ref().ok_or(DecodeError::NoSender)?.decode()?);
        self.decoded = Some(Arc::clone(&sender));
        Ok(sender)
    }
}

impl Written {
    fn decode(&self) -> Result<Sender, DecodeError> {
        let module = match &self.module {
            Some(module) => Some(ModuleId::parse(text(module)?).map_err(|_| DecodeError::Id)?),
            None => None,
        };
        Ok(Sender {
            identity: Identity {
                device: DeviceId::parse(text(&self.device)?).map_err(|_| DecodeError::Id)?,
                module,
            },
            generation: text(&self.generation)?.to_owned(),
            auth_method: text(&self.auth)?.to_owned(),
            source: read_source(self.source)?,
            model_id: self.model.as_ref().map(|model| text(model).map(str::to_owned)).transpose()?,
        })
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)
}

/// Reads the head of a record (without its length) and remembers its sender.
pub(super) fn glance(record: Bytes, base: Millis, senders: &mut Senders) -> Result<Glance, DecodeError> {
    let mut rest = Reader::new(record);
    senders.pass(&mut rest)?;
    let enqueued = base.wrapping_add(rest.zigzag()?);
    Ok(Glance { enqueued, rest })
}

impl Glance {
    /// Reads what is left of the record last glanced at. The message gets a copy of its bytes: a reader that keeps
    /// one small event must not keep a whole batch with it.
    pub(super) fn read(self, senders: &mut Senders) -> Result<Message, DecodeError> {
        let Self { enqueued, rest } = self;
        let mut rest = Reader::new(Bytes::copy_from_slice(&rest.rest()));
        let sender = senders.current()?;
        let mut system = Vec::new();
        for _ in 0..rest.varint()? {
            system.push((system_property(rest.u8()?)?, rest.text()?));
        }
        let mut application = Vec::new();
        for _ in 0..rest.varint()? {
            application.push((rest.text()?, read_value(&mut rest)?));
        }
        Ok(Message { enqueued, sender, system, application, body: rest.rest() })
    }
}

fn system_property(code: u8) -> Result<SystemProperty, DecodeError> {
    SystemProperty::ALL
        .into_iter()
        .find(|property| *property as u8 == code)
        .ok_or(DecodeError::Unknown { what: "system property", code: code.into() })
}
