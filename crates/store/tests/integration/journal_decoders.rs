//! The doors of the fuzzer, walked through with mutated good bytes: a smoke test where there is no fuzzer.

use holdfast_store::journal::{JournalConfig, fuzzing};
use hub::ports::event_log::EventLog;

use crate::journal_damage::{open, put};
use crate::messages::full_message;
use crate::power::{PowerDisk, Random};
use crate::settle;

#[test]
fn no_bytes_break_the_decoders() {
    let disk = PowerDisk::new(1);
    let journal = open(&disk, JournalConfig { partitions: 1, ..JournalConfig::default() }).unwrap();
    put(&journal, 0, "first");
    let messages = [full_message(), full_message()];
    settle(&journal, journal.append(0, &messages).unwrap()).unwrap();
    journal.close();
    let file = disk.files().into_values().next().unwrap();
    let heads: Vec<_> = file.windows(4).enumerate().filter(|(_, bytes)| *bytes == b"\xF7HFb").collect();
    assert_eq!(heads.len(), 3);
    // A head with one section of one partition is 112 bytes long.
    let records = &file[heads[1].0 + 112..heads[2].0];
    fuzzing::records(records);
    fuzzing::heads(&file);
    fuzzing::file(&file);
    let mut random = Random(4711);
    for _ in 0..20_000 {
        let door: fn(&[u8]) = [fuzzing::records, fuzzing::heads, fuzzing::file][random.below(3) as usize];
        let from = if random.once_in(2) { records } else { &file[heads[random.below(3) as usize].0..] };
        let mut bytes = from.to_vec();
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next() as u8,
                2 => bytes.truncate(at + 1),
                _ => bytes.insert(at, 0xff),
            }
        }
        door(&bytes);
    }
}
