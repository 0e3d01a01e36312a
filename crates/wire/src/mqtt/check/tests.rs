use super::*;

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short text");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn problem(result: Result<(), PacketError>) -> String {
    result.map_or_else(|error| error.to_string(), |()| String::new())
}

fn connect(flags: u8, fields: &[&str], name: &str) -> Vec<u8> {
    let mut body = [text(name), vec![4, flags, 0, 60]].concat();
    fields.iter().for_each(|field| body.extend(text(field)));
    body
}

#[test]
fn a_topic_has_no_wildcard_and_no_nul() {
    for (topic, wrong) in [("a/b%2B", None), ("a+b", Some('+')), ("a/#", Some('#'))] {
        let expected = wrong.map_or(Ok(()), |wrong| Err(PacketError::TopicName(wrong)));
        assert_eq!(three(0x30, &text(topic)), expected, "{topic}");
        assert_eq!(five(0x30, &[text(topic), vec![0]].concat()), expected.map(|()| None), "{topic}");
    }
    let late = format!("{}\0", "x".repeat(200));
    assert_eq!(problem(three(0x32, &text(&late))), "malformed packet: a topic has the character U+0000");
}

#[test]
fn bits_and_bodies_that_are_reserved_stay_empty() {
    let subscribe = |options| [vec![0, 1], text("a/#"), vec![options]].concat();
    assert_eq!(three(0x82, &subscribe(1)), Ok(()));
    for (first_byte, body) in [
        (0x38, text("a")),
        (0x82, subscribe(0x81)),
        (0x82, [vec![0, 1], text("a\0"), vec![1]].concat()),
        (0xa2, [vec![0, 1], text("a\0")].concat()),
        (0xc0, vec![0]),
        (0xe0, vec![0]),
    ] {
        assert!(
            matches!(three(first_byte, &body), Err(PacketError::Malformed(_))),
            "{first_byte:#x} {body:?}"
        );
    }
}

#[test]
fn a_connect_is_looked_at_to_its_end() {
    let user = ["d1", "h/d1", "p"];
    assert_eq!(three(0x10, &connect(0xc2, &user, "MQTT")), Ok(()));
    assert_eq!(three(0x10, &connect(0xc2, &user, "MQIsdp")), Err(PacketError::ProtocolLevel));
    assert_eq!(three(0x10, &connect(0x00, &[""], "MQTT")), Err(PacketError::ClientId));
    assert_eq!(three(0x10, &connect(0x02, &[""], "MQTT")), Ok(()));
    assert_eq!(
        three(0x10, &connect(0x06, &["d1", "a/#", "w"], "MQTT")),
        Err(PacketError::TopicName('#')),
        "the topic of a will"
    );
    for (flags, fields) in [
        (0x42, &["d1", "p"][..]),
        (0xc2, &["d1", "h/d1", "p", "more"]),
        (0xc2, &["d\0", "h/d1", "p"]),
        (0xc2, &["d1", "h/d1\0", "p"]),
        (0x06, &["d1", "a\0", "w"]),
    ] {
        let looked = three(0x10, &connect(flags, fields, "MQTT"));
        assert!(matches!(looked, Err(PacketError::Malformed(_))), "{flags:#x} {fields:?}");
    }
}

fn publish_with(properties: &[u8]) -> Result<Option<usize>, PacketError> {
    let length = u8::try_from(properties.len()).expect("a short list");
    five(0x30, &[&text("t"), &[length][..], properties, b"payload"].concat())
}

#[test]
fn a_property_that_breaks_a_rule_is_told_from_one_that_is_malformed() {
    assert_eq!(publish_with(&[]), Ok(None));
    assert_eq!(publish_with(&[0x23, 0, 0]), Err(PacketError::TopicAliasZero));
    for broken in [
        &[0x23, 0, 1, 0x23, 0, 1][..],
        &[0x0b, 1],
        &[0x01, 2],
        &[0x08, 0, 1, b'+'],
        &[0x02, 0, 0, 0, 1, 0x02, 0, 0, 0, 1],
    ] {
        assert!(matches!(publish_with(broken), Err(PacketError::Protocol(_))), "{broken:?}");
    }
    assert!(matches!(publish_with(&[0x26, 0, 1, b'a', 0, 1, 0]), Err(PacketError::Malformed(_))));
    assert_eq!(publish_with(&[0x26, 0, 0, 0, 0, 0x26, 0, 0, 0, 0]), Ok(None), "the one that may come twice");
    // Unknown ones and lists that are cut short are the codec's.
    assert_eq!(publish_with(&[0x7f, 1]), Ok(None));
    assert_eq!(publish_with(&[0x23, 0]), Ok(None));
}

#[test]
fn a_message_that_expires_at_once_is_legal() {
    let properties = [0x01, 1, 0x02, 0, 0, 0, 0];
    assert_eq!(publish_with(&properties), Ok(Some(3 + 1 + properties.len() - 1)));
    assert_eq!(publish_with(&[0x02, 0, 0, 0, 1]), Ok(None));
}

#[test]
fn a_client_of_mqtt_5_says_good_bye_in_a_clients_words() {
    for (body, legal) in [
        (&[][..], true),
        (&[0x04], true),
        (&[0x8e], false),
        (&[0x00, 5, 0x11, 0, 0, 0, 1], true),
        (&[0x00, 4, 0x1c, 0, 1, b'x'], false),
        (&[0x00, 10, 0x11, 0, 0, 0, 1, 0x11, 0, 0, 0, 1], false),
    ] {
        assert_eq!(five(0xe0, body).is_ok(), legal, "{body:?}");
    }
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_looked_at(first_byte: u8, body: Vec<u8>) {
        let _ = three(first_byte, &body);
        if let Ok(Some(at)) = five(first_byte, &body) {
            assert_eq!(body[at - 3..=at], [0; 4]);
        }
    }
}
