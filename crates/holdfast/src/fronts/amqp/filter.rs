//! Where a reader begins: the selector of its source (`docs/protocol/event-hubs-endpoint.md` §6.1).

use hub::ports::event_log::StartPosition;
use wire::amqp::codec::{Described, Fields, Symbol, Value};
use wire::amqp::performative::{Error, condition};

use super::ARGUMENT_ERROR;

/// The name of a selector. Without a descriptor the key says so.
const SELECTOR: &str = "apache.org:selector-filter:string";
/// Its code in the registry of filters.
const SELECTOR_CODE: i64 = 0x0000_468c_0000_0004;

/// Reads the start position out of a source's filters. What cannot be applied is an error: a reader that is given another
/// beginning than it asked for notices nothing.
pub(super) fn start_position(filters: &Fields) -> Result<StartPosition, Error> {
    let mut position = None;
    for (key, value) in filters.iter().filter(|(_, value)| *value != Value::Null) {
        let Some(text) = selector(key, value) else {
            let text = format!(
                "The link contains invalid filter type. System only support Jms or Apache selector filter type but we found \
                 type '{}' associated with key '{key}'.",
                type_of(value)
            );
            return Err(Error::new(condition::NOT_ALLOWED, text));
        };
        let Some(read) = parse(text) else {
            return Err(Error::new(ARGUMENT_ERROR, format!("The filter '{text}' is not understood")));
        };
        if position.replace(read).is_some_and(|other| other != read) {
            return Err(Error::new(ARGUMENT_ERROR, "The link contains more than one selector"));
        }
    }
    Ok(position.unwrap_or(StartPosition::Earliest))
}

/// The text of a selector. The descriptor decides what it is: the key is any name that the client chose.
fn selector<'a>(key: &Symbol, value: &'a Value) -> Option<&'a str> {
    match value {
        Value::Described(described) if is_selector(&described.descriptor) => described.value.as_text(),
        Value::Described(_) => None,
        plain => plain.as_text().filter(|_| key.as_str().eq_ignore_ascii_case(SELECTOR)),
    }
}

fn is_selector(descriptor: &Value) -> bool {
    let has_name = |text: &str| {
        let (_, name) = text.split_once(':').unwrap_or(("", text));
        text.eq_ignore_ascii_case("selector-filter:string")
            || name.eq_ignore_ascii_case("selector-filter:string")
    };
    descriptor.as_i64() == Some(SELECTOR_CODE) || descriptor.as_text().is_some_and(has_name)
}

/// What a filter is, for the one who sent it.
fn type_of(value: &Value) -> String {
    let Value::Described(described) = value else { return "no described type".to_owned() };
    let Described { descriptor, value } = &**described;
    match (is_selector(descriptor), descriptor.as_text(), descriptor.as_i64()) {
        (true, ..) => format!("a selector that is no string but {}", kind(value)),
        (false, Some(text), _) => text.to_owned(),
        (false, None, Some(code)) => format!("{code:#x}"),
        (false, None, None) => kind(descriptor).to_owned(),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Map(_) => "a map",
        Value::List(_) | Value::Array(_) => "a list",
        Value::Binary(_) => "binary",
        Value::Described(_) => "a described type",
        value if value.as_i64().is_some() => "a number",
        _ => "another type",
    }
}

fn parse(text: &str) -> Option<StartPosition> {
    let text = text.trim();
    let prefix = "amqp.annotation.";
    let rest = match text.get(..prefix.len()) {
        Some(head) if head.eq_ignore_ascii_case(prefix) => &text[prefix.len()..],
        _ => text,
    };
    let (field, rest) = rest.split_once('>')?;
    let (inclusive, value) = match rest.strip_prefix('=') {
        Some(value) => (true, value),
        None => (false, rest),
    };
    let (field, value) = (field.trim().to_ascii_lowercase(), unquoted(value.trim())?);
    match field.as_str() {
        "x-opt-offset" => match special(value) {
            Some(position) => Some(position),
            None => Some(StartPosition::Offset { offset: value.parse().ok()?, inclusive }),
        },
        "x-opt-sequence-number" => match special(value) {
            Some(position) => Some(position),
            None => Some(StartPosition::Sequence { sequence: value.parse().ok()?, inclusive }),
        },
        // The second is the older word, which `az iot hub monitor-events` and the C SDK still send.
        "x-opt-enqueued-time" | "x-opt-enqueuedtimeutc" | "x-opt-enqueued-time-utc" => {
            Some(StartPosition::Enqueued { time: milliseconds(value)?, inclusive })
        }
        _ => None,
    }
}

fn special(value: &str) -> Option<StartPosition> {
    match value {
        "-1" => Some(StartPosition::Earliest),
        latest if latest.eq_ignore_ascii_case("@latest") => Some(StartPosition::Latest),
        _ => None,
    }
}

/// The value without its quotes, of which there are two or none.
fn unquoted(value: &str) -> Option<&str> {
    for quote in ['\'', '"'] {
        if let Some(rest) = value.strip_prefix(quote) {
            return rest.strip_suffix(quote).map(str::trim);
        }
    }
    Some(value)
}

/// A time in milliseconds, of which clients that compute it may send fractions.
fn milliseconds(value: &str) -> Option<i64> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    fraction.bytes().all(|digit| digit.is_ascii_digit()).then(|| whole.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: &str = "amqp.annotation.x-opt-offset > '-1'";

    #[test]
    fn every_selector_that_clients_send_is_read() {
        let offset = |offset, inclusive| Some(StartPosition::Offset { offset, inclusive });
        let sequence = |sequence, inclusive| Some(StartPosition::Sequence { sequence, inclusive });
        let time = |time, inclusive| Some(StartPosition::Enqueued { time, inclusive });
        let cases = [
            (EVERYTHING, Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-offset >= '-1'", Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-offset > -1", Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-offset > '@latest'", Some(StartPosition::Latest)),
            ("amqp.annotation.x-opt-offset > @latest", Some(StartPosition::Latest)),
            ("amqp.annotation.x-opt-offset >= '@Latest'", Some(StartPosition::Latest)),
            ("amqp.annotation.x-opt-offset >= '42'", offset(42, true)),
            ("amqp.annotation.x-opt-offset > 42", offset(42, false)),
            ("amqp.annotation.x-opt-offset >'42'", offset(42, false)),
            ("  AMQP.Annotation.X-Opt-Offset>=42 ", offset(42, true)),
            ("amqp.annotation.x-opt-offset > \"42\"", offset(42, false)),
            ("x-opt-offset > '42'", offset(42, false)),
            ("amqp.annotation.x-opt-sequence-number > 2995", sequence(2995, false)),
            ("amqp.annotation.x-opt-sequence-number >= '0'", sequence(0, true)),
            ("amqp.annotation.x-opt-sequence-number > '-1'", Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-sequence-number > -1", Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-enqueued-time > '1700000000000'", time(1_700_000_000_000, false)),
            ("amqp.annotation.x-opt-enqueued-time >= 1700000000000", time(1_700_000_000_000, true)),
            ("amqp.annotation.x-opt-enqueuedtimeutc > 1518731960545", time(1_518_731_960_545, false)),
            ("amqp.annotation.x-opt-enqueuedtimeutc > '1518731960545'", time(1_518_731_960_545, false)),
            ("amqp.annotation.x-opt-enqueuedtimeutc >= 1518731960545.75", time(1_518_731_960_545, true)),
            ("amqp.annotation.x-opt-enqueued-time > '-62135596800000'", time(-62_135_596_800_000, false)),
            ("amqp.annotation.x-opt-offset < '1'", None),
            ("amqp.annotation.x-opt-offset > '1' AND amqp.annotation.x-opt-offset > '2'", None),
            ("amqp.annotation.x-opt-offset > '1", None),
            ("amqp.annotation.x-opt-offset > ''", None),
            ("amqp.annotation.x-opt-offset > '-2'", None),
            ("amqp.annotation.x-opt-enqueued-time > 'today'", None),
            ("amqp.annotation.x-opt-color > '1'", None),
            ("x > 'y'", None),
            ("", None),
        ];
        for (text, position) in cases {
            assert_eq!(parse(text), position, "{text}");
        }
    }

    fn read(key: &str, value: Value) -> Result<StartPosition, String> {
        let filters = [(Symbol::from(key), value)].into_iter().collect();
        start_position(&filters).map_err(|error| error.condition.to_string())
    }

    fn described(descriptor: Value, value: Value) -> Value {
        Value::Described(Box::new(Described { descriptor, value }))
    }

    #[test]
    fn the_descriptor_decides_what_is_a_selector() {
        let latest = || Value::from("amqp.annotation.x-opt-offset > '@latest'");
        let name = |text: &str| Value::Symbol(Symbol::from(text));
        let selectors = [
            ("selector", described(name(SELECTOR), latest())),
            ("5", described(Value::Ulong(0x0000_468c_0000_0004), latest())),
            (SELECTOR, described(Value::Long(77_567_109_365_764), latest())),
            ("f1", described(Value::from(SELECTOR), latest())),
            ("f1", described(name("com.microsoft:selector-filter:string"), latest())),
            ("f1", described(name("selector-filter:string"), latest())),
            (SELECTOR, described(name(SELECTOR), name("amqp.annotation.x-opt-offset > '@latest'"))),
            (SELECTOR, latest()),
        ];
        for (key, value) in selectors {
            assert_eq!(read(key, value.clone()), Ok(StartPosition::Latest), "{key} {value:?}");
        }
        let others = [
            ("selector", latest()),
            (SELECTOR, Value::Long(5)),
            (SELECTOR, described(name(SELECTOR), Value::Map(Vec::new()))),
            (SELECTOR, described(name(SELECTOR), Value::Null)),
            (SELECTOR, described(name("com.microsoft:session-filter"), latest())),
            (SELECTOR, described(Value::Ulong(0x0000_468c_0000_0003), latest())),
            (SELECTOR, Value::Map(Vec::new())),
        ];
        for (key, value) in others {
            assert_eq!(read(key, value.clone()), Err("amqp:not-allowed".to_owned()), "{key} {value:?}");
        }
        let unknown = described(name(SELECTOR), Value::from("color = 'red'"));
        assert_eq!(read(SELECTOR, unknown), Err("com.microsoft:argument-error".to_owned()));
        assert_eq!(read(SELECTOR, Value::Null), Ok(StartPosition::Earliest));
        assert_eq!(start_position(&Fields::new()).ok(), Some(StartPosition::Earliest));
    }

    #[test]
    fn two_beginnings_are_none() {
        let selector = |text: &str| described(Value::from(SELECTOR), Value::from(text));
        let both = |one: &str, other: &str| {
            let filters = [(Symbol::from("a"), selector(one)), (Symbol::from("b"), selector(other))]
                .into_iter()
                .collect();
            start_position(&filters)
        };
        assert!(both(EVERYTHING, "amqp.annotation.x-opt-offset > '1'").is_err());
        assert_eq!(both(EVERYTHING, EVERYTHING).ok(), Some(StartPosition::Earliest));
    }
}
