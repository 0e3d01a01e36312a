//! How far consumer groups have read: of each partition, what was handed to their readers, what they passed over, and what
//! waits. Nothing is kept for an event; the counts of a partition always add up to what it ever held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::HubError;
use crate::hub::Hub;
use crate::ports::event_log::Bounds;
use crate::record::{Key, Kind, Record};

/// How far the readers of one consumer group have come in one partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Position {
    /// One past the last event that was ever handed to a reader.
    pub next: u64,
    /// The event from which on all before `next` were handed to a reader.
    pub since: u64,
    /// How many events were handed to a reader for the first time.
    pub delivered: u64,
    /// How many events lay before the place at which a reader began, and had been handed to none.
    pub passed_over: u64,
    /// How many events went by retention, or by damage, before a reader came to them.
    pub expired: u64,
    /// When something was handed out last.
    pub last: Option<Timestamp>,
}

/// Events that one reader was handed, in the order of the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handed {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// How many; fewer than lie between the two where some are gone.
    pub count: u64,
}

impl Handed {
    /// One event.
    pub fn one(sequence: u64) -> Self {
        Self { first: sequence, last: sequence, count: 1 }
    }

    /// The same with one event more.
    pub fn and(self, sequence: u64) -> Self {
        Self { last: sequence, count: self.count + 1, ..self }
    }
}

impl Position {
    /// Counts what a reader was handed. `first_left` says which event is the first that retention has left; it is asked where
    /// the reader began behind the others.
    pub fn hand(&mut self, handed: Handed, first_left: impl FnOnce() -> u64, now: Timestamp) {
        self.last = Some(now);
        let Handed { first, last, count } = handed;
        if last < self.next {
            return; // Again, for another reader or a second time.
        }
        if first > self.next {
            let gone = first_left().clamp(self.next, first) - self.next;
            let passed_over = first - self.next - gone;
            self.expired += gone;
            self.passed_over += passed_over;
            self.next = first;
            if passed_over > 0 {
                self.since = first;
            }
        }
        // Holes lie behind what was handed out before: nobody is handed less the second time.
        let (fresh, holes) = (last + 1 - self.next, last + 1 - first - count);
        self.expired += holes.min(fresh);
        self.delivered += fresh - holes.min(fresh);
        self.next = last + 1;
    }

    /// What became of all events that the partition ever held, for this group.
    pub fn balance(&self, bounds: Bounds) -> Balance {
        let gone = bounds.first_sequence.saturating_sub(self.next);
        Balance {
            stored: bounds.next_sequence,
            delivered: self.delivered,
            passed_over: self.passed_over,
            expired: self.expired + gone,
            waiting: bounds.next_sequence.saturating_sub(self.next + gone),
        }
    }

    /// What became of one event.
    pub fn fate(&self, sequence: u64) -> ReadState {
        match sequence {
            _ if sequence >= self.next => ReadState::Waiting,
            _ if sequence >= self.since => ReadState::Delivered,
            _ => ReadState::BeforeItsReaders,
        }
    }
}

/// What became of the events of a partition, or of all: `stored` is always the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Balance {
    /// How many were ever stored.
    pub stored: u64,
    /// How many were handed to a reader.
    pub delivered: u64,
    /// How many lay before the place at which readers began.
    pub passed_over: u64,
    /// How many were gone before a reader came.
    pub expired: u64,
    /// How many wait.
    pub waiting: u64,
}

impl std::ops::AddAssign for Balance {
    fn add_assign(&mut self, other: Self) {
        self.stored += other.stored;
        self.delivered += other.delivered;
        self.passed_over += other.passed_over;
        self.expired += other.expired;
        self.waiting += other.waiting;
    }
}

/// What a consumer group has made of one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ReadState {
    /// It was handed to a reader.
    Delivered,
    /// No reader has come to it yet.
    Waiting,
    /// The readers began behind it. Before they did, others may have been handed it.
    BeforeItsReaders,
}

/// The positions of a group, by partition, as they rest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPositions {
    /// Where there were readers.
    pub partitions: BTreeMap<u16, Position>,
}

/// The positions of all groups. A group is named in lower case.
#[derive(Default)]
pub struct Positions {
    groups: Mutex<BTreeMap<String, Partitions>>,
}

type Partitions = BTreeMap<u16, Arc<Mutex<Position>>>;

/// The position that the readers of one group have in one partition.
#[derive(Clone)]
pub struct SharedPosition(Arc<Mutex<Position>>);

impl SharedPosition {
    /// See [`Position::hand`].
    pub fn hand(&self, handed: Handed, first_left: impl FnOnce() -> u64, now: Timestamp) {
        lock(&self.0).hand(handed, first_left, now);
    }
}

impl Positions {
    /// The position of a group in a partition. Groups are compared without case.
    pub fn of(&self, group: &str, partition: u16) -> SharedPosition {
        let mut groups = lock(&self.groups);
        let partitions = groups.entry(group.to_ascii_lowercase()).or_default();
        SharedPosition(partitions.entry(partition).or_default().clone())
    }

    /// How far the readers of a group are in a partition; at its beginning where there never was one.
    pub fn get(&self, group: &str, partition: u16) -> Position {
        let groups = lock(&self.groups);
        let shared =
            groups.get(&group.to_ascii_lowercase()).and_then(|partitions| partitions.get(&partition));
        shared.map(|position| lock(position).clone()).unwrap_or_default()
    }

    fn put(&self, group: &str, positions: GroupPositions) {
        for (partition, position) in positions.partitions {
            *lock(&self.of(group, partition).0) = position;
        }
    }

    /// Forgets a group that is no more.
    pub(crate) fn forget(&self, group: &str) {
        lock(&self.groups).remove(&group.to_ascii_lowercase());
    }

    fn all(&self) -> Vec<(String, GroupPositions)> {
        let groups = lock(&self.groups);
        let positions = |partitions: &Partitions| GroupPositions {
            partitions: partitions
                .iter()
                .map(|(number, position)| (*number, lock(position).clone()))
                .collect(),
        };
        groups.iter().map(|(group, partitions)| (group.clone(), positions(partitions))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    /// Loads where the readers were when the hub ended; before the first reader comes.
    pub async fn load_positions(&self) -> Result<(), HubError> {
        for (key, stored) in self.registry.list(Kind::ReadPositions, None, usize::MAX).await? {
            if let (Key::ReadPositions(group), Record::ReadPositions(positions)) = (key, stored.record) {
                self.positions.put(&group, positions);
            }
        }
        Ok(())
    }

    /// Writes down where the readers are, if they are not where `written` says; gives what was written. After a crash they
    /// are where they were then, and events between count as waiting until they are read again.
    pub async fn write_positions(
        &self,
        written: &[(String, GroupPositions)],
    ) -> Result<Vec<(String, GroupPositions)>, HubError> {
        let now = self.positions.all();
        let changed = now.iter().filter(|group| !written.contains(group));
        let records: Vec<(Key, Record)> = changed
            .map(|(group, at)| (Key::ReadPositions(group.clone()), Record::ReadPositions(at.clone())))
            .collect();
        if !records.is_empty() {
            self.registry.note(records).await?;
        }
        Ok(now)
    }

    /// What became of everything in the stream, for each consumer group.
    pub async fn stream_balances(&self) -> Result<Vec<(String, Balance)>, HubError> {
        let groups = self.consumer_groups().await?;
        Ok(groups.into_iter().map(|group| (group.clone(), self.balance_of(&group))).collect())
    }

    fn balance_of(&self, group: &str) -> Balance {
        let mut total = Balance::default();
        for partition in 0..self.partition_count() {
            if let Some(bounds) = self.log.bounds(partition) {
                total += self.positions.get(group, partition).balance(bounds);
            }
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn bounds(first_sequence: u64, next_sequence: u64) -> Bounds {
        Bounds { first_sequence, next_sequence, last_offset: None, last_enqueued: 0 }
    }

    fn run(first: u64, last: u64) -> Handed {
        Handed { first, last, count: last - first + 1 }
    }

    fn sum(balance: Balance) -> u64 {
        balance.delivered + balance.passed_over + balance.expired + balance.waiting
    }

    #[test]
    fn what_is_read_in_order_is_delivered_and_the_rest_waits() {
        let mut position = Position::default();
        position.hand(run(0, 9), || 0, NOW);
        position.hand(run(10, 14), || 0, NOW);
        let balance = position.balance(bounds(0, 20));
        assert_eq!((balance.delivered, balance.waiting, sum(balance)), (15, 5, 20));
        assert_eq!((position.fate(14), position.fate(15)), (ReadState::Delivered, ReadState::Waiting));
    }

    #[test]
    fn what_is_read_again_counts_once() {
        let mut position = Position::default();
        position.hand(run(0, 9), || 0, NOW);
        position.hand(run(0, 4), || 0, NOW);
        position.hand(run(5, 11), || 0, NOW);
        assert_eq!(position.balance(bounds(0, 12)).delivered, 12);
    }

    #[test]
    fn a_reader_that_begins_at_the_end_passes_over_what_lies_before() {
        let mut position = Position::default();
        position.hand(run(100, 109), || 30, NOW);
        let balance = position.balance(bounds(30, 110));
        assert_eq!((balance.expired, balance.passed_over, balance.delivered), (30, 70, 10));
        assert_eq!(sum(balance), 110);
        assert_eq!(position.fate(99), ReadState::BeforeItsReaders);
    }

    #[test]
    fn what_goes_before_it_is_read_has_expired() {
        let mut position = Position::default();
        position.hand(run(0, 9), || 0, NOW);
        let unread = position.balance(bounds(50, 60));
        assert_eq!((unread.expired, unread.waiting, sum(unread)), (40, 10, 60));
        position.hand(run(50, 59), || 50, NOW);
        assert_eq!(position.balance(bounds(50, 60)), Balance { delivered: 20, waiting: 0, ..unread });
        assert_eq!(position.fate(5), ReadState::Delivered);
    }

    #[test]
    fn a_hole_is_not_delivered() {
        let mut position = Position::default();
        position.hand(Handed::one(0).and(1).and(5), || 0, NOW);
        let balance = position.balance(bounds(0, 6));
        assert_eq!((balance.delivered, balance.expired, sum(balance)), (3, 3, 6));
    }

    #[test]
    fn the_counts_balance_whatever_readers_do() {
        let (mut position, mut state) = (Position::default(), 1_u64);
        let (mut first_left, mut end) = (0, 1);
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let random = state >> 33;
            match random % 4 {
                0 => end += random % 7,
                1 => first_left = (first_left + random % 5).min(end),
                _ if first_left < end => {
                    let first = first_left + random % (end - first_left);
                    position.hand(run(first, (first + random % 9).min(end - 1)), || first_left, NOW);
                }
                _ => {}
            }
            assert_eq!(sum(position.balance(bounds(first_left, end))), end);
        }
    }
}
