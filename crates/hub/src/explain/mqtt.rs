//! What clients do over MQTT, and messages of any protocol.

use super::{About, Words};

pub(super) fn client_id(about: &About<'_>, client_id: &str, user_name: &str) -> Words {
    Words::new(
        "The MQTT client id is not the identity that the user name names.",
        format!("client id {client_id}, user name for {user_name}"),
        format!("client id {user_name}"),
        "Use the device id (and /module id) as client id.",
        about.show(),
    )
}

pub(super) fn user_name(about: &About<'_>, problem: &str) -> Words {
    Words::new(
        format!("The MQTT user name is not of the expected form: {problem}."),
        "a user name of another form",
        "{host}/{device}/?api-version=2021-04-12, with the device id as client id",
        "Let the SDK make the user name from the connection string.",
        about.show(),
    )
}

pub(super) fn version() -> Words {
    Words::new(
        "The client speaks neither MQTT 3.1.1 nor MQTT 5.",
        "a CONNECT of MQTT 3.1, or of another protocol",
        "MQTT 3.1.1 or MQTT 5 (protocol name MQTT, level 4 or 5)",
        "Set the protocol version of the client to MQTT 3.1.1.",
        "holdfast certificate show-server",
    )
}

pub(super) fn qos_two(about: &About<'_>) -> Words {
    Words::new(
        "The client used QoS 2, which an IoT hub does not serve: it closes the connection.",
        "QoS 2",
        "QoS 0 or 1",
        "Publish with QoS 1.",
        about.send(),
    )
}

pub(super) fn connect_timeout() -> Words {
    Words::new(
        "The client opened a connection and sent no CONNECT.",
        "a connection without CONNECT",
        "CONNECT within 30 s of the handshake",
        "See what holds the client up between TLS and CONNECT.",
        "holdfast certificate show-server",
    )
}

pub(super) fn topic(about: &About<'_>, topic: &str) -> Words {
    Words::new(
        format!("`{}` published to a topic that is not one of its own.", about.id),
        topic,
        format!("{}, or another topic of this identity; in MQTT 5 $iothub/telemetry", events(about)),
        "Publish to the identity's own topics. Those of MQTT 5 stand in docs/mqtt5.md.",
        about.send(),
    )
}

pub(super) fn topic_filter(about: &About<'_>, filter: &str) -> Words {
    Words::new(
        format!("`{}` subscribed to what is not its own.", about.id),
        filter,
        format!(
            "devices/{}/messages/devicebound/#, $iothub/methods/POST/#, $iothub/twin/res/# or \
             $iothub/twin/PATCH/properties/desired/#; in MQTT 5 $iothub/commands, $iothub/methods/+ or \
             $iothub/twin/patch/desired",
            about.device
        ),
        "Subscribe to the documented filters only. A hub is no broker: devices do not see each other's messages.",
        about.send(),
    )
}

pub(super) fn message_too_large(about: &About<'_>, size: usize, limit: usize) -> Words {
    Words::new(
        format!("A message of {size} bytes is over the limit of {limit}."),
        format!("{size} bytes, properties included"),
        format!("at most {limit} bytes"),
        "Send smaller messages, or upload the data as a file.",
        about.send(),
    )
}

pub(super) fn protocol(problem: &str) -> Words {
    Words::new(
        format!("The client broke the protocol: {problem}."),
        problem,
        "what the standard and IoT Hub's documents describe",
        "Correct the client, or use an Azure SDK.",
        "holdfast certificate show-server",
    )
}

fn events(about: &About<'_>) -> String {
    match about.module {
        None => format!("devices/{}/messages/events/", about.device),
        Some(module) => format!("devices/{}/modules/{module}/messages/events/", about.device),
    }
}
