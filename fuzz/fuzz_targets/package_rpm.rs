//! Any bytes are a database of rpm, of each of its three formats, with a log beside it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_package::rpm;

// The length of the log (in 16 bytes), the log, the database.
fuzz_target!(|bytes: &[u8]| {
    let Some((log, bytes)) = bytes.split_first() else { return };
    let (log, database) = bytes.split_at((usize::from(*log) * 16).min(bytes.len()));
    std::hint::black_box(rpm::parse_database(database, log));
    std::hint::black_box(rpm::files(database, log));
});
