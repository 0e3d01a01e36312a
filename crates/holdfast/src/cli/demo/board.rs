//! What is known of the demo at a moment.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fleet::Member;

/// Readings that a plot shows.
pub(super) const HISTORY: usize = 40;
/// Acknowledgements that percentiles are taken of.
const LATENCIES: usize = 1_000;
/// The time that a rate is taken over.
const RATE_OVER: Duration = Duration::from_secs(5);

/// Everything that the screen shows.
pub(super) struct Board {
    /// One row a device.
    pub(super) rows: Vec<Row>,
    /// Events read back.
    pub(super) read: u64,
    /// Why nothing is read, if nothing is.
    pub(super) reader_trouble: Option<String>,
    /// The hub's explanation of the newest refusal.
    pub(super) why: Option<Value>,
    /// What the guard found, and what was done about it.
    pub(super) posture: Posture,
    latencies: VecDeque<Duration>,
    read_at: VecDeque<(Instant, u64)>,
    begun: Instant,
}

/// What the guard found, and what was done about it.
#[derive(Default)]
pub(super) struct Posture {
    /// The last report.
    pub(super) report: Option<Value>,
    /// What the fix would change, once that was asked.
    pub(super) dry_run: Option<Value>,
    /// The score before the fix, and what the fix did.
    pub(super) fixed: Option<(f64, Value)>,
}

/// A device.
pub(super) struct Row {
    /// Who it is.
    pub(super) member: &'static Member,
    /// How it is.
    pub(super) state: State,
    /// Messages sent.
    pub(super) sent: u64,
    /// Messages acknowledged.
    pub(super) acknowledged: u64,
    /// Its messages that came back.
    pub(super) read: u64,
    /// Its newest readings.
    pub(super) history: VecDeque<f64>,
}

/// How a device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// It has not been answered yet.
    Connecting,
    /// It sends.
    Online,
    /// It was refused with this return code.
    Refused(u8),
    /// It lost the connection.
    Lost(String),
}

impl Row {
    /// A reading goes out.
    pub(super) fn sent(&mut self, value: f64) {
        self.sent += 1;
        self.history.push_back(value);
        if self.history.len() > HISTORY {
            self.history.pop_front();
        }
    }

    /// Whether it ought to be refused.
    pub(super) fn is_wrong(&self) -> bool {
        !self.member.flaw.clock_behind().is_zero()
    }
}

impl Board {
    /// Nothing has happened yet.
    pub(super) fn new(members: &'static [Member]) -> Self {
        let row = |member| Row {
            member,
            state: State::Connecting,
            sent: 0,
            acknowledged: 0,
            read: 0,
            history: VecDeque::new(),
        };
        let begun = Instant::now();
        Self {
            rows: members.iter().map(row).collect(),
            read: 0,
            reader_trouble: None,
            why: None,
            posture: Posture::default(),
            latencies: VecDeque::new(),
            read_at: VecDeque::from([(begun, 0)]),
            begun,
        }
    }

    /// The row of a device.
    pub(super) fn row(&mut self, place: usize) -> &mut Row {
        &mut self.rows[place]
    }

    /// A message was acknowledged after so long.
    pub(super) fn acknowledged(&mut self, place: usize, after: Duration) {
        self.rows[place].acknowledged += 1;
        self.latencies.push_back(after);
        if self.latencies.len() > LATENCIES {
            self.latencies.pop_front();
        }
    }

    /// An event came back.
    pub(super) fn read_back(&mut self, device: &str) {
        self.read += 1;
        if let Some(row) = self.rows.iter_mut().find(|row| row.member.id == device) {
            row.read += 1;
        }
    }

    /// Time since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Events read back a second, lately. To be asked now and then: the answers in between are its memory.
    pub(super) fn read_per_second(&mut self, now: Instant) -> f64 {
        self.read_at.push_back((now, self.read));
        while self.read_at.len() > 2 && self.read_at[0].0 + RATE_OVER < now {
            self.read_at.pop_front();
        }
        let (from, count) = self.read_at[0];
        let seconds = now.duration_since(from).as_secs_f64();
        if seconds > 0.0 { (self.read - count) as f64 / seconds } else { 0.0 }
    }

    /// The median and the 99th percentile of the newest acknowledgements.
    pub(super) fn latency(&self) -> Option<(Duration, Duration)> {
        let mut sorted: Vec<Duration> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        Some((sorted[last / 2], sorted[last * 99 / 100]))
    }

    /// What the demo promises and has not shown.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for row in &self.rows {
            let id = row.member.id;
            if row.is_wrong() && !matches!(row.state, State::Refused(_)) {
                missing.push(format!("{id} was not refused, although its clock is hours late"));
            }
            if !row.is_wrong() && row.read == 0 {
                missing.push(format!("nothing that {id} sent was read back"));
            }
        }
        if self.why.as_ref().is_none_or(|why| why["explanation"].as_str().unwrap_or_default().is_empty()) {
            missing.push("the refusal was not explained".to_owned());
        }
        match &self.posture.fixed {
            None => missing.push("the shared key was not found and fixed".to_owned()),
            Some((before, fixed)) if fixed["score"].as_f64().unwrap_or_default() <= *before => {
                missing.push("the score did not rise with the fix".to_owned());
            }
            Some(_) => {}
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use super::super::fleet::MEMBERS;
    use super::*;

    #[test]
    fn percentiles_and_rates_are_those_of_lately() {
        let mut board = Board::new(MEMBERS);
        assert_eq!(board.latency(), None);
        (1..=100).for_each(|n| board.acknowledged(0, Duration::from_millis(n)));
        assert_eq!(board.latency(), Some((Duration::from_millis(50), Duration::from_millis(99))));
        let start = Instant::now();
        for second in 0..20 {
            board.read_per_second(start + Duration::from_secs(second));
            (0..10).for_each(|_| board.read_back("boiler-1"));
        }
        let rate = board.read_per_second(start + Duration::from_secs(20));
        assert!((rate - 10.0).abs() < 0.01, "{rate}");
        assert_eq!(board.rows[0].read, 200);
    }

    #[test]
    fn what_was_not_shown_is_named() {
        let mut board = Board::new(MEMBERS);
        assert_eq!(board.missing().len(), MEMBERS.len() + 2);
        MEMBERS.iter().for_each(|member| board.read_back(member.id));
        board.why = Some(serde_json::json!({ "explanation": "Its clock is late." }));
        let wrong = board.rows.iter().position(Row::is_wrong).expect("one is wrong");
        board.row(wrong).state = State::Refused(5);
        board.posture.fixed = Some((90.0, serde_json::json!({ "score": 97.5 })));
        assert!(board.missing().is_empty());
    }
}
