//! Doors for the fuzzer: the decoders without the checksums that keep it out.
//!
//! Each function takes any bytes and must return: a panic, an endless loop or an allocation without a bound is a bug.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use hub::ports::event_log::StoredEvent;

use super::batch::{End, Head, Placed, Section};
use super::disk::DiskFile;
use super::index::Index;
use super::record::{self, Before};
use super::section::Events;
use super::segment::Header;
use super::walk::{Step, Walk};

/// Decodes bytes as the records of one section; what comes out must survive another round unchanged.
pub fn records(bytes: &[u8]) {
    let first = decode(Bytes::copy_from_slice(bytes));
    let once = encode(&first);
    let twice = encode(&decode(once.clone().into()));
    assert_eq!(once, twice, "a record changes when it is written and read again");
}

fn decode(bytes: Bytes) -> Vec<StoredEvent> {
    let section = Section {
        partition: 0,
        events: u32::MAX,
        bytes: bytes.len() as u32,
        crc: 0,
        last: 0,
        base: BASE,
        latest: BASE,
    };
    let mut events = Events::new(&Placed { section, before: End::default(), position: 0 }, bytes);
    let mut read = Vec::new();
    while let Some(sighted) = events.sight() {
        read.extend(sighted.and_then(|sighted| events.read(sighted)));
    }
    assert!(read.is_sorted_by(|a, b| a.sequence < b.sequence && a.offset < b.offset && a.stored <= b.stored));
    read
}

fn encode(events: &[StoredEvent]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut before = Before::default();
    for event in events {
        let start = out.len();
        let bytes_max = record::bytes_max(&event.message);
        record::write(&mut out, &event.message, BASE, &mut before);
        assert!(bytes_max.is_none_or(|max| out.len() - start <= max), "a record is longer than foretold");
    }
    out
}

const BASE: i64 = 1_700_000_000_000;

/// Decodes bytes as the head of a batch, as the header of a segment and as an index, with the right checksum.
pub fn heads(bytes: &[u8]) {
    if let Some(claimed) = Head::claimed_bytes(bytes).filter(|claimed| *claimed <= bytes.len())
        && let Ok(head) = Head::read(&with_checksum(bytes, claimed))
    {
        let mut out = Vec::new();
        head.write(&mut out);
        assert_eq!(Head::read(&out.into()).as_ref(), Ok(&head));
        assert_eq!(head.placed().count(), head.sections.len());
    }
    let header_bytes = bytes.get(12..16).and_then(|bytes| bytes.first_chunk::<4>());
    if let Some(claimed) = header_bytes.map(|bytes| u32::from_le_bytes(*bytes) as usize)
        && (4..=bytes.len()).contains(&claimed)
        && let Ok(header) = Header::read(&with_checksum(bytes, claimed))
    {
        assert_eq!(Header::read(&header.write().into()), Ok(header));
    }
    if bytes.len() > 32 {
        let number = |at: usize| u64::from_le_bytes(*bytes[at..].first_chunk().expect("32 bytes are there"));
        let partitions = u16::from_le_bytes([bytes[10], bytes[11]]);
        let index = with_checksum(bytes, bytes.len());
        if let Some(index) = Index::read(&index, number(12), number(20), partitions.into()) {
            assert!(!index.write(number(12), number(20)).is_empty());
        }
    }
}

fn with_checksum(bytes: &[u8], length: usize) -> Bytes {
    let mut bytes = bytes[..length].to_vec();
    let crc = crc32c::crc32c(&bytes[..length - 4]);
    bytes[length - 4..].copy_from_slice(&crc.to_le_bytes());
    bytes.into()
}

/// Walks bytes as the file of a segment.
pub fn file(bytes: &[u8]) {
    let limit = bytes.len() as u64;
    let mut walk = Walk::new(Arc::new(Still(bytes.to_vec())), None, None, 0, limit);
    let mut steps = 0;
    while let Ok(step) = walk.step() {
        steps += 1;
        assert!(steps <= bytes.len() + 1, "the walk does not end");
        match step {
            Step::Batch(head) => {
                for placed in head.placed() {
                    if let Ok(Some(section)) = walk.section(&placed) {
                        decode(section);
                    }
                }
            }
            Step::Damaged { .. } | Step::Tail { .. } => {}
            Step::End => break,
        }
    }
}

/// A file that nobody writes.
struct Still(Vec<u8>);

impl DiskFile for Still {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = self.0.get(position as usize..).unwrap_or_default();
        let n = bytes.len().min(buffer.len());
        buffer[..n].copy_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
