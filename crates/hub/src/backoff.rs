//! Slowing down those who guess: how long the answer to a refusal waits. What is a guess stands in [`crate::refusing`].
//!
//! Only refusals wait. Whoever brings a good credential is let in at once, also from an address that is slowed, for many
//! devices may stand behind one; and also in a name that others guess at, or guessing would lock a device out.
//!
//! Every refusal is answered, for an SDK takes silence for a fault of the network and tries for ever. It is answered in
//! time, for somebody with an honest mistake may stand behind the same address.

use crate::limits::GUESS_WAIT_MAX as WAIT_MAX;
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hash};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use crate::limits::GUESSES_AT_ONCE as AT_ONCE;

use serde::{Deserialize, Serialize};

/// The minute: without more refusals than are answered at once for so long, they are forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// The wait of the first refusal that waits; each one after it waits twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Answers that wait at once, of one source and in all. Whatever is beyond is answered at once: it costs no memory then, and
/// tells no more.
const PLACES_PER_SOURCE: usize = 16;
const PLACES: usize = 2_000;
/// Sources that are remembered, and as many names; the oldest are forgotten first.
const REMEMBERED_MAX: usize = 10_000;

/// Who was refused lately, and who waits for an answer.
pub struct Backoff {
    at_once: u32,
    /// Whether peers on this machine are never slowed.
    spares_loopback: bool,
    hasher: RandomState,
    state: Mutex<State>,
    delayed: AtomicU64,
}

#[derive(Default)]
struct State {
    sources: Recent<IpAddr>,
    /// By the hash of the name: no text of a peer is kept. Two names with one hash would only share their count.
    names: Recent<u64>,
    waiting: HashMap<Option<IpAddr>, usize>,
    waiting_in_all: usize,
}

/// How a refusal is to be answered.
#[must_use]
#[derive(Default)]
pub struct Pace {
    /// For how long the answer waits.
    pub wait: Duration,
    /// For the record; `None` when it is answered at once.
    pub slowed: Option<Slowed>,
    /// Counted as waiting until this is dropped.
    _place: Option<Place>,
}

/// How a refusal was slowed down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slowed {
    /// Which refusal it was, counted from 1 since the last time of quiet, of its source or in its name.
    pub refusals: u32,
    /// For how long the answer waited.
    pub milliseconds: u64,
}

struct Place {
    backoff: Arc<Backoff>,
    source: Option<IpAddr>,
}

impl Backoff {
    /// Answers so many refusals in a minute at once, of each source and in each name; 0 slows nobody down.
    pub fn new(at_once: u32) -> Self {
        Self {
            at_once,
            spares_loopback: false,
            hasher: RandomState::new(),
            state: Mutex::default(),
            delayed: AtomicU64::new(0),
        }
    }

    /// The same, which slows down nobody on this machine: there it is the operator, or a test.
    pub fn sparing_loopback(self) -> Self {
        Self { spares_loopback: true, ..self }
    }

    /// Takes note of a refusal, and says how it is to be answered. `name` is who the client claimed to be: a device, a
    /// module or a policy, whether there is one or not.
    pub fn refused(self: &Arc<Self>, source: Option<IpAddr>, name: Option<&str>, now: Instant) -> Pace {
        let is_local = source.is_some_and(|source| source.to_canonical().is_loopback());
        if self.at_once == 0 || self.spares_loopback && is_local {
            return Pace::default();
        }
        let source = source.map(network);
        let mut state = self.lock();
        let of_source = source.map_or(0, |source| state.sources.of(source).count(self.at_once, now));
        let in_name = name.map(|name| self.hasher.hash_one(name));
        let in_name = in_name.map_or(0, |name| state.names.of(name).count(self.at_once, now));
        let refusals = of_source.max(in_name);
        let wait = wait(refusals, self.at_once);
        if wait.is_zero() {
            return Pace::default();
        }
        if !state.sit_down(source) {
            return Pace::default();
        }
        drop(state);
        self.delayed.fetch_add(1, Ordering::Relaxed);
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Pace {
            wait,
            slowed: Some(Slowed { refusals, milliseconds }),
            _place: Some(Place { backoff: self.clone(), source }),
        }
    }

    /// How many refusals were slowed down since the start.
    pub fn delayed(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }

    /// How many connections wait for an answer.
    pub fn waiting(&self) -> usize {
        self.lock().waiting_in_all
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a place among those who wait, where there is one.
    fn sit_down(&mut self, source: Option<IpAddr>) -> bool {
        if self.waiting_in_all >= PLACES {
            return false;
        }
        // No more sources than places have an entry.
        let of_source = self.waiting.entry(source).or_default();
        if *of_source >= PLACES_PER_SOURCE {
            return false;
        }
        *of_source += 1;
        self.waiting_in_all += 1;
        true
    }

    fn stand_up(&mut self, source: Option<IpAddr>) {
        self.waiting_in_all = self.waiting_in_all.saturating_sub(1);
        if let Some(of_source) = self.waiting.get_mut(&source) {
            *of_source -= 1;
            if *of_source == 0 {
                self.waiting.remove(&source);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.backoff.lock().stand_up(self.source);
    }
}

/// The refusals of one source, or in one name.
#[derive(Default)]
struct Tally {
    refusals: u32,
    /// When they are forgotten; `None` before the first.
    forgotten: Option<Instant>,
}

impl Tally {
    /// Counts one, and gives their number. As long as all are answered at once they are forgotten a minute after the
    /// first; later on, after a minute without any, or after as long again as the last one had to wait.
    fn count(&mut self, at_once: u32, now: Instant) -> u32 {
        if self.forgotten.is_some_and(|forgotten| forgotten <= now) {
            *self = Self::default();
        }
        self.refusals = self.refusals.saturating_add(1);
        let wait = wait(self.refusals, at_once);
        match self.forgotten {
            Some(_) if wait.is_zero() => {}
            _ => self.forgotten = Some(now + wait + wait.max(WINDOW)),
        }
        self.refusals
    }
}

/// How long the answer to the n-th refusal waits.
fn wait(refusals: u32, at_once: u32) -> Duration {
    match refusals.checked_sub(at_once.saturating_add(1)) {
        None => Duration::ZERO,
        Some(doublings) => FIRST_WAIT.saturating_mul(2_u32.saturating_pow(doublings)).min(WAIT_MAX),
    }
}

/// What one party has: an IPv4 address, or the /64 that an IPv6 host chooses its addresses from.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        address => address,
    }
}

/// A bounded memory of tallies in two generations: when the younger one is full, it becomes the older one, and what
/// nobody asked for meanwhile is forgotten.
struct Recent<K> {
    younger: HashMap<K, Tally>,
    older: HashMap<K, Tally>,
}

impl<K> Default for Recent<K> {
    fn default() -> Self {
        Self { younger: HashMap::new(), older: HashMap::new() }
    }
}

impl<K: Hash + Eq> Recent<K> {
    fn of(&mut self, key: K) -> &mut Tally {
        let known = self.older.remove(&key);
        if self.younger.len() >= REMEMBERED_MAX / 2 && !self.younger.contains_key(&key) {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.entry(key).or_insert_with(|| known.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from(n.to_be_bytes()))
    }

    fn slow() -> (Arc<Backoff>, Instant) {
        (Arc::new(Backoff::new(AT_ONCE)), Instant::now())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn ten_in_a_minute_are_answered_at_once_and_the_rest_wait_twice_as_long_each_time() {
        let (backoff, start) = slow();
        let waits: Vec<_> = (0..20)
            .map(|n| backoff.refused(address(1), None, start + n * 2 * SECOND).wait.as_millis())
            .collect();
        assert!(waits[..10].iter().all(|wait| *wait == 0), "{waits:?}");
        assert_eq!(waits[10..], [250, 500, 1_000, 2_000, 4_000, 8_000, 8_000, 8_000, 8_000, 8_000]);
        assert_eq!(backoff.delayed(), 10);
    }

    #[test]
    fn nobody_waits_for_longer_than_a_client_does() {
        assert_eq!(wait(10, 10), Duration::ZERO);
        assert_eq!(wait(15, 10), Duration::from_secs(4));
        assert_eq!(wait(16, 10), WAIT_MAX);
        assert_eq!(wait(u32::MAX, 10), WAIT_MAX);
        assert!(WAIT_MAX < Duration::from_secs(10));
    }

    #[test]
    fn this_machine_is_spared_unless_the_operator_says_otherwise() {
        for local in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            let source = local.parse().ok();
            let now = Instant::now();
            let spared = Arc::new(Backoff::new(1).sparing_loopback());
            assert!((0..20).all(|_| spared.refused(source, Some("pump"), now).slowed.is_none()), "{local}");
            let backoff = Arc::new(Backoff::new(1));
            assert!((0..20).any(|_| backoff.refused(source, Some("pump"), now).slowed.is_some()), "{local}");
        }
        let spared = Arc::new(Backoff::new(1).sparing_loopback());
        assert!((0..2).any(|_| spared.refused(address(1), None, Instant::now()).slowed.is_some()));
    }

    #[test]
    fn who_is_refused_nine_times_a_minute_never_waits() {
        let (backoff, start) = slow();
        for n in 0..200 {
            let pace = backoff.refused(address(1), Some("pump"), start + n * 7 * SECOND);
            assert!(pace.slowed.is_none(), "the {n}th waits");
        }
    }

    #[test]
    fn quiet_forgets_but_not_before_the_wait_is_over() {
        let (backoff, start) = slow();
        let refuse = |now| backoff.refused(address(1), None, now).slowed.map(|slowed| slowed.refusals);
        (0..14).for_each(|_| assert!(refuse(start).is_none_or(|number| number > 10)));
        // The 14th waits 2 s, and the minute begins then.
        assert_eq!(refuse(start + 61 * SECOND), Some(15));
        assert_eq!(refuse(start + (61 + 4 + 60) * SECOND), None);
        for _ in 0..30 {
            let _ = refuse(start + 126 * SECOND);
        }
        assert_eq!(refuse(start + (126 + 67) * SECOND), Some(32));
        assert_eq!(refuse(start + (126 + 67 + 68) * SECOND), None);
    }

    #[test]
    fn a_name_is_slowed_wherever_the_guesses_come_from_and_no_other_name_is() {
        let (backoff, start) = slow();
        let refuse = |from, name| backoff.refused(address(from), Some(name), start).slowed;
        assert!((0..10).all(|n| refuse(n, "pump").is_none()));
        assert_eq!(refuse(10, "pump").map(|slowed| slowed.refusals), Some(11));
        assert_eq!(refuse(10, "fan"), None);
    }

    #[test]
    fn hosts_of_one_network_count_together() {
        let (backoff, start) = slow();
        let refuse = |text: &str| backoff.refused(text.parse().ok(), None, start).slowed.is_some();
        for n in 0..10 {
            assert!(!refuse(&format!("2001:db8::{n}")));
        }
        assert!(refuse("2001:db8::ffff:1"));
        assert!(!refuse("2001:db8:0:1::1"));
        (0..10).for_each(|_| assert!(!refuse("192.0.2.1")));
        assert!(refuse("::ffff:192.0.2.1"));
    }

    #[test]
    fn places_to_wait_are_few_and_free_again_when_left() {
        let (backoff, start) = slow();
        (0..10).for_each(|_| drop(backoff.refused(address(1), None, start)));
        let held: Vec<_> = (0..16).map(|_| backoff.refused(address(1), None, start)).collect();
        assert!(held.iter().all(|pace| !pace.wait.is_zero()));
        let beyond = backoff.refused(address(1), None, start);
        assert!(beyond.wait.is_zero() && beyond.slowed.is_none(), "it is answered at once");
        drop(held);
        assert_eq!(backoff.waiting(), 0);
        assert!(!backoff.refused(address(1), None, start).wait.is_zero());

        let crowd: Vec<_> = (0..200).flat_map(|n| [n; 26]).collect();
        let held: Vec<_> = crowd.iter().map(|n| backoff.refused(address(1_000 + n), None, start)).collect();
        assert_eq!(backoff.waiting(), PLACES);
        drop(held);
        assert_eq!((backoff.waiting(), backoff.lock().waiting.len()), (0, 0));
    }

    #[test]
    fn a_flood_of_sources_and_names_is_remembered_within_bounds() {
        let (backoff, start) = slow();
        (0..10).for_each(|_| drop(backoff.refused(address(u32::MAX), None, start)));
        for n in 0..30_000_u32 {
            let _ = backoff.refused(address(n), Some(&n.to_string()), start);
            // Who is refused all the time is not forgotten for it.
            if n % 1_000 == 0 {
                assert!(backoff.refused(address(u32::MAX), None, start).slowed.is_some());
            }
        }
        let state = backoff.lock();
        assert!(state.sources.younger.len() + state.sources.older.len() <= REMEMBERED_MAX);
        assert!(state.names.younger.len() + state.names.older.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn who_wants_no_delays_has_none() {
        let backoff = Arc::new(Backoff::new(0));
        let now = Instant::now();
        assert!((0..100).all(|_| backoff.refused(address(1), Some("pump"), now).slowed.is_none()));
    }
}
