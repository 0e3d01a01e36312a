//! Where a reader begins: the selector of its source (`spec/event-hubs-endpoint.md` §6.1).

use hub::ports::event_log::StartPosition;
use wire::amqp::codec::{Fields, Value};

/// The key of the filter. Its descriptor varies by client and says nothing more.
const SELECTOR: &str = "apache.org:selector-filter:string";

/// Reads the start position out of a source's filters. The error says what is wrong.
pub(super) fn start_position(filters: &Fields) -> Result<StartPosition, String> {
    match filters.get(SELECTOR).map(Value::undescribed).and_then(Value::as_text) {
        None => Ok(StartPosition::Earliest),
        Some(text) => parse(text).ok_or_else(|| format!("The filter '{text}' is not understood")),
    }
}

fn parse(text: &str) -> Option<StartPosition> {
    let rest = text.trim().strip_prefix("amqp.annotation.")?;
    let (field, rest) = rest.split_once('>')?;
    let (inclusive, value) = match rest.strip_prefix('=') {
        Some(value) => (true, value),
        None => (false, rest),
    };
    let value = value.trim().trim_matches('\'');
    match field.trim() {
        "x-opt-offset" => match value {
            "-1" => Some(StartPosition::Earliest),
            "@latest" => Some(StartPosition::Latest),
            offset => Some(StartPosition::Offset { offset: offset.parse().ok()?, inclusive }),
        },
        "x-opt-sequence-number" => match value.parse::<i64>().ok()? {
            -1 => Some(StartPosition::Earliest),
            sequence => Some(StartPosition::Sequence { sequence: sequence.try_into().ok()?, inclusive }),
        },
        "x-opt-enqueued-time" => Some(StartPosition::Enqueued { time: value.parse().ok()?, inclusive }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selectors_of_the_sdks_are_read() {
        let cases = [
            ("amqp.annotation.x-opt-offset > '-1'", Some(StartPosition::Earliest)),
            ("amqp.annotation.x-opt-offset > '@latest'", Some(StartPosition::Latest)),
            (
                "amqp.annotation.x-opt-offset >= '42'",
                Some(StartPosition::Offset { offset: 42, inclusive: true }),
            ),
            (
                "amqp.annotation.x-opt-sequence-number > 2995",
                Some(StartPosition::Sequence { sequence: 2995, inclusive: false }),
            ),
            (
                "amqp.annotation.x-opt-enqueued-time > '1700000000000'",
                Some(StartPosition::Enqueued { time: 1_700_000_000_000, inclusive: false }),
            ),
            ("amqp.annotation.x-opt-offset < '1'", None),
            ("amqp.annotation.x-opt-color > '1'", None),
            ("x > 'y'", None),
        ];
        for (text, position) in cases {
            assert_eq!(parse(text), position, "{text}");
        }
    }
}
