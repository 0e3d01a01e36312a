//! Retention: which bodies go, and how the log itself says so.
//!
//! Records that change nothing are kept up to a bound and [`STEP_RECORDS`] more; then the oldest whole blocks lose theirs, as
//! many as leave the bound. Each step is a record of the log itself ([`Act::Retention`]), so that a body that is missing
//! without one was deleted by somebody else. These records and changes stay for ever, but for those changes that are routine:
//! what a back end writes into twins.

use jiff::Timestamp;

use crate::decision::{Act, Decision};

/// How many records beyond the bound gather before a step.
pub const STEP_RECORDS: u64 = 4_096;

/// Whether the body of a record stays for ever.
pub fn stays(decision: &Decision) -> bool {
    matches!(decision.act, Act::Change { routine: false, .. } | Act::Retention { .. })
}

/// How many of the oldest blocks lose their bodies, by how many of each count towards the bound; none before a step is due.
pub fn due(bounded: u64, bound: u64, oldest_blocks: impl IntoIterator<Item = u64>) -> usize {
    if bounded <= bound.saturating_add(STEP_RECORDS) {
        return 0;
    }
    let mut left = bounded - bound;
    let fits = |in_block: &u64| match left.checked_sub(*in_block) {
        Some(rest) => {
            left = rest;
            true
        }
        None => false,
    };
    oldest_blocks.into_iter().take_while(fits).count()
}

/// The record of a step.
pub fn statement(time: Timestamp, first: u64, last: u64, kept: Vec<u64>) -> Decision {
    Decision::new(time, Act::Retention { first, last, kept })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_goes_before_a_step_is_due_and_then_no_more_than_leaves_the_bound() {
        assert_eq!(due(1_000 + STEP_RECORDS, 1_000, [256; 100]), 0);
        assert_eq!(due(1_001 + STEP_RECORDS, 1_000, [256; 100]), 16);
        assert_eq!(due(1_001 + STEP_RECORDS, 1_000, [256; 3]), 3);
        assert_eq!(due(10_000, 1_000, [200, 8_800, 1]), 2);
        assert_eq!(due(u64::MAX, u64::MAX, [1]), 0);
    }
}
