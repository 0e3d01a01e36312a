//! The topic of a device's telemetry, with the properties of a message in it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `devices/{id}/messages/events/` and the properties behind it, each name and value escaped. System properties have
/// names like `$.mid`, `$.ct` and `$.ce`.
pub fn topic_with_properties(device: &str, properties: &[(&str, &str)]) -> String {
    let mut topic = format!("devices/{device}/messages/events/");
    for (place, (name, value)) in properties.iter().enumerate() {
        if place > 0 {
            topic.push('&');
        }
        let value = utf8_percent_encode(value, ESCAPED);
        match name.strip_prefix("$.") {
            // The SDKs write the dollar of a system property escaped.
            Some(system) => topic.push_str(&format!("%24.{system}={value}")),
            None => topic.push_str(&format!("{}={value}", utf8_percent_encode(name, ESCAPED))),
        }
    }
    topic
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_escaped() {
        assert_eq!(topic_with_properties("d1", &[]), "devices/d1/messages/events/");
        assert_eq!(
            topic_with_properties("d1", &[("$.ct", "application/json"), ("a b", "1&2")]),
            "devices/d1/messages/events/%24.ct=application%2Fjson&a%20b=1%262"
        );
    }
}
