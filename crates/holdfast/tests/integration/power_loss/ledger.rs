//! What the test knows: what was sent, what was acknowledged, what a reader saw; and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use sim::Event;

/// A message that a device sends, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Attempt {
    /// The number of the device.
    pub(crate) device: u32,
    /// Counts the messages of the device over all its connections.
    pub(crate) serial: u64,
}

/// The body tells the message, and the rest of it follows from that, so that any change shows.
pub(crate) fn body(attempt: Attempt) -> Bytes {
    let mut random = super::Random(u64::from(attempt.device) << 40 | attempt.serial);
    let length = if random.once_in(50) { random.below(60_000) } else { random.below(600) };
    let mut text = format!("{} {} ", attempt.device, attempt.serial).into_bytes();
    text.extend((0..length / 8).flat_map(|_| random.next().to_le_bytes()));
    text.into()
}

fn attempt_of(bytes: &[u8]) -> Option<Attempt> {
    let mut words = bytes.splitn(3, |byte| *byte == b' ').map(|word| std::str::from_utf8(word).ok());
    let device = words.next()??.parse().ok()?;
    let serial = words.next()??.parse().ok()?;
    Some(Attempt { device, serial })
}

#[derive(Default)]
pub(crate) struct Ledger {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// For each device, its messages in the order they were sent.
    sent: BTreeMap<u32, Vec<Sent>>,
    /// What any reader ever saw, by partition and sequence number.
    seen: BTreeMap<(String, i64), (Attempt, String)>,
    /// What the reader of this life saw.
    now: BTreeMap<(String, i64), Attempt>,
    /// The place of each message that this reader saw.
    places: BTreeMap<Attempt, (String, i64)>,
    problems: Vec<String>,
}

struct Sent {
    connection: u64,
    acknowledged: bool,
}

impl Ledger {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a message is about to be sent.
    pub(crate) fn send(&self, device: u32, connection: u64) -> Attempt {
        let mut state = self.state();
        let sent = state.sent.entry(device).or_default();
        sent.push(Sent { connection, acknowledged: false });
        Attempt { device, serial: sent.len() as u64 - 1 }
    }

    pub(crate) fn acknowledge(&self, attempt: Attempt) {
        let mut state = self.state();
        let sent = state.sent.get_mut(&attempt.device).and_then(|sent| sent.get_mut(attempt.serial as usize));
        sent.expect("an acknowledged message was sent").acknowledged = true;
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.state().sent.values().flatten().filter(|sent| sent.acknowledged).count()
    }

    pub(crate) fn sent(&self) -> usize {
        self.state().sent.values().map(Vec::len).sum()
    }

    pub(crate) fn problem(&self, problem: String) {
        self.state().problems.push(problem);
    }

    /// A new reader begins at the beginning.
    pub(crate) fn begin_reading(&self) {
        let mut state = self.state();
        state.now.clear();
        state.places.clear();
    }

    /// Notes what the reader saw.
    pub(crate) fn see(&self, event: &Event) {
        let mut state = self.state();
        let place = (event.partition.to_string(), event.sequence);
        let attempt = match attempt_of(&event.body) {
            Some(attempt) if body(attempt) == event.body && event.device == name(attempt.device) => attempt,
            _ => {
                state.problems.push(format!("{place:?} holds what nobody sent, of {}", event.device));
                return;
            }
        };
        if attempt.serial >= state.sent.get(&attempt.device).map_or(0, Vec::len) as u64 {
            state.problems.push(format!("{attempt:?} was read and never sent"));
        }
        let is = (attempt, event.offset.clone());
        if let Some(was) = state.seen.insert(place.clone(), is.clone())
            && was != is
        {
            state.problems.push(format!("{place:?} was {was:?} and is {is:?} now"));
        }
        if let Some(other) = state.places.insert(attempt, place.clone()) {
            state.problems.push(format!("{attempt:?} stands at {other:?} and again at {place:?}"));
        }
        if let Some((last, _)) = state.now.iter().next_back().filter(|(last, _)| last.0 == place.0)
            && last.1 >= place.1
        {
            let problem = format!("{place:?} came after {last:?}");
            state.problems.push(problem);
        }
        state.now.insert(place, attempt);
    }

    pub(crate) fn has_seen(&self, attempts: &[Attempt]) -> bool {
        let state = self.state();
        attempts.iter().all(|attempt| state.places.contains_key(attempt))
    }

    /// Says what does not hold after a start, once the reader has seen the newest message of each device.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut state = self.state();
        let mut problems = std::mem::take(&mut state.problems);
        for (place, (attempt, _)) in &state.seen {
            if !state.now.contains_key(place) {
                problems.push(format!("{attempt:?} was read at {place:?} and is gone"));
            }
        }
        for (device, sent) in &state.sent {
            let mut cut = BTreeSet::new();
            for (serial, sent) in sent.iter().enumerate() {
                let attempt = Attempt { device: *device, serial: serial as u64 };
                match state.places.contains_key(&attempt) {
                    false if sent.acknowledged => {
                        problems.push(format!("{attempt:?} was acknowledged and is lost"))
                    }
                    false => {
                        cut.insert(sent.connection);
                    }
                    true if cut.contains(&sent.connection) => {
                        problems.push(format!(
                            "{attempt:?} was kept, one sent before it on its connection was not"
                        ));
                    }
                    true => {}
                }
            }
            let order: Vec<_> = state.now.iter().filter(|(_, attempt)| attempt.device == *device).collect();
            for pair in order.windows(2) {
                if pair[0].1.serial >= pair[1].1.serial || pair[0].0.0 != pair[1].0.0 {
                    problems.push(format!("out of order: {:?} then {:?}", pair[0], pair[1]));
                }
            }
        }
        problems
    }
}

/// The id of a device.
pub(crate) fn name(device: u32) -> String {
    format!("press-{device}")
}
