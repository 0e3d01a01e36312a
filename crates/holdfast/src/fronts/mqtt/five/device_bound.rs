//! How a device-bound message looks in MQTT 5: everything but its payload is a property.

use std::num::NonZeroU32;

use bytestring::ByteString;
use hub::inbox::Delivery;
use hub::properties::time_of;
use hub::telemetry::SystemProperty;
use jiff::Timestamp;
use wire::mqtt::five::PublishProperties;

/// The properties of a message that is sent now.
pub(crate) fn properties(delivery: &Delivery, now: Timestamp) -> PublishProperties {
    let Delivery { entry, content, .. } = delivery;
    let number = |name: &'static str, value: i128| (name.into(), value.to_string().into());
    let mut properties = PublishProperties {
        user_properties: vec![
            number("sequence-no", entry.sequence.into()),
            number("enqueued-time", entry.enqueued.as_millisecond().into()),
            number("delivery-count", entry.delivery_count().into()),
        ],
        ..PublishProperties::default()
    };
    for (property, value) in content.system.iter().filter(|(_, value)| !value.is_empty()) {
        let names = property.names();
        let text = ByteString::from(value.as_str());
        let user_property = match (property, names.user_property) {
            (SystemProperty::To, _) => continue,
            (SystemProperty::ContentType, _) => {
                properties.content_type = Some(text);
                continue;
            }
            (SystemProperty::Expiry, _) => {
                properties.message_expiry_interval = Some(seconds_left(entry.expires, now));
                continue;
            }
            (SystemProperty::CreationTime, Some(name)) => match time_of(value) {
                Some(time) => number(name, time.as_millisecond().into()),
                None => marked(names.amqp, text),
            },
            (_, Some(name)) => (name.into(), text),
            // The preview names no other.
            (_, None) => marked(names.amqp, text),
        };
        properties.user_properties.push(user_property);
    }
    // There is no null.
    let own =
        |(name, value): &(String, Option<String>)| marked(name, value.as_deref().unwrap_or_default().into());
    properties.user_properties.extend(content.application.iter().map(own));
    properties
}

fn marked(name: &str, value: ByteString) -> (ByteString, ByteString) {
    (format!("@{name}").into(), value)
}

/// 0 would say that it has expired.
fn seconds_left(expires: Timestamp, now: Timestamp) -> NonZeroU32 {
    let left = u32::try_from(expires.duration_since(now).as_secs()).unwrap_or_default();
    NonZeroU32::new(left).unwrap_or(NonZeroU32::MIN)
}
