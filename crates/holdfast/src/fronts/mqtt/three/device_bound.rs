//! How a device-bound message looks as a topic (`docs/protocol/device-mqtt.md` §5).

use hub::identity::Identity;
use hub::inbox::Content;
use hub::properties::time_of;
use hub::record::Session;
use hub::telemetry::SystemProperty;
use hub::twin::time_text;
use wire::mqtt::QoS;

use super::address::matches;
use crate::fronts::escape::escaped;

/// The quality of service at which a session is to get device-bound messages; `None` when it is not to get them.
pub(crate) fn granted(session: &Session, identity: &Identity) -> Option<QoS> {
    let topic = format!("{}x", root(identity));
    let granted = session.subscriptions.iter().filter(|have| matches(&have.filter, &topic));
    granted.map(|have| have.qos).max().map(|qos| match qos {
        0 => QoS::AtMostOnce,
        _ => QoS::AtLeastOnce,
    })
}

/// The topic of a message: its properties are in it, the system's first (Java reads from the first `%24` on).
pub(crate) fn topic(identity: &Identity, content: &Content) -> String {
    let mut topic = root(identity);
    let to = format!("/{}", root(identity).trim_end_matches('/').replace("devicebound", "deviceBound"));
    push(&mut topic, SystemProperty::To.names().topic, Some(&to));
    for (property, value) in content.system.iter().filter(|(_, value)| !value.is_empty()) {
        let names = property.names();
        match (property, time_of(value)) {
            // .NET ends the connection over a time in any other form.
            (SystemProperty::CreationTime, Some(time)) => {
                push(&mut topic, names.topic, Some(&time_text(time)))
            }
            (SystemProperty::CreationTime, None) => push(&mut topic, names.amqp, Some(value)),
            _ => push(&mut topic, names.topic, Some(value)),
        }
    }
    for (name, value) in &content.application {
        push(&mut topic, name, value.as_deref());
    }
    topic
}

fn root(identity: &Identity) -> String {
    match &identity.module {
        None => format!("devices/{}/messages/devicebound/", identity.device),
        Some(module) => format!("devices/{}/modules/{module}/messages/devicebound/", identity.device),
    }
}

/// A name without `=` is null, as Azure has it.
fn push(topic: &mut String, name: &str, value: Option<&str>) {
    if !topic.ends_with('/') {
        topic.push('&');
    }
    topic.extend(escaped(name));
    if let Some(value) = value {
        topic.push('=');
        topic.extend(escaped(value));
    }
}

#[cfg(test)]
mod tests {
    use hub::identity::DeviceId;

    use super::*;

    #[test]
    fn a_topic_reads_as_the_sdks_expect_it() {
        let identity = Identity::device(DeviceId::parse("d1").expect("legal"));
        let content = Content {
            system: vec![
                (SystemProperty::MessageId, "m-7".to_owned()),
                (SystemProperty::ContentType, "application/json".to_owned()),
                (SystemProperty::Ack, "full".to_owned()),
            ],
            application: vec![
                ("color".to_owned(), Some("red brick".to_owned())),
                ("empty".to_owned(), Some(String::new())),
                ("null".to_owned(), None),
            ],
            body: bytes::Bytes::new(),
        };
        assert_eq!(
            topic(&identity, &content),
            "devices/d1/messages/devicebound/%24.to=%2Fdevices%2Fd1%2Fmessages%2FdeviceBound&%24.mid=m-7\
             &%24.ct=application%2Fjson&iothub-ack=full&color=red%20brick&empty=&null"
        );
    }
}
