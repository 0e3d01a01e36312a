//! A back end that writes to a device, a device that takes its messages over HTTPS, and what must hold of these, and of the
//! device's twin, after a loss of power.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Random;
use super::load::Life;
use super::registry::key;
use super::talker::{Steps, TALKER};
use crate::support::{Answer, Rest};

/// The device that messages are sent to.
pub(crate) const MAIL: &str = "mail";

/// A back end, and the device that it writes to.
pub(crate) struct Correspondent {
    messages: BTreeMap<u64, Known>,
    /// How often each was abandoned; beyond ten times it would be given up.
    abandoned: BTreeMap<u64, u32>,
    desired: Steps,
    reported: Arc<Steps>,
    numbers: u64,
    pub(crate) tally: Tally,
    random: Random,
}

/// What was acknowledged, whenever.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tally {
    /// Messages that were taken by the hub.
    pub(crate) sent: u64,
    /// Messages that the device completed or rejected.
    pub(crate) settled: u64,
    /// Changes of desired properties.
    pub(crate) desired: u64,
    /// Calls of methods that the device answered.
    pub(crate) calls: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.settled += other.settled;
        self.desired += other.desired;
        self.calls += other.calls;
    }
}

/// What is known of a message: its way into the queue, and out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// It was asked for, and not answered.
    Asked,
    /// It is in the queue.
    Sent,
    /// The device asked for its end, and was not answered.
    EndAsked,
    /// It is over.
    Over,
}

impl Correspondent {
    pub(crate) fn new(reported: Arc<Steps>, random: Random) -> Self {
        Self {
            messages: BTreeMap::new(),
            abandoned: BTreeMap::new(),
            desired: Steps::default(),
            reported,
            numbers: 0,
            tally: Tally::default(),
            random,
        }
    }

    /// Registers the devices, once.
    pub(crate) fn register(rest: &Rest) {
        rest.register(MAIL, &key(MAIL));
        rest.register(TALKER, &key(TALKER));
    }

    /// Writes, takes, changes and calls until the hub is gone or the life is over.
    pub(crate) fn work(&mut self, rest: &Rest, life: &Life) {
        while !life.is_over() {
            let done = match self.random.below(8) {
                0..=2 => self.send(rest),
                3..=5 => self.receive(rest),
                6 => self.desire(rest),
                _ => self.call(rest),
            };
            if done.is_err() {
                return;
            }
        }
    }

    fn send(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        self.numbers += 1;
        let number = self.numbers;
        self.messages.insert(number, Known::Asked);
        let message = json!({ "body": STANDARD.encode("x".repeat((number % 2_000) as usize)), "messageId": format!("{number}") });
        let answer = rest.own_post(&format!("/holdfast/v1/inbox/{MAIL}"), &message)?;
        match answer.status {
            200 => {
                self.messages.insert(number, Known::Sent);
                self.tally.sent += 1;
            }
            // The queue is full.
            403 => drop(self.messages.remove(&number)),
            500.. => pause(),
            _ => panic!("{answer:?}"),
        }
        Ok(())
    }

    fn receive(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        let path = format!("/devices/{MAIL}/messages/deviceBound");
        let answer = as_device(rest, "GET", &path)?;
        match answer.status {
            200 => {}
            204 => return Ok(()),
            500.. => {
                pause();
                return Ok(());
            }
            _ => panic!("{answer:?}"),
        }
        let number: u64 = header(&answer, "iothub-messageid").parse().unwrap();
        let known = self.messages.get_mut(&number).unwrap_or_else(|| panic!("{number} was never sent"));
        assert!(*known != Known::Over, "{number} is over, and delivered again");
        let lock = header(&answer, "etag").trim_matches('"').to_owned();
        let abandoned = self.abandoned.entry(number).or_default();
        let (method, path, ends) = match self.random.below(6) {
            0 if *abandoned < 5 => ("POST", format!("{path}/{lock}/abandon"), false),
            1 => ("DELETE", format!("{path}/{lock}?reject"), true),
            _ => ("DELETE", format!("{path}/{lock}"), true),
        };
        match ends {
            true => *known = Known::EndAsked,
            false => *abandoned += 1,
        }
        let answer = as_device(rest, method, &path)?;
        match answer.status {
            204 if ends => {
                self.messages.insert(number, Known::Over);
                self.tally.settled += 1;
            }
            204 => {}
            500.. => pause(),
            _ => panic!("{answer:?}"),
        }
        Ok(())
    }

    fn desire(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        let step = self.desired.ask();
        let patch = json!({ "properties": { "desired": { "step": step } } });
        let answer = rest.service("PATCH", &format!("/twins/{TALKER}"), Some(&patch))?;
        match answer.status {
            200 => {
                self.desired.acknowledge(step, version(&answer.body, "desired"));
                self.tally.desired += 1;
            }
            500.. => pause(),
            _ => panic!("{answer:?}"),
        }
        Ok(())
    }

    fn call(&mut self, rest: &Rest) -> Result<(), ureq::Error> {
        self.numbers += 1;
        let payload = json!({ "number": self.numbers });
        let call = json!({ "methodName": "echo", "payload": payload, "responseTimeoutInSeconds": 5 });
        let answer = rest.service("POST", &format!("/twins/{TALKER}/methods"), Some(&call))?;
        match answer.status {
            200 => {
                assert_eq!((&answer.body["status"], &answer.body["payload"]), (&json!(200), &payload));
                self.tally.calls += 1;
            }
            // The device is away, or went while it was asked.
            404 | 500.. => {}
            _ => panic!("{answer:?}"),
        }
        Ok(())
    }

    /// Looks at the queue and the twin: what was acknowledged is there, what is over never comes again, what was asked is
    /// there or not, and no version goes back.
    pub(crate) fn judge(&mut self, rest: &Rest) {
        let view = rest.own(&format!("/holdfast/v1/inbox/{MAIL}")).unwrap();
        assert_eq!(view.status, 200, "{view:?}");
        let rows = view.body["waiting"].as_array().unwrap();
        let waiting: Vec<u64> =
            rows.iter().map(|row| row["messageId"].as_str().unwrap().parse().unwrap()).collect();
        assert!(waiting.is_sorted(), "the messages are out of order: {waiting:?}");
        for (number, known) in &mut self.messages {
            let is_there = waiting.contains(number);
            match known {
                Known::Over => assert!(!is_there, "{number} is over, and waits again"),
                Known::Sent => assert!(is_there, "{number} was taken, and is lost"),
                Known::Asked | Known::EndAsked => {}
            }
            *known = if is_there { Known::Sent } else { Known::Over };
        }
        let strange = waiting.iter().find(|number| !self.messages.contains_key(number));
        assert_eq!(strange, None, "a message that was never sent");
        let count = |name: &str| view.body[name].as_u64().unwrap();
        let gone: u64 =
            ["completed", "rejected", "expired", "deliveryCountExceeded", "purged"].map(count).iter().sum();
        assert_eq!(count("sent"), gone + waiting.len() as u64, "{view:?}");
        assert!(count("sent") >= self.tally.sent, "{} were taken, {view:?}", self.tally.sent);
        let settled = count("completed") + count("rejected");
        assert!(settled >= self.tally.settled, "{} were settled, {view:?}", self.tally.settled);

        let twin = rest.service("GET", &format!("/twins/{TALKER}"), None).unwrap();
        assert_eq!(twin.status, 200, "{twin:?}");
        for (part, steps) in [("desired", &self.desired), ("reported", &*self.reported)] {
            steps.judge(part, &twin.body["properties"][part], version(&twin.body, part));
        }
    }
}

fn version(twin: &Value, part: &str) -> u64 {
    twin["properties"][part]["$version"].as_u64().unwrap_or_else(|| panic!("no version of {part} in {twin}"))
}

fn as_device(rest: &Rest, method: &str, path: &str) -> Result<Answer, ureq::Error> {
    rest.as_device(method, path, (MAIL, &key(MAIL)), None)
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_else(|| panic!("no {name}: {answer:?}"))
}

/// Waits a little where the hub cannot.
fn pause() {
    std::thread::sleep(Duration::from_millis(50));
}
