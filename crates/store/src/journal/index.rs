//! The sparse index of a segment: for each partition, where the batches lie that begin a new stretch.
//!
//! A sealed segment keeps its index beside it in `{number:020}.index`, so that opening a journal reads one header
//! per segment and not every batch. The file is derived: when it is missing or does not fit, it is made again.
//!
//! ```text
//! file   magic "HOLDFIDX", version u16 = 1, partitions u16, number u64, salt u64 (of the segment),
//!        partitions × { n u32, n × entry }, CRC32C u32 of all before
//! entry  sequence u64, offset u64, stream time i64 (of the event before), position of the batch u64
//! ```

use bytes::Bytes;
use hub::telemetry::Millis;

use super::batch::End;
use super::codec::{DecodeError, Reader};

/// Where to begin to read for what is searched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Index {
    partitions: Vec<Vec<Entry>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    sequence: u64,
    offset: u64,
    /// The stream time before the entry's first event; `None` is written as the smallest.
    time: Millis,
    position: u64,
}

/// What is searched for. Each names the first event that is at or after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The event with this number.
    Sequence(u64),
    /// The first event with this offset or a higher one.
    Offset(u64),
    /// The first event of this stream time or a later one.
    Time(Millis),
}

impl Target {
    /// Whether a partition that stands here has not yet passed the target: the target is at or after this place.
    pub(super) fn not_before(self, place: &End) -> bool {
        match self {
            Self::Sequence(sequence) => place.next_sequence <= sequence,
            Self::Offset(offset) => place.next_offset <= offset,
            Self::Time(time) => place.next_sequence == 0 || place.last_time < time,
        }
    }

    /// Whether an event is at or after the target.
    pub(super) fn met_by(self, sequence: u64, offset: u64, stored: Millis) -> bool {
        match self {
            Self::Sequence(wanted) => sequence >= wanted,
            Self::Offset(wanted) => offset >= wanted,
            Self::Time(wanted) => stored >= wanted,
        }
    }
}

/// One entry for so many bytes of the segment.
const SPACING_BYTES: u64 = 64 * 1024;

impl Index {
    pub(super) fn new(partitions: usize) -> Self {
        Self { partitions: vec![Vec::new(); partitions] }
    }

    /// Notes that a batch at this position holds a section of a partition that stood here before.
    pub(super) fn add(&mut self, partition: u16, before: &End, position: u64) {
        let Some(entries) = self.partitions.get_mut(usize::from(partition)) else { return };
        if entries.last().is_some_and(|last| position < last.position + SPACING_BYTES) {
            return;
        }
        entries.push(Entry {
            sequence: before.next_sequence,
            offset: before.next_offset,
            time: if before.next_sequence == 0 { Millis::MIN } else { before.last_time },
            position,
        });
    }

    /// The position of a batch at or before the target; `None` when the segment holds nothing of the partition.
    pub(super) fn position(&self, partition: u16, target: Target) -> Option<u64> {
        let entries = self.partitions.get(usize::from(partition))?;
        let after = entries.partition_point(|entry| match target {
            Target::Sequence(sequence) => entry.sequence <= sequence,
            Target::Offset(offset) => entry.offset <= offset,
            Target::Time(time) => entry.time < time,
        });
        entries.get(after.saturating_sub(1)).map(|entry| entry.position)
    }

    pub(super) fn write(&self, number: u64, salt: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.partitions.len() as u16).to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&salt.to_le_bytes());
        for entries in &self.partitions {
            out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
            for entry in entries {
                out.extend_from_slice(&entry.sequence.to_le_bytes());
                out.extend_from_slice(&entry.offset.to_le_bytes());
                out.extend_from_slice(&entry.time.to_le_bytes());
                out.extend_from_slice(&entry.position.to_le_bytes());
            }
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the index of this very segment; `None` when the bytes are anything else.
    pub(super) fn read(bytes: &Bytes, number: u64, salt: u64, partitions: usize) -> Option<Self> {
        let body = bytes.len().checked_sub(4)?;
        let mut crc = Reader::new(bytes.slice(body..));
        if crc.u32().ok()? != crc32c::crc32c(&bytes[..body]) {
            return None;
        }
        let mut reader = Reader::new(bytes.slice(..body));
        let fits = reader.take(MAGIC.len()).ok()? == MAGIC[..]
            && reader.u16().ok()? == VERSION
            && usize::from(reader.u16().ok()?) == partitions
            && reader.u64().ok()? == number
            && reader.u64().ok()? == salt;
        if !fits {
            return None;
        }
        let index = (0..partitions).map(|_| read_entries(&mut reader)).collect::<Result<_, _>>().ok()?;
        Some(Self { partitions: index })
    }
}

const MAGIC: [u8; 8] = *b"HOLDFIDX";
const VERSION: u16 = 1;

fn read_entries(reader: &mut Reader) -> Result<Vec<Entry>, DecodeError> {
    let mut entries = Vec::new();
    for _ in 0..reader.u32()? {
        entries.push(Entry {
            sequence: reader.u64()?,
            offset: reader.u64()?,
            time: reader.i64()?,
            position: reader.u64()?,
        });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(sequence: u64) -> End {
        End {
            next_sequence: sequence,
            next_offset: sequence * 10,
            last_offset: 0,
            last_time: sequence as i64 * 1_000,
        }
    }

    #[test]
    fn the_batch_at_or_before_the_target_is_found() {
        let mut index = Index::new(2);
        for n in 0..10 {
            index.add(1, &place(n), 100 + n * SPACING_BYTES);
        }
        let at = |target| index.position(1, target).map(|position| (position - 100) / SPACING_BYTES);
        assert_eq!(at(Target::Sequence(4)), Some(4));
        assert_eq!(at(Target::Sequence(99)), Some(9));
        assert_eq!(at(Target::Offset(45)), Some(4));
        assert_eq!(at(Target::Time(4_000)), Some(3), "the event before entry 4 is of this very time");
        assert_eq!(at(Target::Time(i64::MIN)), Some(0));
        assert_eq!(index.position(0, Target::Sequence(0)), None);
    }

    #[test]
    fn an_index_file_fits_its_own_segment_only() {
        let mut index = Index::new(3);
        index.add(2, &place(5), 4_096);
        let bytes = Bytes::from(index.write(7, 99));
        assert_eq!(Index::read(&bytes, 7, 99, 3), Some(index));
        assert_eq!(Index::read(&bytes, 8, 99, 3), None);
        assert_eq!(Index::read(&bytes, 7, 98, 3), None);
        assert_eq!(Index::read(&bytes.slice(1..), 7, 99, 3), None);
    }
}
