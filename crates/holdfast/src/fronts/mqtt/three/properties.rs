//! The property bag of a telemetry topic (`docs/protocol/device-mqtt.md` §4.1, §4.2).

use std::borrow::Cow;

use bytestring::ByteString;
use hub::properties::Properties;
use hub::telemetry::{PropertyValue, SystemProperty};
use percent_encoding::percent_decode_str;

/// The stamps that only the hub makes.
const HUBS_OWN: [&str; 2] = ["$.cdid", "$.cmid"];

type System = Vec<(SystemProperty, ByteString)>;
type Application = Vec<(ByteString, PropertyValue)>;

/// Reads a bag. Duplicate keys: the last one wins. `+` is a plus sign, and a `%` without two hex digits is text.
pub(crate) fn parse(bag: &str) -> (System, Application) {
    let mut properties = Properties::default();
    for pair in bag.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decoded(key), ByteString::from(decoded(value).as_ref()));
        let system = key.starts_with("$.").then(|| SystemProperty::of_topic(&key)).flatten();
        match system {
            Some(property) => properties.set(property, value),
            None if HUBS_OWN.contains(&&*key) => {}
            None => properties.add(key.as_ref().into(), PropertyValue::Text(value)),
        }
    }
    properties.into_parts()
}

fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('%') {
        true => percent_decode_str(text).decode_utf8_lossy(),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> PropertyValue {
        PropertyValue::Text(value.into())
    }

    #[test]
    fn encoded_and_raw_bags_are_read_alike() {
        let encoded = parse("%24.mid=m%201&%24.ct=application%2Fjson&room=7&odd%26key=%3D%2B%20%25");
        let raw = parse("odd%26key=%3D+ %&room=7&$.mid=m 1&$.ct=application/json");
        let mid = (SystemProperty::MessageId, ByteString::from("m 1"));
        let ct = (SystemProperty::ContentType, ByteString::from("application/json"));
        assert_eq!(encoded.0, [mid.clone(), ct.clone()]);
        assert_eq!(raw.0, [mid, ct]);
        assert_eq!(encoded.1, [("room".into(), text("7")), ("odd&key".into(), text("=+ %"))]);
        assert_eq!(raw.1, [("odd&key".into(), text("=+ %")), ("room".into(), text("7"))]);
    }

    #[test]
    fn a_key_without_a_value_is_empty_and_the_last_of_two_wins() {
        assert_eq!(
            parse("a&b=&c=1&c=2").1,
            [("a".into(), text("")), ("b".into(), text("")), ("c".into(), text("2"))]
        );
    }

    #[test]
    fn a_topic_full_of_names_takes_no_longer_than_its_length() {
        let names = || (0..16_000).map(|number| format!("{number:x}"));
        let bag = names().collect::<Vec<_>>().join("&");
        let begun = std::time::Instant::now();
        let application = parse(&bag).1;
        assert!(begun.elapsed().as_millis() < 500, "it took {:?}", begun.elapsed());
        assert!(application.iter().map(|(name, _)| name.to_string()).eq(names()));
    }

    #[test]
    fn of_many_properties_the_last_of_each_name_stays_in_its_place() {
        let names: Vec<_> = parse("a=1&b=1&a=2&c=1&b=2").1;
        assert_eq!(names, [("a".into(), text("2")), ("c".into(), text("1")), ("b".into(), text("2"))]);
    }

    #[test]
    fn a_device_cannot_forge_the_stamps_of_the_hub() {
        assert_eq!(parse("%24.cdid=other&%24.cmid=m"), (vec![], vec![]));
    }
}
