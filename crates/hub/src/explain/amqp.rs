//! Links and tokens of AMQP: of devices, and of readers of the built-in endpoint.

use super::{About, Words, command};

const CONNECTION_STRING: &str = "holdfast events connection-string";

pub(super) fn token_type(presented: &str) -> Words {
    Words::new(
        "A token of a type that is not served was put.",
        format!("the token type {presented}"),
        "servicebus.windows.net:sastoken",
        "Use a connection string, which makes SAS tokens, in place of a TokenCredential.",
        CONNECTION_STRING,
    )
}

pub(super) fn mechanism(presented: &str) -> Words {
    Words::new(
        "The client wants to sign in by a SASL mechanism that is not served.",
        format!("SASL {presented}"),
        "EXTERNAL, MSSBCBS, ANONYMOUS or PLAIN",
        "Use one of these mechanisms, or an Event Hubs SDK.",
        CONNECTION_STRING,
    )
}

pub(super) fn tokens_full(about: &About<'_>, limit: usize) -> Words {
    Words::new(
        format!(
            "The connection has tokens of {limit} devices and modules already, and that of `{}` would be one more.",
            about.id
        ),
        format!("the token of another device on a connection of {limit}"),
        format!("at most {limit} devices and modules on a connection"),
        "Open another connection for the rest of the devices.",
        "holdfast device list",
    )
}

pub(super) fn address(about: &About<'_>, address: &str, problem: &str) -> Words {
    let path = address
        .split_once("://")
        .map_or(address, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
    let of_a_device = path.trim_start_matches('/').to_ascii_lowercase().starts_with("devices");
    let presented = if address.is_empty() { "no address" } else { address };
    let problem = format!("The AMQP link address leads nowhere: {problem}.");
    match of_a_device {
        true => Words::new(
            problem,
            presented,
            "/devices/{device}/messages/events or /devices/{device}/modules/{module}/messages/events, to send to",
            "Send as a device. Device-bound messages, methods and twins are not served over AMQP.",
            about.send(),
        ),
        false => Words::new(
            problem,
            presented,
            "{event hub}/ConsumerGroups/{group}/Partitions/{n}, with a group and partition that exist",
            "Use the Event Hubs connection string of this hub, with its EntityPath.",
            CONNECTION_STRING,
        ),
    }
}

pub(super) fn consumer_group(group: &str, groups: &[String]) -> Words {
    Words::new(
        format!("There is no consumer group `{group}`."),
        format!("the consumer group {group}"),
        match groups.is_empty() {
            true => "$Default, or a consumer group that was created".into(),
            false => groups.join(" or "),
        },
        "Create the consumer group, or read in one that exists.",
        command("events consumer-group create", &[group], ""),
    )
}

pub(super) fn partition(partition: &str, count: u16) -> Words {
    Words::new(
        format!("There is no partition `{partition}`: the event stream has {count}."),
        format!("the partition {partition}"),
        format!("0 to {}", count.saturating_sub(1)),
        "Ask the hub which partitions there are; their number is fixed when a hub is made.",
        "holdfast events watch --earliest --count 1",
    )
}

pub(super) fn event_hub(presented: &str, name: &str) -> Words {
    Words::new(
        format!(
            "There is no event hub `{presented}` here: the EntityPath of the connection string is another."
        ),
        format!("EntityPath={presented}"),
        format!("EntityPath={name}"),
        "Use the Event Hubs connection string of this hub.",
        CONNECTION_STRING,
    )
}

pub(super) fn send(address: &str) -> Words {
    Words::new(
        "Somebody wanted to send into the event stream, which only devices do, through their own endpoint.",
        format!("a sender to {address}"),
        "a reader",
        "Send as a device. A back end reads the stream only.",
        "holdfast device list",
    )
}

pub(super) fn outranked(problem: &str) -> Words {
    Words::new(
        format!("Another reader has the partition by its owner level (epoch). {problem}"),
        "a reader without owner level, or with a lower one",
        "a higher owner level, or another consumer group",
        "Close the other reader, or read in a consumer group of your own.",
        "holdfast events consumer-group create mine",
    )
}

pub(super) fn displaced(problem: &str) -> Words {
    Words::new(
        format!("A reader with a higher owner level (epoch) took the partition. {problem}"),
        "a reader that was there before",
        "one reader with an owner level for each partition and consumer group",
        "Where both are to read, give each a consumer group of its own.",
        "holdfast events consumer-group create mine",
    )
}

pub(super) fn full(problem: &str) -> Words {
    Words::new(
        format!("The partition has as many readers in this consumer group as it takes. {problem}"),
        "one reader more",
        "at most 5 readers of a partition in a consumer group",
        "Close a reader, or read in a consumer group of your own.",
        "holdfast events consumer-group create mine",
    )
}
