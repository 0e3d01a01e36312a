//! In which partition the messages of a device lie: always the same one, so that their order is kept, and modules follow
//! their device.

use crate::identity::DeviceId;

/// How a partition is found for a device. It is fixed when an event log is made: with another one the messages of a device
/// would go on elsewhere, beside those that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// By FNV-1a, as logs of earlier builds have it.
    Fnv1a,
    /// As Event Hubs does it, and whoever computes the partition of a device beforehand: by Jenkins' lookup3 of the id in
    /// upper case.
    Lookup3,
}

/// Ranges of so many hashes are dealt out to the partitions.
const HASHES: i32 = i16::MAX as i32;

impl Placement {
    /// The partition of a device, of so many.
    pub fn partition_of(self, device: &DeviceId, partitions: u16) -> u16 {
        match self {
            Self::Fnv1a => by_fnv1a(device, partitions.max(1)),
            Self::Lookup3 => by_lookup3(device, partitions.max(1)),
        }
    }
}

fn by_fnv1a(device: &DeviceId, partitions: u16) -> u16 {
    let hash = device.as_str().bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    // The low bits of FNV mix less than the high ones.
    ((hash ^ (hash >> 32)) % u64::from(partitions)) as u16
}

fn by_lookup3(device: &DeviceId, partitions: u16) -> u16 {
    // The remainder keeps the sign, so that −32,768 becomes 1.
    let hash = (i32::from(hash_code(device.as_str().as_bytes())) % HASHES).unsigned_abs();
    let partitions = u32::from(partitions);
    let (width, longer) = (HASHES.unsigned_abs() / partitions, HASHES.unsigned_abs() % partitions);
    // The first ranges take one more, until all are dealt out.
    let of_longer = longer * (width + 1);
    let partition = match hash.checked_sub(of_longer) {
        None => hash / (width + 1),
        Some(beyond) => longer + beyond / width,
    };
    partition.min(partitions - 1) as u16
}

/// The two halves of lookup3 of the text in upper case combined, and cut to 16 bits.
fn hash_code(text: &[u8]) -> i16 {
    let start = 0xdead_beef_u32.wrapping_add(text.len() as u32);
    let (mut a, mut b, mut c) = (start, start, start);
    let mut rest = text;
    while let Some((block, after)) = rest.split_at_checked(12).filter(|(_, after)| !after.is_empty()) {
        (a, b, c) = add(block, (a, b, c));
        (a, b, c) = mix(a, b, c);
        rest = after;
    }
    if !rest.is_empty() {
        (a, b, c) = add(rest, (a, b, c));
        (b, c) = finish(a, b, c);
    }
    ((b ^ c) & 0xffff) as u16 as i16
}

/// Adds up to twelve bytes, the lowest of each word first.
fn add(bytes: &[u8], (a, b, c): (u32, u32, u32)) -> (u32, u32, u32) {
    let mut words = [0; 3];
    for (at, byte) in bytes.iter().enumerate() {
        words[at / 4] |= u32::from(byte.to_ascii_uppercase()) << (8 * (at % 4));
    }
    (a.wrapping_add(words[0]), b.wrapping_add(words[1]), c.wrapping_add(words[2]))
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    a = a.wrapping_sub(c) ^ c.rotate_left(4);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(6);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(8);
    b = b.wrapping_add(a);
    a = a.wrapping_sub(c) ^ c.rotate_left(16);
    c = c.wrapping_add(b);
    b = b.wrapping_sub(a) ^ a.rotate_left(19);
    a = a.wrapping_add(c);
    c = c.wrapping_sub(b) ^ b.rotate_left(4);
    b = b.wrapping_add(a);
    (a, b, c)
}

/// The two halves of the hash.
fn finish(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32) {
    c = (c ^ b).wrapping_sub(b.rotate_left(14));
    a = (a ^ c).wrapping_sub(c.rotate_left(11));
    b = (b ^ a).wrapping_sub(a.rotate_left(25));
    c = (c ^ b).wrapping_sub(b.rotate_left(16));
    a = (a ^ c).wrapping_sub(c.rotate_left(4));
    b = (b ^ a).wrapping_sub(a.rotate_left(14));
    c = (c ^ b).wrapping_sub(b.rotate_left(24));
    (b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> DeviceId {
        DeviceId::parse(text).expect("a legal id")
    }

    #[test]
    fn a_device_keeps_its_partition_for_ever() {
        let at = |text: &str| Placement::Fnv1a.partition_of(&id(text), 4);
        // These numbers rest on disk in installations of earlier builds: a change here breaks the order of running fleets.
        assert_eq!([at("thermostat-7"), at("d1"), at("d2"), at("pump-07"), at("gw")], [1, 1, 0, 1, 0]);
    }

    #[test]
    fn a_device_lies_where_clients_of_event_hubs_look_for_it() {
        let long = "x".repeat(128);
        // The hashes are what the resolver of azure-eventhub gives for the id in upper case; then the partition of 1, 2, 4, 8,
        // 32 and 127.
        let cases: [(&str, i16, [u16; 6]); 20] = [
            ("thermostat-7", -19034, [0, 1, 2, 4, 18, 73]),
            ("d1", -18703, [0, 1, 2, 4, 18, 72]),
            ("d2", 32756, [0, 1, 3, 7, 31, 126]),
            ("pump-07", 22037, [0, 1, 2, 5, 21, 85]),
            ("gw", -14741, [0, 0, 1, 3, 14, 57]),
            ("a", 9517, [0, 0, 1, 2, 9, 36]),
            ("ab", -2656, [0, 0, 0, 0, 2, 10]),
            ("abc", 4488, [0, 0, 0, 1, 4, 17]),
            ("abcd", -22852, [0, 1, 2, 5, 22, 88]),
            ("Pump", -12152, [0, 0, 1, 2, 11, 47]),
            ("PUMP", -12152, [0, 0, 1, 2, 11, 47]),
            ("device-00042", -4251, [0, 0, 0, 1, 4, 16]),
            ("12345678901", -15121, [0, 0, 1, 3, 14, 58]),
            ("123456789012", 21621, [0, 1, 2, 5, 21, 83]),
            ("1234567890123", 7770, [0, 0, 0, 1, 7, 30]),
            ("twenty-four-characters-00", 16356, [0, 0, 1, 3, 15, 63]),
            (&long, -26499, [0, 1, 3, 6, 25, 102]),
            ("aZ09-._:+%#*?!(),=@$';", 8193, [0, 0, 1, 2, 8, 31]),
            ("iot-C-e2e-01fb7c", 5314, [0, 0, 0, 1, 5, 20]),
            ("thirteen-char", 1823, [0, 0, 0, 0, 1, 7]),
        ];
        for (text, hash, partitions) in cases {
            assert_eq!(hash_code(text.as_bytes()), hash, "{text}");
            let found = [1, 2, 4, 8, 32, 127].map(|count| Placement::Lookup3.partition_of(&id(text), count));
            assert_eq!(found, partitions, "{text}");
        }
    }

    #[test]
    fn partitions_share_the_devices_evenly() {
        for placement in [Placement::Fnv1a, Placement::Lookup3] {
            let mut counts = [0_u32; 8];
            for n in 0..8_000 {
                counts[usize::from(placement.partition_of(&id(&format!("device-{n}")), 8))] += 1;
            }
            assert!(counts.iter().all(|count| (800..1_200).contains(count)), "{placement:?}: {counts:?}");
        }
    }
}
