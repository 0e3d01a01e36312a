//! Folding: what of a flood becomes records.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hub::backoff::network;
use hub::decision::{Act, Decision};

/// Records of one source and cause in a window; the rest become one record with their count.
const RECORDS_PER_WINDOW: u64 = 20;
/// The window of folding.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources and causes that are told apart in one window; beyond it all fold into one.
const SOURCES_MAX: usize = 10_000;

/// Folds the decisions of one source and cause beyond a number in a window into one counted record.
pub(super) struct Folder {
    begun: Instant,
    /// By the hash of the source, whose text then needs not be kept: two of 10,000 have the same one once in 10^11 windows.
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
}

/// What decisions fold by.
#[derive(Hash)]
enum Source<'a> {
    /// Refusals by network and cause, for a flood may name a new device each time, and come from a new address of its network.
    Refused(Option<IpAddr>, &'static str),
    /// What is allowed by who it was allowed to.
    Allowed(Option<IpAddr>, Option<&'a str>, Discriminant<Act>),
    /// All beyond [`SOURCES_MAX`].
    Others,
}

impl<'a> Source<'a> {
    fn of(decision: &'a Decision) -> Self {
        let address = decision.origin.address;
        match &decision.refusal {
            Some(refusal) => Self::Refused(address.map(network), refusal.cause()),
            None => Self::Allowed(address, decision.identity.as_deref(), discriminant(&decision.act)),
        }
    }
}

struct Seen {
    count: u64,
    /// Most sources have none.
    last: Option<Box<Decision>>,
}

impl Folder {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, seen: HashMap::new(), hasher: RandomState::new() }
    }

    pub(super) fn window_left(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.duration_since(self.begun)).max(Duration::from_millis(10))
    }

    /// The decision itself while its source and cause have not filled their share; nothing after that.
    pub(super) fn fold(&mut self, decision: Box<Decision>) -> Option<Box<Decision>> {
        let mut source = self.hasher.hash_one(Source::of(&decision));
        if self.seen.len() >= SOURCES_MAX && !self.seen.contains_key(&source) {
            source = self.hasher.hash_one(Source::Others);
        }
        let seen = self.seen.entry(source).or_insert(Seen { count: 0, last: None });
        seen.count += 1;
        if seen.count <= RECORDS_PER_WINDOW {
            return Some(decision);
        }
        seen.last = Some(decision);
        None
    }

    /// At the end of a window: what was folded, each with its count.
    pub(super) fn roll(&mut self, now: Instant, records: &mut impl Extend<Box<Decision>>) {
        if now.duration_since(self.begun) >= WINDOW {
            self.close(now, records);
        }
    }

    /// Ends the window.
    pub(super) fn close(&mut self, now: Instant, records: &mut impl Extend<Box<Decision>>) {
        self.begun = now;
        records.extend(self.seen.drain().filter_map(|(_, seen)| {
            let mut last = seen.last?;
            last.count = seen.count - RECORDS_PER_WINDOW;
            Some(last)
        }));
    }
}

#[cfg(test)]
mod tests {
    use hub::refusal::Refusal;

    use super::*;

    fn refused(n: u64) -> Box<Decision> {
        let mut decision = Box::new(Decision::new(jiff::Timestamp::UNIX_EPOCH, Act::Connect));
        decision.identity = Some(format!("device-{n}"));
        decision.refusal = Some(Refusal::NoCredential);
        decision
    }

    fn rolled(folder: &mut Folder, now: Instant) -> Vec<u64> {
        let mut records = Vec::new();
        folder.roll(now, &mut records);
        records.iter().map(|decision| decision.count).collect()
    }

    #[test]
    fn a_flood_of_one_cause_becomes_twenty_records_and_a_count() {
        let start = Instant::now();
        let mut folder = Folder::new(start);
        let kept = (0..1_000).filter_map(|n| folder.fold(refused(n))).count();
        assert_eq!(kept, 20);
        assert!(rolled(&mut folder, start + WINDOW / 2).is_empty());
        assert_eq!(rolled(&mut folder, start + WINDOW), [980]);
        assert!(folder.fold(refused(1)).is_some(), "a new window begins anew");
    }

    #[test]
    fn a_flood_from_all_addresses_of_a_network_folds_too() {
        let from = |n: u16| {
            let mut decision = refused(u64::from(n));
            decision.origin.address = Some(IpAddr::from([0x2001, 0xdb8, 0, 1, 0, 0, 0, n]));
            decision
        };
        let mut folder = Folder::new(Instant::now());
        assert_eq!((0..1_000).filter_map(|n| folder.fold(from(n))).count(), 20);
    }
}
