//! By which time old events may be deleted. A clock that jumps must not delete what is young, so time is held against a
//! second clock, which counts how long the machine runs and cannot be set.
//!
//! - Within [`TOLERANCE`] of each other the two clocks agree, and the time of day counts.
//! - A time of day that jumped ahead is doubted. Until it was steady for [`STEADY`], or an operator trusts it, time is
//!   what it was before, plus what the machine ran since.
//! - A time of day that went back counts at once: by it less is deleted.
//! - A hub that starts long after it stopped cannot tell a long rest from a jump. So it doubts, for no longer than an hour.

use std::time::Duration;

use jiff::Timestamp;

use crate::telemetry::Millis;

/// How far the time of day may go ahead, from one look to the next, before it is doubted.
pub const TOLERANCE: Duration = Duration::from_secs(5 * 60);

/// How far the time of day may be ahead, at the start, of the time that is known from before.
pub const START_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// How long a doubted time of day must be steady before it counts.
pub const STEADY: Duration = Duration::from_secs(60 * 60);

/// The time of day beside the count of a clock that nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The time of day, in milliseconds since 1970.
    pub wall: Millis,
    /// What the other clock counts. Where it begins is of no matter.
    pub count: Duration,
}

/// The time that deletions go by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldTime {
    /// What was believed last, and when.
    known: Reading,
    doubt: Option<Doubt>,
}

/// A time of day that is not believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doubt {
    /// The time of day when it was found to be steady first.
    steady_from: Reading,
}

/// What a look at the clocks came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Nothing new.
    Same,
    /// The time of day is doubted from now on.
    Doubted,
    /// The time of day counts again.
    Believed,
}

/// What is known of a doubted time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ahead {
    /// The time that deletions go by.
    pub held: Timestamp,
    /// How far the time of day is ahead of it.
    pub ahead: Duration,
    /// How long it must stay steady until it counts.
    pub left: Duration,
}

impl HeldTime {
    /// At the start. `newest` is the latest time that is known from before, `None` where there was none.
    pub fn new(now: Reading, newest: Option<Millis>) -> Self {
        let known = newest.filter(|newest| ahead_of(now.wall, *newest) > START_TOLERANCE);
        match known {
            None => Self { known: now, doubt: None },
            Some(newest) => {
                Self { known: Reading { wall: newest, ..now }, doubt: Some(Doubt { steady_from: now }) }
            }
        }
    }

    /// Takes in what the clocks say.
    pub fn look(&mut self, now: Reading) -> Turn {
        let held = run_on(self.known, now.count);
        if ahead_of(now.wall, held) <= TOLERANCE {
            self.known = now;
            return if self.doubt.take().is_some() { Turn::Believed } else { Turn::Same };
        }
        self.known = Reading { wall: held, count: now.count };
        let Some(doubt) = &mut self.doubt else {
            self.doubt = Some(Doubt { steady_from: now });
            return Turn::Doubted;
        };
        let expected = run_on(doubt.steady_from, now.count);
        if now.wall.abs_diff(expected) > millis(TOLERANCE).unsigned_abs() {
            doubt.steady_from = now;
            return Turn::Same;
        }
        if now.count.saturating_sub(doubt.steady_from.count) < STEADY {
            return Turn::Same;
        }
        self.trust(now);
        Turn::Believed
    }

    /// Believes the time of day as it is.
    pub fn trust(&mut self, now: Reading) {
        *self = Self { known: now, doubt: None };
    }

    /// The time that deletions go by, as of the last look.
    pub fn millis(&self) -> Millis {
        self.known.wall
    }

    /// What is doubted, if anything is.
    pub fn ahead(&self, now: Reading) -> Option<Ahead> {
        let doubt = self.doubt.as_ref()?;
        let held = run_on(self.known, now.count);
        Some(Ahead {
            held: Timestamp::from_millisecond(held).unwrap_or(Timestamp::MAX),
            ahead: ahead_of(now.wall, held),
            left: STEADY.saturating_sub(now.count.saturating_sub(doubt.steady_from.count)),
        })
    }
}

/// A time of day as it would be, had it gone on steadily until this count.
fn run_on(from: Reading, count: Duration) -> Millis {
    from.wall.saturating_add(millis(count.saturating_sub(from.count)))
}

fn ahead_of(wall: Millis, held: Millis) -> Duration {
    Duration::from_millis(u64::try_from(wall.saturating_sub(held)).unwrap_or_default())
}

fn millis(length: Duration) -> Millis {
    Millis::try_from(length.as_millis()).unwrap_or(Millis::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;
    const DAY: i64 = 24 * HOUR;

    /// A machine whose clock is moved.
    struct Machine {
        time: HeldTime,
        ran: i64,
        moved: i64,
    }

    impl Machine {
        fn start(moved: i64, newest: Option<i64>) -> Self {
            let time = HeldTime::new(reading(0, moved), newest.map(|seconds| seconds * 1_000));
            Self { time, ran: 0, moved }
        }

        /// Runs for so long with a look each minute, and says when the time of day came to be believed again.
        fn run(&mut self, seconds: i64) -> Option<i64> {
            let end = self.ran + seconds;
            let mut believed = None;
            while self.ran < end {
                self.ran += 60;
                if self.time.look(reading(self.ran, self.moved)) == Turn::Believed {
                    believed.get_or_insert(self.ran);
                }
            }
            believed
        }

        /// How far the time of deletions is ahead of the true one, in seconds.
        fn wrong_by(&self) -> i64 {
            self.time.millis() / 1_000 - (START + self.ran)
        }
    }

    const START: i64 = 1_800_000_000;

    fn reading(ran: i64, moved: i64) -> Reading {
        Reading { wall: (START + ran + moved) * 1_000, count: Duration::from_secs((500 + ran) as u64) }
    }

    #[test]
    fn a_jump_ahead_deletes_nothing_for_an_hour() {
        for jump in [6 * 60, HOUR, 25 * HOUR, 30 * 365 * DAY] {
            let mut machine = Machine::start(0, Some(START));
            machine.run(10 * 60);
            machine.moved = jump;
            assert_eq!(machine.run(HOUR), None, "{jump} s");
            assert_eq!(machine.wrong_by(), 0, "{jump} s");
            assert!(machine.run(2 * 60).is_some(), "it is steady, so it counts in the end");
            assert_eq!(machine.wrong_by(), jump);
        }
    }

    #[test]
    fn a_jump_that_is_mended_is_forgotten_at_once() {
        let mut machine = Machine::start(0, Some(START));
        machine.moved = 25 * HOUR;
        machine.run(30 * 60);
        machine.moved = 0;
        assert!(machine.run(60).is_some());
        assert_eq!((machine.wrong_by(), machine.time.ahead(reading(machine.ran, 0))), (0, None));
    }

    #[test]
    fn the_hour_begins_anew_with_each_jump() {
        let mut machine = Machine::start(0, Some(START));
        for jumps in 1..5 {
            machine.moved = jumps * DAY;
            assert_eq!(machine.run(50 * 60), None);
            assert_eq!(machine.wrong_by(), 0);
        }
    }

    #[test]
    fn a_jump_back_counts_at_once_and_the_way_forward_is_doubted() {
        let mut machine = Machine::start(0, Some(START));
        machine.moved = -HOUR;
        machine.run(60);
        assert_eq!((machine.wrong_by(), machine.time.doubt), (-HOUR, None));
        machine.moved = 0;
        machine.run(60);
        assert_eq!(machine.wrong_by(), -HOUR);
        assert!(machine.time.doubt.is_some());
    }

    #[test]
    fn a_clock_that_is_slewed_is_followed() {
        let mut machine = Machine::start(0, Some(START));
        for _ in 0..60 {
            machine.moved += 2;
            machine.run(60);
        }
        assert_eq!(machine.wrong_by(), 120);
    }

    #[test]
    fn a_start_ahead_of_all_that_is_known_waits_an_hour_and_no_longer() {
        let mut machine = Machine::start(21 * DAY, Some(START));
        assert_eq!(machine.run(HOUR - 60), None);
        assert_eq!(machine.wrong_by(), 0);
        assert_eq!(machine.run(2 * 60), Some(HOUR));
        assert_eq!(machine.wrong_by(), 21 * DAY);
    }

    #[test]
    fn a_start_where_nothing_or_later_times_are_known_is_believed() {
        for newest in [None, Some(START - HOUR), Some(START + DAY)] {
            let machine = Machine::start(0, newest);
            assert_eq!((machine.wrong_by(), machine.time.doubt), (0, None), "{newest:?}");
        }
    }

    #[test]
    fn an_operator_ends_the_doubt() {
        let mut machine = Machine::start(DAY, Some(START));
        let ahead = machine.time.ahead(reading(60, DAY)).expect("it is doubted");
        assert_eq!((ahead.ahead.as_secs(), ahead.left.as_secs()), (DAY as u64, 3_600 - 60));
        machine.time.trust(reading(60, DAY));
        assert_eq!(machine.time.ahead(reading(60, DAY)), None);
        assert_eq!(machine.time.millis(), (START + 60 + DAY) * 1_000);
    }
}
