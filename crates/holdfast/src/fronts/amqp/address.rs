//! What an AMQP link address means here (`docs/protocol/amqp.md` §5, `docs/protocol/event-hubs-endpoint.md` §5, §6,
//! §8).

use hub::identity::{DeviceId, Identity, ModuleId};
use hub::service_bound::Lane;
use percent_encoding::percent_decode_str;

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// `$cbs`: tokens.
    Cbs,
    /// What a device or module has. Most SDKs encode the id and some do not, so that it may be one of two: decoded, and
    /// as it was written.
    Device(Place, Identity, Option<Identity>),
    /// Where services send device-bound messages.
    ToDevices,
    /// Where services receive feedback or notices of files.
    ToServices(Lane),
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

/// What a device or module has at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `messages/events`.
    Events,
    /// `messages/devicebound`.
    Messages,
    /// `methods/devicebound`.
    Methods,
    /// `twin`.
    Twin,
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
        if segments.len() == 3 && word(0, "messages") && word(1, "servicebound") && word(2, "feedback") {
            return Self::ToServices(Lane::Feedback);
        }
        if segments.len() == 3
            && word(0, "messages")
            && word(1, "servicebound")
            && word(2, "filenotifications")
        {
            return Self::ToServices(Lane::FileNotifications);
        }
        if word(0, "messages") && word(1, "events") {
            return Self::Redirect(path.splitn(3, '/').nth(2).unwrap_or_default().to_owned());
        }
        if word(0, "devices") {
            let Some((decoded, rest)) = identity(&segments) else { return Self::Unknown };
            let Some(place) = place(rest) else { return Self::Unknown };
            let written: Vec<&str> = path.split('/').collect();
            let written =
                identity(&written).map(|(written, _)| written).filter(|written| *written != decoded);
            return Self::Device(place, decoded, written);
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

/// The device or module that a path begins with, `devices/{id}` or `devices/{id}/modules/{id}`, and the rest of the path.
pub(super) fn identity<T: AsRef<str>>(segments: &[T]) -> Option<(Identity, &[T])> {
    match segments {
        [devices, device, modules, module, rest @ ..] if is(devices, "devices") && is(modules, "modules") => {
            let (device, module) =
                (DeviceId::parse(device.as_ref()).ok()?, ModuleId::parse(module.as_ref()).ok()?);
            Some((Identity::module(device, module), rest))
        }
        [devices, device, rest @ ..] if is(devices, "devices") => {
            Some((Identity::device(DeviceId::parse(device.as_ref()).ok()?), rest))
        }
        _ => None,
    }
}

fn place(rest: &[String]) -> Option<Place> {
    match rest {
        [messages, events] if is(messages, "messages") && is(events, "events") => Some(Place::Events),
        [messages, bound] if is(messages, "messages") && is(bound, "devicebound") => Some(Place::Messages),
        [methods, bound] if is(methods, "methods") && is(bound, "devicebound") => Some(Place::Methods),
        [twin] if is(twin, "twin") => Some(Place::Twin),
        _ => None,
    }
}

/// Fixed words of an address are compared without case.
pub(super) fn is(segment: impl AsRef<str>, word: &str) -> bool {
    segment.as_ref().eq_ignore_ascii_case(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_read() {
        let identity = |text| Identity::parse(text).expect("a legal identity");
        let at = |place, text| Address::Device(place, identity(text), None);
        let events = |text| at(Place::Events, text);
        let encoded =
            |decoded, written| Address::Device(Place::Events, identity(decoded), Some(identity(written)));
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
            ("/messages/serviceBound/feedback", Address::ToServices(Lane::Feedback)),
            (
                "amqps://h.net/messages/servicebound/fileNotifications",
                Address::ToServices(Lane::FileNotifications),
            ),
            ("messages/servicebound", Address::Unknown),
            ("messages/events/", Address::Redirect(String::new())),
            ("other/ConsumerGroups/g/Partitions/0", Address::OtherEntity("other".into())),
            ("/devices/d1/messages/events", events("d1")),
            ("amqps://h.net:5671/devices/d%2B1/Messages/Events", encoded("d+1", "d%2B1")),
            ("devices/d1/modules/m1/messages/events", events("d1/m1")),
            ("/devices/d1/messages/events/", Address::Unknown),
            ("/devices/d1/messages/deviceBound", at(Place::Messages, "d1")),
            ("devices/d1/modules/m1/Methods/devicebound", at(Place::Methods, "d1/m1")),
            ("amqps://h.net/devices/d1/twin", at(Place::Twin, "d1")),
            ("/devices/modules/modules/modules/twin", at(Place::Twin, "modules/modules")),
            ("/devices/d1/twin/x", Address::Unknown),
            ("/devices/d1/modules/m1", Address::Unknown),
            ("/devices/d1%2Fm1/messages/events", Address::Unknown),
            ("/devices//messages/events", Address::Unknown),
            ("", Address::Unknown),
        ];
        for (text, address) in cases {
            assert_eq!(Address::parse(text, "hub"), address, "{text}");
        }
    }
}
