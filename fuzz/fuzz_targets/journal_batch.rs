//! The journal's decoders: records, the heads around them, and the walk over a damaged file.

#![no_main]

use store::journal::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((door, bytes)) = bytes.split_first() else { return };
    match door % 3 {
        0 => fuzzing::records(bytes),
        1 => fuzzing::heads(bytes),
        _ => fuzzing::file(bytes),
    }
});
