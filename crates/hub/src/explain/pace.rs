//! That a refusal was slowed down, behind the words of its cause.

use std::time::Duration;

use crate::backoff::Slowed;

/// A sentence more, which begins with a blank.
pub(super) fn slowed(slowed: &Slowed) -> String {
    let Slowed { refusals, milliseconds } = slowed;
    let length = Duration::from_millis(*milliseconds);
    format!(
        " The answer waited {length:?}, for it was refusal {refusals} of this address or in this name without a quiet \
         minute between."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_how_long_the_answer_waited() {
        let words = |milliseconds| slowed(&Slowed { refusals: 14, milliseconds });
        assert!(words(2_000).starts_with(" The answer waited 2s, for it was refusal 14 of this address"));
        assert!(words(250).contains("waited 250ms"));
    }
}
