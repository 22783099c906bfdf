//! Any text is a filter or is refused; a filter answers about any frame.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_packet::filter::Filter;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(text), Some(frame)) = (parts.next(), parts.next()) else { return };
    let Ok(filter) = String::from_utf8_lossy(text).parse::<Filter>() else { return };
    std::hint::black_box(filter.wants(frame, 60));
});
