use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a simulated device takes for the time: that of the machine, or hours beside it, as with a dead battery behind
/// its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Clock {
    offset_seconds: i64,
}

impl Clock {
    /// A clock that is late by so much.
    pub fn behind(offset: Duration) -> Self {
        Self { offset_seconds: -i64::try_from(offset.as_secs()).unwrap_or(i64::MAX) }
    }

    /// A clock that is early by so much.
    pub fn ahead(offset: Duration) -> Self {
        Self { offset_seconds: i64::try_from(offset.as_secs()).unwrap_or(i64::MAX) }
    }

    /// Seconds since 1970 by this clock, never before.
    pub fn seconds(self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        now.saturating_add_signed(self.offset_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_be_wrong_in_both_directions() {
        let (right, hour) = (Clock::default().seconds(), Duration::from_secs(3_600));
        assert!((3_598..=3_600).contains(&(right - Clock::behind(hour).seconds())));
        assert!((3_600..=3_602).contains(&(Clock::ahead(hour).seconds() - right)));
        assert_eq!(Clock::behind(Duration::MAX).seconds(), 0);
    }
}
