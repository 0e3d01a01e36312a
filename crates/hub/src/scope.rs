//! What a token's resource covers: one rule, which every front asks.

use std::fmt;

use percent_encoding::percent_decode_str;

use crate::authenticate::resource_path;
use crate::identity::Identity;

/// The resource of a token below the host, as decoded segments. Without any it is the hub as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope(Vec<String>);

impl Scope {
    /// The hub as a whole.
    pub const WHOLE: Self = Self(Vec::new());

    pub(crate) fn new(segments: Vec<String>) -> Self {
        Self(segments)
    }

    /// The segments.
    pub(crate) fn segments(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }

    /// Whether it covers a path such as `/devices/d1`, by whole segments. Ids of devices and modules are compared with
    /// case, all other words without.
    pub fn covers(&self, path: &str) -> bool {
        let wanted: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        self.0.iter().enumerate().all(|(at, have)| match wanted.get(at) {
            Some(want) => have == want || is_same(have, want, is_id(&wanted, at)),
            // Segments beyond the identity are the old form `…/devices/d1/api-version=2016-11-14`.
            None => have.to_ascii_lowercase().starts_with("api-version="),
        })
    }

    /// Whether it covers a device or module.
    pub fn covers_identity(&self, identity: &Identity) -> bool {
        self.covers(&resource_path(identity))
    }

    /// Whether it covers a place of the event stream, which has two names: the event hub's, and `messages/events` of
    /// the hub.
    pub fn covers_stream(&self, event_hub: &str, place: &str) -> bool {
        [event_hub, "messages/events"].iter().any(|stream| self.covers(&format!("/{stream}/{place}")))
    }

    /// Whether it covers the event stream or lies in it. Clients ask what partitions there are with a token for one of
    /// them (`docs/protocol/event-hubs-endpoint.md` §1, point 9).
    pub fn meets_stream(&self, event_hub: &str) -> bool {
        let has = |at: usize, word: &str| self.0.get(at).is_none_or(|have| have.eq_ignore_ascii_case(word));
        has(0, event_hub) || has(0, "$management") || has(0, "messages") && has(1, "events")
    }
}

/// Whether a segment is another one. The Node SDK encodes an id, and then the whole resource again.
fn is_same(have: &str, want: &str, by_case: bool) -> bool {
    let same = |have: &str| if by_case { have == want } else { have.eq_ignore_ascii_case(want) };
    same(have) || (have.contains('%') && same(&percent_decode_str(have).decode_utf8_lossy()))
}

/// Whether a segment of a path is the id of a device or module.
fn is_id(path: &[&str], at: usize) -> bool {
    let word = |at: usize, literal: &str| path.get(at).is_some_and(|have| have.eq_ignore_ascii_case(literal));
    let names_devices = word(0, "devices") || word(0, "twins");
    names_devices && (at == 1 || at == 3 && word(2, "modules"))
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|segment| write!(f, "/{segment}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        Scope::new(text.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn ids_are_compared_with_case_and_words_without() {
        let cases = [
            ("", "/devices/d1", true),
            ("/DEVICES", "/devices/d1", true),
            ("/devices/d1", "/devices/d1", true),
            ("/devices/D1", "/devices/d1", false),
            ("/Devices/d1/Modules/m", "/devices/d1/modules/m", true),
            ("/devices/d1/modules/M", "/devices/d1/modules/m", false),
            ("/twins/D1", "/twins/d1/methods", false),
            ("/Twins/d1", "/twins/d1/methods", true),
            ("/twins/d1", "/devices/d1", false),
            ("/devices/a%2Bb", "/devices/a+b", true),
            ("/devices/A%2Bb", "/devices/a+b", false),
            ("/HUB/consumergroups/$default", "/hub/ConsumerGroups/$Default/Partitions/1", true),
        ];
        for (have, path, covers) in cases {
            assert_eq!(scope(have).covers(path), covers, "{have} {path}");
        }
    }

    #[test]
    fn the_stream_has_two_names() {
        let place = "ConsumerGroups/g/Partitions/1";
        let cases = [
            ("", true, true),
            ("/hub", true, true),
            ("/Hub/consumergroups/G", true, true),
            ("/hub/ConsumerGroups/g/Partitions/1", true, true),
            ("/hub/ConsumerGroups/g/Partitions/2", false, true),
            ("/hub/ConsumerGroups/h", false, true),
            ("/hub/$management", false, true),
            ("/$management", false, true),
            ("/messages", true, true),
            ("/messages/events", true, true),
            ("/messages/events/$management", false, true),
            ("/messages/devicebound", false, false),
            ("/devices", false, false),
            ("/twins/hub", false, false),
        ];
        for (have, covers, meets) in cases {
            let have = scope(have);
            assert_eq!(
                (have.covers_stream("hub", place), have.meets_stream("hub")),
                (covers, meets),
                "{have}"
            );
        }
    }
}
