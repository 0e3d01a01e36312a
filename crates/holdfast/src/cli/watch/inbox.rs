//! What happened in the queue of device-bound messages between two looks at it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Happened;

/// How messages leave a queue, as the hub counts them.
const OUTCOMES: [&str; 5] = ["completed", "rejected", "expired", "deliveryCountExceeded", "purged"];

/// A queue as it was at the last look.
#[derive(Default)]
pub(super) struct Inbox {
    looked: bool,
    sent: u64,
    gone: [u64; OUTCOMES.len()],
    /// The numbers of those that are gone and had an id.
    passed: BTreeSet<u64>,
}

impl Inbox {
    /// What happened since the last look; nothing at the first. A message without an id that is gone is only counted.
    pub(super) fn compare(&mut self, queue: &Value) -> Vec<Happened> {
        let Some(sent) = queue["sent"].as_u64() else { return Vec::new() };
        let list = |name: &str| queue[name].as_array().map_or(&[][..], Vec::as_slice);
        let gone = OUTCOMES.map(|outcome| queue[outcome].as_u64().unwrap_or_default());
        let mut happened = Vec::new();
        for message in list("waiting").iter().chain(list("passed")) {
            if number(message).is_some_and(|number| number > self.sent) {
                happened.push(told(message, "enqueued", "sent"));
            }
        }
        let mut named = [0; OUTCOMES.len()];
        for message in list("passed") {
            let is_new = number(message).is_some_and(|number| !self.passed.contains(&number));
            let outcome = message["fate"].as_str().unwrap_or_default();
            if is_new {
                named = std::array::from_fn(|at| named[at] + u64::from(OUTCOMES[at] == outcome));
                happened.push(told(message, "ended", outcome));
            }
        }
        for (at, outcome) in OUTCOMES.iter().enumerate() {
            let unnamed = gone[at].saturating_sub(self.gone[at]).saturating_sub(named[at]);
            if unnamed > 0 {
                let details = vec![("became", json!(outcome)), ("count", json!(unnamed))];
                happened.push(Happened { time: Timestamp::now(), what: "message".to_owned(), details });
            }
        }
        let passed = list("passed").iter().filter_map(number).collect();
        let before = std::mem::replace(self, Self { looked: true, sent, gone, passed });
        // Another generation of the device begins with an empty queue.
        if before.looked && sent >= before.sent { happened } else { Vec::new() }
    }
}

fn number(message: &Value) -> Option<u64> {
    message["sequence"].as_u64()
}

fn told(message: &Value, when: &str, became: &str) -> Happened {
    let time = message[when].as_str().and_then(|time| time.parse().ok());
    Happened {
        time: time.unwrap_or_else(Timestamp::now),
        what: "message".to_owned(),
        details: vec![
            ("number", message["sequence"].clone()),
            ("id", message["messageId"].clone()),
            ("became", json!(became)),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_is_told_once() {
        let mut inbox = Inbox::default();
        let told = |happened: Vec<Happened>| -> Vec<String> {
            let text = |happened: &Happened| {
                happened.details.iter().map(|(name, value)| format!("{name}={value} ")).collect::<String>()
            };
            happened.iter().map(|happened| text(happened).trim().to_owned()).collect()
        };
        let time = "2026-11-22T09:14:03Z";
        let first = json!({ "sequence": 3, "messageId": "a", "enqueued": time });
        let gone =
            json!({ "sequence": 3, "messageId": "a", "enqueued": time, "ended": time, "fate": "completed" });
        let empty = json!({ "sent": 2, "completed": 2, "waiting": [], "passed": [] });
        assert!(told(inbox.compare(&empty)).is_empty(), "what was before is not told");
        let queue = json!({ "sent": 3, "completed": 2, "waiting": [first], "passed": [] });
        assert_eq!(told(inbox.compare(&queue)), [r#"number=3 id="a" became="sent""#]);
        let queue = json!({ "sent": 4, "completed": 4, "waiting": [], "passed": [gone] });
        let expected = [r#"number=3 id="a" became="completed""#, r#"became="completed" count=1"#];
        assert_eq!(told(inbox.compare(&queue)), expected);
        assert!(told(inbox.compare(&queue)).is_empty());
        assert!(told(inbox.compare(&Value::Null)).is_empty(), "a device that is gone has no queue");
    }
}
