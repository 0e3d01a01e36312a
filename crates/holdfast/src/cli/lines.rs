//! What happens, a line each, for commands that go on until they are ended.

use jiff::{Timestamp, Zoned};
use serde_json::{Map, Value, json};

use super::output::Format;
use super::terminal::{self, outln, visible};

/// The longest detail that people are shown.
const DETAIL_CHARS_MAX: usize = 1_000;

/// Where the lines go.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    format: Format,
}

impl Lines {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(super) fn are_for_people(&self) -> bool {
        self.format == Format::Table
    }

    /// Prints what happened now.
    pub(super) fn tell(&self, what: &str, details: &[(&str, Value)]) {
        self.tell_of(Timestamp::now(), what, details);
    }

    /// Prints what happened then.
    pub(super) fn tell_of(&self, time: Timestamp, what: &str, details: &[(&str, Value)]) {
        match self.format {
            Format::Table => {
                outln!("{}", table_line(&time.to_zoned(jiff::tz::TimeZone::system()), what, details));
            }
            Format::Json | Format::Jsonl => {
                let mut object =
                    Map::from_iter([("time".to_owned(), json!(time)), ("what".to_owned(), json!(what))]);
                object.extend(details.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
                terminal::document_line(&Value::Object(object));
            }
        }
    }
}

fn table_line(time: &Zoned, what: &str, details: &[(&str, Value)]) -> String {
    let details: Vec<String> = details
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => format!("{name}={}", cut(text)),
            other => format!("{name}={}", cut(&other.to_string())),
        })
        .collect();
    format!("{}  {what:<12}  {}", time.strftime("%H:%M:%S%.3f"), details.join("  "))
}

/// A detail for a terminal; JSON has all of it.
fn cut(text: &str) -> String {
    match text.char_indices().nth(DETAIL_CHARS_MAX) {
        None => visible(text).into_owned(),
        Some((end, _)) => format!("{}…", visible(&text[..end])),
    }
}

/// A body as a line shows it: JSON as it is, text, or how long it is.
pub(super) fn body(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Err(_) => json!(format!("{} bytes", bytes.len())),
        Ok(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_time_and_what_happened_and_obeys_nobody() {
        let time: Zoned = "2026-11-22T09:14:03.250+00:00[UTC]".parse().expect("a time");
        let details = [("body", json!("a\u{1b}[2J")), ("status", json!(200)), ("id", Value::Null)];
        let line = table_line(&time, "call", &details);
        assert_eq!(line, "09:14:03.250  call          body=a\\u{1b}[2J  status=200");
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
        assert_eq!(cut(&"ü".repeat(DETAIL_CHARS_MAX)), "ü".repeat(DETAIL_CHARS_MAX));
        assert_eq!(cut(&"ü".repeat(DETAIL_CHARS_MAX + 1)), format!("{}…", "ü".repeat(DETAIL_CHARS_MAX)));
    }

    #[test]
    fn a_body_is_shown_as_what_it_is() {
        assert_eq!(body(b"{\"a\":1}"), json!({ "a": 1 }));
        assert_eq!(body(b"open"), json!("open"));
        assert_eq!(body(&[0xff, 0]), json!("2 bytes"));
    }
}
