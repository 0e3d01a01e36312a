//! Folding: what of a flood becomes records.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::mem::{Discriminant, discriminant};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use hub::backoff::network;
use hub::decision::{Act, Decision};
use hub::limits::RECORDS_OF_A_SOURCE_PER_MINUTE as RECORDS_PER_WINDOW;
use hub::strangers::is_stranger;

/// The window of folding.
const WINDOW: Duration = Duration::from_secs(60);
/// Sources and causes that are told apart in one window; beyond it all fold into one.
const SOURCES_MAX: usize = 10_000;

/// The least number of records of strangers in a window.
const STRANGERS_MIN: u64 = 60;
/// Strangers fill no more than one part in so many of what is kept, in a day.
const STRANGERS_SHARE: u64 = 2;
const WINDOWS_PER_DAY: u64 = 24 * 60 * 60 / WINDOW.as_secs();

/// How many records of strangers there may be in a window, where so many records are kept in all.
fn strangers_max(kept: u64) -> u64 {
    (kept / STRANGERS_SHARE / WINDOWS_PER_DAY).max(STRANGERS_MIN)
}

/// Folds the decisions of one source and cause beyond a number in a window into one counted record.
pub(super) struct Folder {
    begun: Instant,
    /// By the hash of the source, whose text then needs not be kept: two of 10,000 have the same one once in 10^11 windows.
    seen: HashMap<u64, Seen>,
    hasher: RandomState,
    strangers_max: u64,
    /// Records of strangers in this window, and what came beyond their share.
    strangers: u64,
    crowd: Seen,
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

#[derive(Default)]
struct Seen {
    count: u64,
    /// Most sources have none.
    last: Option<Box<Decision>>,
}

impl Folder {
    /// For a log that keeps so many records.
    pub(super) fn new(now: Instant, kept: u64) -> Self {
        Self {
            begun: now,
            seen: HashMap::new(),
            hasher: RandomState::new(),
            strangers_max: strangers_max(kept),
            strangers: 0,
            crowd: Seen::default(),
        }
    }

    pub(super) fn window_left(&self, now: Instant) -> Duration {
        WINDOW.saturating_sub(now.duration_since(self.begun)).max(Duration::from_millis(10))
    }

    /// The decision itself while its source and cause have not filled their share; nothing after that.
    pub(super) fn fold(&mut self, decision: Box<Decision>) -> Option<Box<Decision>> {
        let is_stranger = is_stranger(&decision);
        if is_stranger && self.strangers >= self.strangers_max {
            self.crowd.count += 1;
            self.crowd.last = Some(decision);
            return None;
        }
        let mut source = self.hasher.hash_one(Source::of(&decision));
        if self.seen.len() >= SOURCES_MAX && !self.seen.contains_key(&source) {
            source = self.hasher.hash_one(Source::Others);
        }
        let seen = self.seen.entry(source).or_insert(Seen { count: 0, last: None });
        seen.count += 1;
        if seen.count <= RECORDS_PER_WINDOW {
            self.strangers += u64::from(is_stranger);
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
        self.strangers = 0;
        let crowd = std::mem::take(&mut self.crowd);
        records.extend(crowd.last.map(|mut last| {
            last.count = crowd.count;
            last
        }));
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

    const KEPT: u64 = 1_000_000;

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
        let mut folder = Folder::new(start, KEPT);
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
        let mut folder = Folder::new(Instant::now(), KEPT);
        assert_eq!((0..1_000).filter_map(|n| folder.fold(from(n))).count(), 20);
    }

    #[test]
    fn strangers_from_everywhere_fill_no_more_than_half_of_the_log_in_a_day() {
        let mut folder = Folder::new(Instant::now(), KEPT);
        let stranger = |n: u32| {
            let mut decision = refused(u64::from(n));
            decision.identity = None;
            decision.origin.address = Some(IpAddr::from(n.to_be_bytes()));
            decision
        };
        let kept = (0..100_000).filter_map(|n| folder.fold(stranger(n << 8))).count() as u64;
        assert_eq!(kept, 347);
        assert!(kept * WINDOWS_PER_DAY <= KEPT / 2);
        assert!(folder.fold(refused(1)).is_some(), "who names an identity is on record all the same");
        let mut records = Vec::new();
        folder.close(Instant::now(), &mut records);
        assert_eq!(records.iter().map(|record| record.count).collect::<Vec<_>>(), [100_000 - 347]);
        assert!(folder.fold(stranger(0)).is_some(), "a new window begins anew");
    }
}
