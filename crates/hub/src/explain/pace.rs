//! That a refusal was slowed down, behind the words of its cause.

use std::time::Duration;

use crate::backoff::Slowed;

/// A sentence more, which begins with a blank.
pub(super) fn slowed(slowed: &Slowed) -> String {
    let Slowed { refusals, milliseconds, unanswered } = slowed;
    let length = Duration::from_millis(*milliseconds);
    let how = match (unanswered, milliseconds) {
        (false, _) => format!("The answer waited {length:?}"),
        (true, 0) => "The connection was closed without an answer".to_owned(),
        (true, _) => format!("The connection was closed after {length:?} without an answer"),
    };
    format!(
        " {how}, for it was refusal {refusals} of this address or in this name without a quiet minute between."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_of_slowing_down_has_its_words() {
        let words = |milliseconds, unanswered| slowed(&Slowed { refusals: 14, milliseconds, unanswered });
        assert!(
            words(2_000, false).starts_with(" The answer waited 2s, for it was refusal 14 of this address")
        );
        assert!(words(250, false).contains("waited 250ms"));
        assert!(words(15_000, true).contains("closed after 15s without an answer"));
        assert!(words(0, true).contains("was closed without an answer"));
    }
}
