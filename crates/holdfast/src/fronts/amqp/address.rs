//! What an AMQP link address means here (`spec/amqp.md` §5, `spec/event-hubs-endpoint.md` §5, §6, §8).

use hub::identity::{DeviceId, Identity, ModuleId};
use percent_encoding::percent_decode_str;

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `$cbs`: tokens.
    Cbs,
    /// Where a device or module sends its messages. Most SDKs encode the id and some do not, so that it may be one of
    /// two: decoded, and as it was written.
    Events(Identity, Option<Identity>),
    /// Where services send device-bound messages.
    ToDevices,
    /// `$management` of the event hub.
    Management,
    /// A partition of the built-in endpoint.
    Partition {
        /// The consumer group as it was written.
        group: String,
        /// The partition as it was written.
        partition: String,
    },
    /// The event hub as a whole, or a partition of it: where senders go.
    EventHub,
    /// The built-in endpoint by its path on the hub's host: old clients are sent on from there. Holds the rest of
    /// the path.
    Redirect(String),
    /// An event hub of another name.
    OtherEntity(String),
    /// Nothing that is served.
    Unknown,
}

impl Address {
    /// Reads an address in any of its spellings: with or without scheme, host and leading slash.
    pub(super) fn parse(text: &str, event_hub: &str) -> Self {
        let path = match text.split_once("://") {
            Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
            None => text,
        };
        let path = path.trim_start_matches('/');
        let segments: Vec<String> =
            path.split('/').map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned()).collect();
        let word =
            |at: usize, literal: &str| segments.get(at).is_some_and(|s| s.eq_ignore_ascii_case(literal));
        if segments.len() == 1 && word(0, "$cbs") {
            return Self::Cbs;
        }
        if segments.len() == 1 && word(0, "$management") {
            return Self::Management;
        }
        if segments.len() == 2 && word(0, "messages") && word(1, "devicebound") {
            return Self::ToDevices;
        }
        if word(0, "messages") && word(1, "events") {
            return Self::Redirect(path.splitn(3, '/').nth(2).unwrap_or_default().to_owned());
        }
        if word(0, "devices") {
            let Some(decoded) = events(&segments) else { return Self::Unknown };
            let written: Vec<String> = path.split('/').map(str::to_owned).collect();
            return Self::Events(decoded.clone(), events(&written).filter(|written| *written != decoded));
        }
        if word(0, "messages") {
            return Self::Unknown;
        }
        if !word(0, event_hub) {
            return match segments.len() {
                5 if word(1, "consumergroups") => Self::OtherEntity(segments[0].clone()),
                _ => Self::Unknown,
            };
        }
        match segments.len() {
            1 => Self::EventHub,
            2 if word(1, "$management") => Self::Management,
            2 if segments[1].is_empty() => Self::EventHub,
            3 if word(1, "partitions") => Self::EventHub,
            5 if word(1, "consumergroups") && word(3, "partitions") => {
                Self::Partition { group: segments[2].clone(), partition: segments[4].clone() }
            }
            _ => Self::Unknown,
        }
    }
}

/// Whose messages go to a path.
fn events(segments: &[String]) -> Option<Identity> {
    let word = |at: usize, literal: &str| segments[at].eq_ignore_ascii_case(literal);
    let device = || DeviceId::parse(&segments[1]).ok();
    match segments.len() {
        4 if word(2, "messages") && word(3, "events") => Some(Identity::device(device()?)),
        6 if word(2, "modules") && word(4, "messages") && word(5, "events") => {
            Some(Identity::module(device()?, ModuleId::parse(&segments[3]).ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_read() {
        let identity = |text| Identity::parse(text).expect("a legal identity");
        let events = |text| Address::Events(identity(text), None);
        let encoded = |decoded, written| Address::Events(identity(decoded), Some(identity(written)));
        let partition = Address::Partition { group: "$Default".into(), partition: "3".into() };
        let cases = [
            ("$cbs", Address::Cbs),
            ("amqps://h.net/$cbs", Address::Cbs),
            ("$management", Address::Management),
            ("hub/$management", Address::Management),
            ("hub/ConsumerGroups/$Default/Partitions/3", partition.clone()),
            ("/HUB/consumergroups/$Default/partitions/3", partition.clone()),
            ("amqps://h.net:5671/hub/ConsumerGroups/%24Default/Partitions/3", partition),
            ("hub", Address::EventHub),
            ("hub/Partitions/0", Address::EventHub),
            ("/messages/events/$management", Address::Redirect("$management".into())),
            (
                "amqps://h.net/messages/events/ConsumerGroups/g/Partitions/0",
                Address::Redirect("ConsumerGroups/g/Partitions/0".into()),
            ),
            ("messages/events/", Address::Redirect(String::new())),
            ("other/ConsumerGroups/g/Partitions/0", Address::OtherEntity("other".into())),
            ("/devices/d1/messages/events", events("d1")),
            ("amqps://h.net:5671/devices/d%2B1/Messages/Events", encoded("d+1", "d%2B1")),
            ("devices/d1/modules/m1/messages/events", events("d1/m1")),
            ("/devices/d1/messages/events/", Address::Unknown),
            ("/devices/d1/messages/devicebound", Address::Unknown),
            ("/devices/d1%2Fm1/messages/events", Address::Unknown),
            ("/devices//messages/events", Address::Unknown),
            ("", Address::Unknown),
        ];
        for (text, address) in cases {
            assert_eq!(Address::parse(text, "hub"), address, "{text}");
        }
    }
}
