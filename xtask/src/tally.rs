//! Counts passed and failed tests from the closing lines of cargo, pytest and the Node suite.

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Tally {
    /// Adds a line if it is a closing line; any other is ignored.
    pub(crate) fn read_line(&mut self, line: &str) {
        let line = line.trim().trim_matches('=').trim();
        let counts = match line.strip_prefix("test result: ") {
            Some(cargo) => cargo.split_once(". ").map_or("", |(_, counts)| counts),
            None => line.strip_prefix("node: ").unwrap_or(line),
        };
        let mut found = Self::default();
        for part in counts.split([',', ';']) {
            // pytest ends its last part with ` in 12.34s`, cargo prints `finished in 0.01s` as one of its own.
            let mut words = part.split_whitespace();
            let (Some(number), Some(word)) = (words.next(), words.next()) else { return };
            match (number.parse::<u64>(), word) {
                (Ok(number), "passed") => found.passed += number,
                (Ok(number), "failed" | "error" | "errors") => found.failed += number,
                (Ok(_), "skipped" | "ignored" | "measured" | "filtered" | "warning" | "warnings") => {}
                (Err(_), "in") => {}
                _ => return,
            }
        }
        self.add(&found);
    }

    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    pub(crate) fn any(&self) -> bool {
        self.passed + self.failed > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_lines_of_all_runners_are_counted() {
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s",
            12,
            0,
        );
        check(
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s",
            3,
            2,
        );
        check("======= 2 failed, 30 passed, 1 warning, 4 errors in 12.34s =======", 30, 6);
        check("====== 536 passed in 61.20s (0:01:01) ======", 536, 0);
        check("node: 81 passed, 2 failed", 81, 2);
    }

    #[test]
    fn other_lines_count_nothing() {
        for line in [
            "",
            "running 3 tests",
            "2 of 3 passed",
            "12 messages passed, 3 failed to arrive",
            "test a ... ok",
        ] {
            check(line, 0, 0);
        }
    }

    fn check(line: &str, passed: u64, failed: u64) {
        let mut tally = Tally::default();
        tally.read_line(line);
        assert_eq!(tally, Tally { passed, failed }, "{line}");
    }
}
