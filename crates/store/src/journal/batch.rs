//! The batch: what one group commit writes, and the unit that is whole or torn after a power loss.
//!
//! ```text
//! head     magic "\xF7HFb", version u16 = 1, flags u16, head bytes u32 (all of the head, checksum included),
//!          body bytes u32, key u32, partitions u16, sections u16, salt u64 (of the segment),
//!          position u64 (of this head in its file),
//!          partitions × end   (where each partition stood before this batch),
//!          sections × section,
//!          CRC32C u32 of the head so far
//! end      next sequence u64, next offset u64, last offset u64, last stream time i64
//! section  partition u16, 0 u16, events u32, bytes u32, CRC32C u32 of the bytes, start of the last record u32,
//!          base time i64, latest time i64
//! body     the records of each section, in the order of the sections
//! ```
//!
//! - Every head says where every partition stood. So one readable head after a damaged stretch tells what was lost
//!   in it, and no sequence number is ever given out twice.
//! - `salt` and `position` make a head the head of this very place: bytes that a device sent, that another segment
//!   left behind, or that the disk put in the wrong place are not taken for one.
//! - `key` names the key that the body is sealed under, 0 for none. Version 1 writes and reads 0 only.
//! - In every version the head starts as far as `head bytes` as it does here and ends with its checksum, so that an
//!   older program can tell a newer batch from a damaged one.

use hub::telemetry::Millis;

use bytes::Bytes;

use super::codec::{DecodeError, Reader};

/// The first bytes of a batch.
pub(super) const MAGIC: [u8; 4] = *b"\xF7HFb";
const VERSION: u16 = 1;
/// Flag: everything before was written and the journal was closed in order; the batch holds nothing.
pub(super) const CLOSED: u16 = 1;

/// The head up to the ends.
pub(super) const HEAD_BYTES_MIN: usize = 40;
/// No head is longer: room for 128 partitions and 1,700 sections.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
const SECTION_BYTES: usize = 36;
const CRC_BYTES: usize = 4;

/// Where a partition stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct End {
    pub(super) next_sequence: u64,
    pub(super) next_offset: u64,
    /// Of the last event; 0 when there never was one.
    pub(super) last_offset: u64,
    /// Of the last event; 0 when there never was one.
    pub(super) last_time: Millis,
}

impl End {
    pub(super) const BYTES: usize = 32;

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.next_sequence.to_le_bytes());
        out.extend_from_slice(&self.next_offset.to_le_bytes());
        out.extend_from_slice(&self.last_offset.to_le_bytes());
        out.extend_from_slice(&self.last_time.to_le_bytes());
    }

    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            next_sequence: reader.u64()?,
            next_offset: reader.u64()?,
            last_offset: reader.u64()?,
            last_time: reader.i64()?,
        })
    }

    /// Where the partition stands after one more section.
    pub(super) fn after(&self, section: &Section) -> Self {
        let last_time = if self.next_sequence == 0 {
            section.latest
        } else {
            // Stream time never goes back.
            self.last_time.max(section.latest)
        };
        Self {
            next_sequence: self.next_sequence.saturating_add(section.events.into()),
            next_offset: self.next_offset.saturating_add(section.bytes.into()),
            last_offset: self.next_offset.saturating_add(section.last.into()),
            last_time,
        }
    }
}

/// A run of records of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) partition: u16,
    pub(super) events: u32,
    pub(super) bytes: u32,
    pub(super) crc: u32,
    /// Where the last record starts.
    pub(super) last: u32,
    /// What the times in the records count from.
    pub(super) base: Millis,
    /// The latest time in the records.
    pub(super) latest: Millis,
}

/// What the head of a batch says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) flags: u16,
    pub(super) salt: u64,
    pub(super) position: u64,
    pub(super) head_bytes: u32,
    pub(super) body_bytes: u32,
    /// Where each partition stood before.
    pub(super) ends: Vec<End>,
    pub(super) sections: Vec<Section>,
}

/// Why bytes are not the head of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadError {
    /// There is none, or it is damaged or cut.
    Damaged,
    /// It is whole, and of a version or sealed in a way that this program does not know.
    Newer { version: u16, flags: u16, key: u32 },
}

impl From<DecodeError> for HeadError {
    fn from(_: DecodeError) -> Self {
        Self::Damaged
    }
}

impl Head {
    /// Where the batch ends in its file.
    pub(super) fn batch_end(&self) -> u64 {
        self.body_position() + u64::from(self.body_bytes)
    }

    /// Where the body starts in its file.
    pub(super) fn body_position(&self) -> u64 {
        self.position + u64::from(self.head_bytes)
    }

    /// The sections, each with where its partition stood before it and where its bytes start in the file.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> + '_ {
        let mut ends = self.ends.clone();
        let mut position = self.body_position();
        self.sections.iter().map(move |section| {
            let end = &mut ends[usize::from(section.partition)];
            let placed = Placed { section: *section, before: *end, position };
            *end = end.after(section);
            position += u64::from(section.bytes);
            placed
        })
    }

    /// Where each partition stands after the batch.
    pub(super) fn ends_after(&self) -> Vec<End> {
        let mut ends = self.ends.clone();
        for section in &self.sections {
            let end = &mut ends[usize::from(section.partition)];
            *end = end.after(section);
        }
        ends
    }

    /// How long a head with so many partitions and sections is.
    pub(super) fn bytes(partitions: usize, sections: usize) -> usize {
        HEAD_BYTES_MIN + partitions * End::BYTES + sections * SECTION_BYTES + CRC_BYTES
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        out.extend_from_slice(&self.head_bytes.to_le_bytes());
        out.extend_from_slice(&self.body_bytes.to_le_bytes());
        out.extend_from_slice(&NO_KEY.to_le_bytes());
        out.extend_from_slice(&(self.ends.len() as u16).to_le_bytes());
        out.extend_from_slice(&(self.sections.len() as u16).to_le_bytes());
        out.extend_from_slice(&self.salt.to_le_bytes());
        out.extend_from_slice(&self.position.to_le_bytes());
        self.ends.iter().for_each(|end| end.write(out));
        for section in &self.sections {
            out.extend_from_slice(&section.partition.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            out.extend_from_slice(&section.events.to_le_bytes());
            out.extend_from_slice(&section.bytes.to_le_bytes());
            out.extend_from_slice(&section.crc.to_le_bytes());
            out.extend_from_slice(&section.last.to_le_bytes());
            out.extend_from_slice(&section.base.to_le_bytes());
            out.extend_from_slice(&section.latest.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[start..]);
        out.extend_from_slice(&crc.to_le_bytes());
    }

    /// Whether bytes may start a head that was written to this place: cheap, and no proof.
    pub(super) fn may_start(bytes: &[u8], salt: Option<u64>, position: u64) -> bool {
        let at = |at: usize| bytes.get(at..at + 8).and_then(|bytes| bytes.first_chunk::<8>()).copied();
        bytes.starts_with(&MAGIC)
            && at(24).is_some_and(|found| salt.is_none_or(|salt| u64::from_le_bytes(found) == salt))
            && at(32).is_some_and(|found| u64::from_le_bytes(found) == position)
    }

    /// How long the head says it is, within the limits.
    pub(super) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
        let claimed = u32::from_le_bytes(*bytes.get(8..)?.first_chunk::<4>()?) as usize;
        (HEAD_BYTES_MIN + CRC_BYTES..=HEAD_BYTES_MAX).contains(&claimed).then_some(claimed)
    }

    /// Reads the head at the front of the bytes. The caller compares salt and position.
    pub(super) fn read(bytes: &Bytes) -> Result<Self, HeadError> {
        let claimed = Self::claimed_bytes(bytes).ok_or(HeadError::Damaged)?;
        if !bytes.starts_with(&MAGIC) || bytes.len() < claimed {
            return Err(HeadError::Damaged);
        }
        let mut crc = Reader::new(bytes.slice(claimed - CRC_BYTES..claimed));
        if crc.u32()? != crc32c::crc32c(&bytes[..claimed - CRC_BYTES]) {
            return Err(HeadError::Damaged);
        }
        let mut reader = Reader::new(bytes.slice(MAGIC.len()..claimed - CRC_BYTES));
        let (version, flags) = (reader.u16()?, reader.u16()?);
        let (head_bytes, body_bytes, key) = (reader.u32()?, reader.u32()?, reader.u32()?);
        if version != VERSION || flags & !CLOSED != 0 || key != NO_KEY {
            return Err(HeadError::Newer { version, flags, key });
        }
        let (partitions, sections) = (reader.u16()?, reader.u16()?);
        let (salt, position) = (reader.u64()?, reader.u64()?);
        let ends = (0..partitions).map(|_| End::read(&mut reader)).collect::<Result<Vec<_>, _>>()?;
        let sections = (0..sections)
            .map(|_| Section::read(&mut reader, partitions))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        let bytes: u64 = sections.iter().map(|section| u64::from(section.bytes)).sum();
        let in_range = position.checked_add(u64::from(head_bytes) + u64::from(body_bytes)).is_some();
        if !reader.is_empty() || bytes != u64::from(body_bytes) || !in_range {
            return Err(HeadError::Damaged);
        }
        Ok(Self { flags, salt, position, head_bytes, body_bytes, ends, sections })
    }
}

/// The key of a body in the clear.
const NO_KEY: u32 = 0;

impl Section {
    fn read(reader: &mut Reader, partitions: u16) -> Result<Self, DecodeError> {
        let partition = reader.u16()?;
        reader.u16()?;
        let section = Self {
            partition,
            events: reader.u32()?,
            bytes: reader.u32()?,
            crc: reader.u32()?,
            last: reader.u32()?,
            base: reader.i64()?,
            latest: reader.i64()?,
        };
        if partition >= partitions {
            return Err(DecodeError::Unknown { what: "partition", code: partition.into() });
        }
        Ok(section)
    }
}

/// A section in its place in the partition and in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placed {
    pub(super) section: Section,
    /// Where the partition stood before the section.
    pub(super) before: End,
    /// Where its bytes start in the file.
    pub(super) position: u64,
}

impl Placed {
    /// The sequence number after the last one of the section.
    pub(super) fn next_sequence(&self) -> u64 {
        self.before.next_sequence.saturating_add(self.section.events.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        let end =
            |n| End { next_sequence: n, next_offset: 100 * n, last_offset: 99 * n, last_time: n as i64 };
        let section = |partition| Section {
            partition,
            events: 3,
            bytes: 200,
            crc: 7,
            last: 150,
            base: -5,
            latest: 1_000,
        };
        let sections = vec![section(2), section(0), section(2)];
        let head_bytes = Head::bytes(3, sections.len()) as u32;
        Head {
            flags: 0,
            salt: 0xfeed,
            position: 4711,
            head_bytes,
            body_bytes: 600,
            ends: vec![end(0), end(7), end(9)],
            sections,
        }
    }

    #[test]
    fn a_head_comes_back_as_it_went() {
        let mut out = Vec::new();
        head().write(&mut out);
        assert_eq!(out.len(), head().head_bytes as usize);
        assert!(Head::may_start(&out, Some(0xfeed), 4711));
        assert!(!Head::may_start(&out, Some(0xfeed), 4712));
        assert_eq!(Head::read(&out.into()), Ok(head()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_seen() {
        let mut out = Vec::new();
        head().write(&mut out);
        for at in 0..out.len() {
            assert_eq!(Head::read(&out[..at].to_vec().into()), Err(HeadError::Damaged), "cut at {at}");
            for bit in 0..8 {
                let mut bad = out.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(Head::read(&bad.into()), Err(HeadError::Damaged), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut out = Vec::new();
        head().write(&mut out);
        out[4] = 9;
        let end = out.len() - CRC_BYTES;
        let crc = crc32c::crc32c(&out[..end]);
        out[end..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(Head::read(&out.into()), Err(HeadError::Newer { version: 9, flags: 0, key: 0 }));
    }

    #[test]
    fn sections_of_one_partition_follow_each_other() {
        let head = head();
        let placed: Vec<_> = head.placed().collect();
        assert_eq!(placed[0].before, head.ends[2]);
        assert_eq!(placed[2].before.next_sequence, 12);
        assert_eq!(placed[2].before.next_offset, 1_100);
        assert_eq!(placed[2].position, head.body_position() + 400);
        assert_eq!(head.ends_after()[2].next_sequence, 15);
        assert_eq!(head.ends_after()[2].last_offset, 1_250);
        assert_eq!(head.ends_after()[1], head.ends[1]);
        assert_eq!(head.ends_after()[0].last_time, 1_000);
    }
}
