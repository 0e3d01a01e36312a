//! An event of the log as an AMQP message (`docs/protocol/event-hubs-endpoint.md` §7).

use bytestring::ByteString;
use hub::ports::event_log::{Bounds, StoredEvent};
use hub::properties::{Place, time_of};
use hub::telemetry::{PropertyValue, Source, SystemProperty};
use jiff::Timestamp;
use wire::amqp::message::{MapWriter, MessageId, MessageWriter, Properties};

/// Writes an event. `runtime` is the end of the partition, for readers that want to know how far behind they are.
pub(super) fn write(w: &mut MessageWriter<'_>, event: &StoredEvent, runtime: Option<(Bounds, i64)>) {
    let (message, sender) = (&event.message, &event.message.sender);
    if let Some((bounds, now)) = runtime {
        w.delivery_annotations(|map| {
            map.long("last_enqueued_sequence_number", last_sequence(&bounds));
            map.string("last_enqueued_offset", &last_offset(&bounds));
            map.timestamp("last_enqueued_time_utc", bounds.last_enqueued);
            map.timestamp("runtime_info_retrieval_time_utc", now);
        });
    }
    let system = |wanted: SystemProperty| {
        message.system.iter().find(|(property, _)| *property == wanted).map(|(_, value)| &**value)
    };
    w.message_annotations(|map| {
        map.long("x-opt-sequence-number", as_long(event.sequence));
        map.string("x-opt-offset", &event.offset.to_string());
        map.timestamp("x-opt-enqueued-time", event.stored);
        map.string("iothub-connection-device-id", sender.identity.device.as_str());
        if let Some(module) = &sender.identity.module {
            map.string("iothub-connection-module-id", module.as_str());
        }
        if sender.source == Source::Telemetry {
            map.string("iothub-connection-auth-method", &sender.auth_method);
            map.string("iothub-connection-auth-generation-id", &sender.generation);
        }
        map.timestamp("iothub-enqueuedtime", message.enqueued);
        map.string("iothub-message-source", sender.source.as_str());
        if let Some(model) = &sender.model_id {
            map.string("dt-dataschema", model);
        }
        write_named(map, &message.system, Place::Annotation);
    });
    w.properties(&Properties {
        // Texts, whatever they look like: the Python SDK decodes them as such.
        message_id: system(SystemProperty::MessageId).map(MessageId::String),
        correlation_id: system(SystemProperty::CorrelationId).map(MessageId::String),
        user_id: system(SystemProperty::UserId).map(str::as_bytes),
        to: system(SystemProperty::To),
        content_type: system(SystemProperty::ContentType),
        content_encoding: system(SystemProperty::ContentEncoding),
        absolute_expiry_time: system(SystemProperty::Expiry).and_then(milliseconds),
        ..Properties::default()
    });
    w.application_properties(|map| {
        write_named(map, &message.system, Place::Application);
        for (name, value) in &message.application {
            write_value(map, name, value);
        }
    });
    w.data(&message.body);
}

/// Writes the system properties that stand here in the stream.
fn write_named(map: &mut MapWriter<'_, '_>, system: &[(SystemProperty, ByteString)], place: Place) {
    for (property, value) in system {
        let names = property.names();
        if names.in_stream == place {
            map.string(names.amqp, value);
        }
    }
}

fn write_value(map: &mut MapWriter<'_, '_>, name: &str, value: &PropertyValue) {
    match value {
        PropertyValue::Text(text) => map.string(name, text),
        PropertyValue::Bool(value) => map.bool(name, *value),
        PropertyValue::Long(value) => map.long(name, *value),
        PropertyValue::Double(value) => map.value(name, &wire::amqp::codec::Value::Double(*value)),
        PropertyValue::Timestamp(value) => map.timestamp(name, *value),
        PropertyValue::Binary(bytes) => map.binary(name, bytes),
        _ => map.value(name, &wire::amqp::codec::Value::Null),
    }
}

/// The sequence number of the last event ever, −1 when there was none.
pub(super) fn last_sequence(bounds: &Bounds) -> i64 {
    as_long(bounds.next_sequence) - 1
}

/// The offset of the last event ever, `-1` when there was none.
pub(super) fn last_offset(bounds: &Bounds) -> String {
    bounds.last_offset.map_or_else(|| "-1".to_owned(), |offset| offset.to_string())
}

pub(super) fn as_long(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn milliseconds(text: &str) -> Option<i64> {
    time_of(text).map(Timestamp::as_millisecond)
}
