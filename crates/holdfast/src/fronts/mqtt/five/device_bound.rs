//! How a device-bound message looks in MQTT 5: everything but its payload is a property.

use bytestring::ByteString;
use hub::inbox::Delivery;
use hub::telemetry::SystemProperty;
use wire::mqtt::five::PublishProperties;

/// The properties of a message.
pub(crate) fn properties(delivery: &Delivery) -> PublishProperties {
    let Delivery { entry, content, .. } = delivery;
    let system = |wanted: SystemProperty| {
        let found = content.system.iter().find(|(property, value)| *property == wanted && !value.is_empty());
        found.map(|(_, value)| ByteString::from(value.as_str()))
    };
    let number = |name: &'static str, value: i128| (name.into(), value.to_string().into());
    let mut user_properties = vec![
        number("sequence-no", entry.sequence.into()),
        number("enqueued-time", entry.enqueued.as_millisecond().into()),
        number("delivery-count", entry.delivery_count().into()),
    ];
    let created = system(SystemProperty::CreationTime).and_then(|text| text.parse::<jiff::Timestamp>().ok());
    user_properties.extend(created.map(|time| number("creation-time", time.as_millisecond().into())));
    for (name, property) in [
        ("message-id", SystemProperty::MessageId),
        ("user-id", SystemProperty::UserId),
        ("correlation-id", SystemProperty::CorrelationId),
        ("content-encoding", SystemProperty::ContentEncoding),
    ] {
        user_properties.extend(system(property).map(|value| (name.into(), value)));
    }
    let own = |(name, value): &(String, String)| (format!("@{name}").into(), value.as_str().into());
    user_properties.extend(content.application.iter().map(own));
    PublishProperties {
        content_type: system(SystemProperty::ContentType),
        user_properties,
        ..PublishProperties::default()
    }
}
