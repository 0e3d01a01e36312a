//! Sets of numbers as runs: most of what retention dropped is one long run.

/// A set of numbers, in rising runs that neither overlap nor touch.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds the numbers from `first` to `last`, both included.
    pub(super) fn add(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        let from = self.0.partition_point(|run| run.1.saturating_add(1) < first);
        let to = self.0.partition_point(|run| run.0 <= last.saturating_add(1));
        let merged = self.0[from..to].iter().fold((first, last), |a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.0.splice(from..to, [merged]);
    }

    /// The first run of numbers that the other set lacks.
    pub(super) fn first_not_in(&self, other: &Self) -> Option<(u64, u64)> {
        self.0.iter().find_map(|&(mut first, last)| {
            while first <= last {
                let at = other.0.partition_point(|run| run.1 < first);
                match other.0.get(at) {
                    Some(&(from, to)) if from <= first => first = to.checked_add(1)?,
                    Some(&(from, _)) => return Some((first, last.min(from - 1))),
                    None => return Some((first, last)),
                }
            }
            None
        })
    }

    /// How many numbers are in it.
    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_that_touch_become_one() {
        let mut runs = Runs::default();
        for (first, last) in [(5, 6), (1, 2), (9, 9), (8, 7), (3, 4), (20, 30), (8, 25)] {
            runs.add(first, last);
        }
        assert_eq!(runs.0, [(1, 6), (8, 30)]);
        assert_eq!(runs.count(), 29);
    }

    #[test]
    fn what_the_other_set_lacks_is_found() {
        let set = |runs: &[(u64, u64)]| {
            let mut set = Runs::default();
            runs.iter().for_each(|run| set.add(run.0, run.1));
            set
        };
        let check = |a: &[(u64, u64)], b: &[(u64, u64)], expected| {
            assert_eq!(set(a).first_not_in(&set(b)), expected, "{a:?} {b:?}");
        };
        check(&[], &[], None);
        check(&[(1, 3)], &[], Some((1, 3)));
        check(&[(1, 9)], &[(1, 9)], None);
        check(&[(2, 3), (5, 9)], &[(1, 3), (5, 6), (8, 12)], Some((7, 7)));
        check(&[(5, 9)], &[(1, 7)], Some((8, 9)));
        check(&[(5, 9)], &[(10, 12)], Some((5, 9)));
    }
}
