//! How far apart the processors are: what a line of memory takes from one to the other and back.
//!
//! Two processors that share a cache hand a line over in some 100 ns; two that do not need several times that, and with the line
//! everything that a message passes through. The processors of a virtual machine are moved about by its host, from one state
//! to the other within seconds, and nothing else in the machine shows it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use crate::lanes::{processors, stay_on};

/// So many times over; the median counts, so that who is interrupted once does not look far away.
const ROUNDS: u32 = 21;
/// How often the line goes there and back in a round: a fraction of a millisecond.
const TRIPS: u32 = 1_000;

/// On a line of its own, and its neighbour, which processors fetch with it.
#[repr(align(128))]
struct Line(AtomicU32);

/// Nanoseconds there and back between the first two processors of this process; `None` where it has but one.
pub(crate) fn nanoseconds() -> Option<f64> {
    let [here, there, ..] = processors()[..] else { return None };
    let line = Line(AtomicU32::new(0));
    // Threads of their own, which end with their affinity.
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(there);
            (0..ROUNDS * TRIPS).for_each(|trip| line.hand_over(2 * trip + 1));
        });
        scope
            .spawn(|| {
                stay_on(here);
                let mut rounds: Vec<f64> = (0..ROUNDS).map(|round| line.round(round)).collect();
                rounds.sort_by(f64::total_cmp);
                rounds.get(rounds.len() / 2).copied()
            })
            .join()
            .ok()?
    })
}

impl Line {
    /// Waits for a value, and answers with the next.
    fn hand_over(&self, value: u32) {
        let mut spins = 0_u32;
        while self.0.load(Ordering::Acquire) != value {
            spins += 1;
            // Somebody else may have the other processor.
            if spins.is_multiple_of(10_000) {
                thread::yield_now();
            }
        }
        self.0.store(value + 1, Ordering::Release);
    }

    /// Nanoseconds of a trip, on average of a round. The first trip begins from 0.
    fn round(&self, round: u32) -> f64 {
        let begun = Instant::now();
        for trip in round * TRIPS..(round + 1) * TRIPS {
            self.hand_over(2 * trip);
        }
        begun.elapsed().as_secs_f64() * 1e9 / f64::from(TRIPS)
    }
}
