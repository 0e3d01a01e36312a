//! Comparing a journal that was found with how far it is known to have reached.

use std::sync::atomic::Ordering;

use hub::belongings::{Loss, Reach, of_partitions};

use super::batch::End;
use super::damage::Harm;
use super::recovery::{OpenError, Recovered};

/// Fails when events are missing, unless that was accepted. Then the partitions go on behind what is missing, so that no
/// number is given out twice, which the answer tells.
pub(super) fn compare(found: &mut Recovered, known: &[Reach], accept_loss: bool) -> Result<bool, OpenError> {
    let firsts = found.table.first().map_or(&found.ends, |oldest| &oldest.starts);
    let reach = |(first, end): (&End, &End)| Reach {
        first: first.next_sequence,
        next: end.next_sequence,
        last_offset: end.last_offset,
    };
    let reached: Vec<Reach> = firsts.iter().zip(&found.ends).map(reach).collect();
    let mut losses = of_partitions(known, &reached);
    // A segment that is there and cannot be read is named as damaged, and passed over.
    if found.report.damages.iter().any(|damage| damage.harm == Harm::Header) {
        losses.retain(|loss| !matches!(loss, Loss::Oldest { .. }));
    }
    if losses.is_empty() {
        return Ok(false);
    }
    if !accept_loss {
        return Err(OpenError::Lost(losses));
    }
    let mut goes_on_behind = false;
    for (end, known) in found.ends.iter_mut().zip(known) {
        if end.next_sequence < known.next {
            end.next_sequence = known.next;
            end.next_offset = end.next_offset.max(known.last_offset.saturating_add(1));
            end.last_offset = end.last_offset.max(known.last_offset);
            goes_on_behind = true;
        }
    }
    // What was written last, in whichever segment, is on stable storage: a new segment may follow it.
    if goes_on_behind && let Some(newest) = found.table.last() {
        tracing::warn!(
            segment = newest.number,
            bytes = newest.size.load(Ordering::Acquire),
            "the journal goes on behind events that are missing"
        );
    }
    Ok(goes_on_behind)
}
