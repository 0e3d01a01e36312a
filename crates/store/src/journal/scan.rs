//! Looking through a whole segment: what is good, what is damaged, where it ends.
//!
//! Only one batch is ever in flight. So a bad batch with a readable head anywhere after it was durable once and is
//! *damaged*: it is named and passed over. A bad batch with nothing after it was being written when the power went
//! and is a *torn tail*: nobody was told of it, and it is cut. Where a next segment exists, its header says how far
//! this one counts, and settles the case.

use std::io;
use std::sync::Arc;

use super::batch::{self, End, Head};
use super::damage::{Damage, Harm, Lost};
use super::disk::DiskFile;
use super::index::Index;
use super::segments::Segment;
use super::walk::{Step, Walk, WalkError};

/// What a segment holds.
#[derive(Debug)]
pub(super) struct Scan {
    /// Where each partition stands at its end.
    pub(super) ends: Vec<End>,
    /// Where the last good batch ends, and what is not good after it begins.
    pub(super) end: u64,
    /// The last good batch: where it begins.
    pub(super) last_batch: Option<u64>,
    /// Whether it was closed in order.
    pub(super) closed: bool,
    /// The latest time in the first batch that held anything.
    pub(super) begun: Option<i64>,
    pub(super) index: Index,
    pub(super) damages: Vec<Damage>,
}

/// Why a segment cannot be looked through.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("segment {segment}: {source}")]
    Walk { segment: u64, source: WalkError },
}

/// A batch whose body is bad: torn when nothing follows, else damaged.
struct Doubtful {
    position: u64,
    bytes: u64,
    ends_before: Vec<End>,
    lost: Vec<Lost>,
}

/// Looks through a segment. `limit` is where the next segment begins, when there is one. The sections are checked
/// when `verify` is set; else only those that the end of the file cuts are noticed.
pub(super) fn scan(
    segment: &Segment,
    file: Arc<dyn DiskFile>,
    limit: Option<&[End]>,
    verify: bool,
) -> Result<Scan, ScanError> {
    let size = file.size()?;
    let wrap = |source| ScanError::Walk { segment: segment.number, source };
    let mut walk = Walk::new(file, segment.salt, Some(segment.starts.len()), segment.begin, size);
    let mut found = Scan {
        ends: segment.starts.clone(),
        end: segment.begin,
        last_batch: None,
        closed: false,
        begun: None,
        index: Index::new(segment.starts.len()),
        damages: Vec::new(),
    };
    let mut doubtful: Option<Doubtful> = None;
    loop {
        match walk.step().map_err(wrap)? {
            Step::Batch(head) => {
                let ends_after = head.ends_after();
                if limit.is_some_and(|limit| passes(&ends_after, limit)) {
                    // Written after a failure that ended this file: the next segment begins before it.
                    break;
                }
                if let Some(bad) = doubtful.take() {
                    found.damages.push(bad.confirmed(segment.number));
                }
                found.explain_gap(segment.number, &head);
                let bad = bad_sections(&mut walk, &head, verify, size).map_err(wrap)?;
                for placed in head.placed() {
                    found.index.add(placed.section.partition, &placed.before, head.position);
                }
                if bad.is_empty() {
                    found.end = head.batch_end();
                    found.last_batch = Some(head.position);
                    found.closed = head.flags & batch::CLOSED != 0;
                    found.begun =
                        found.begun.or_else(|| head.sections.iter().map(|section| section.latest).max());
                } else {
                    doubtful = Some(Doubtful {
                        position: head.position,
                        bytes: head.batch_end() - head.position,
                        ends_before: head.ends.clone(),
                        lost: bad,
                    });
                }
                found.ends = ends_after;
            }
            Step::Damaged { position, bytes } => {
                // The head that follows says what was lost: `explain_gap` fills it in.
                found.damages.push(Damage {
                    segment: segment.number,
                    position,
                    bytes,
                    harm: Harm::Head,
                    lost: Vec::new(),
                });
            }
            Step::Tail { position, bytes } => {
                found.end_badly(segment.number, doubtful.take(), limit, Some((position, bytes)));
                return Ok(found);
            }
            Step::End => break,
        }
    }
    found.end_badly(segment.number, doubtful, limit, None);
    Ok(found)
}

impl Scan {
    /// Says what was lost between the last batch and this one.
    fn explain_gap(&mut self, segment: u64, head: &Head) {
        let lost = Lost::between(&self.ends, &head.ends);
        if lost.is_empty() {
            return;
        }
        match self.damages.last_mut() {
            Some(last) if last.lost.is_empty() && last.position + last.bytes == head.position => {
                last.lost = lost;
            }
            _ => self.damages.push(Damage {
                segment,
                position: self.end,
                bytes: head.position - self.end,
                harm: Harm::Missing,
                lost,
            }),
        }
    }

    /// Decides about what is bad at the end of the file.
    fn end_badly(
        &mut self,
        segment: u64,
        doubtful: Option<Doubtful>,
        limit: Option<&[End]>,
        tail: Option<(u64, u64)>,
    ) {
        match (limit, doubtful) {
            // The newest segment: torn, and cut back to before the doubtful batch.
            (None, Some(bad)) => self.ends = bad.ends_before,
            (None, None) => {}
            (Some(limit), doubtful) => {
                if let Some(bad) = doubtful {
                    // The next segment begins after it, so it was durable.
                    self.damages.push(bad.confirmed(segment));
                }
                let lost = Lost::between(&self.ends, limit);
                if !lost.is_empty() {
                    let (position, bytes) = tail.unwrap_or((self.end, 0));
                    let harm = if tail.is_some() { Harm::Head } else { Harm::Missing };
                    self.damages.push(Damage { segment, position, bytes, harm, lost });
                }
                self.ends = limit.to_vec();
            }
        }
    }
}

impl Doubtful {
    fn confirmed(self, segment: u64) -> Damage {
        Damage { segment, position: self.position, bytes: self.bytes, harm: Harm::Body, lost: self.lost }
    }
}

/// Whether any partition stands further than the limit.
fn passes(ends: &[End], limit: &[End]) -> bool {
    ends.iter().zip(limit).any(|(end, limit)| end.next_sequence > limit.next_sequence)
}

fn bad_sections(walk: &mut Walk, head: &Head, verify: bool, size: u64) -> Result<Vec<Lost>, WalkError> {
    let mut bad = Vec::new();
    for placed in head.placed() {
        let end = placed.position + u64::from(placed.section.bytes);
        let good = end <= size && (!verify || walk.section(&placed)?.is_some());
        if !good {
            bad.push(Lost::section(&placed));
        }
    }
    Ok(bad)
}
