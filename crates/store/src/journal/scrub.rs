//! Reading what rests, to find damage before somebody asks for it.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::damage::{Damage, Harm, Lost};
use super::scan::{self, ScanError};
use super::segments::Segment;
use super::{Shared, segment};

impl Shared {
    /// Reads the first segment behind `after` that takes no more batches; its number and size, `None` when there is none.
    pub(super) fn scrub(&self, after: Option<u64>) -> io::Result<Option<(u64, u64)>> {
        let table = self.segments.table();
        let is_next = |pair: &&[Arc<Segment>]| after.is_none_or(|after| pair[0].number > after);
        let Some(pair) = table.windows(2).find(is_next) else { return Ok(None) };
        let found = self.look_through(&pair[0], &pair[1])?;
        // One that was deleted meanwhile is not lost.
        if self.segments.table().iter().any(|segment| segment.number == pair[0].number) {
            found.into_iter().for_each(|damage| self.report(damage));
        }
        Ok(Some((pair[0].number, pair[0].size())))
    }

    fn look_through(&self, sealed: &Segment, next: &Segment) -> io::Result<Vec<Damage>> {
        let file = match self.segments.disk.open(&segment::name(sealed.number)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let lost = Lost::between(&sealed.starts, &next.starts);
                let gone =
                    Damage { segment: sealed.number, position: 0, bytes: 0, harm: Harm::Missing, lost };
                return Ok(vec![gone]);
            }
            Err(error) => return Err(error),
        };
        match scan::scan(sealed, file, Some(&next.starts), true) {
            Ok(found) => Ok(found.damages),
            Err(ScanError::Io(error)) => Err(error),
            Err(error @ ScanError::Walk { .. }) => Err(io::Error::other(error)),
        }
    }
}
