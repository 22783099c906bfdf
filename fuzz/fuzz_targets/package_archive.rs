//! Any bytes are a Java archive, or a file compressed with gzip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_package::{java, read_slice, unzipped};

fuzz_target!(|bytes: &[u8]| {
    std::hint::black_box(java::parse_archive("app/x.war", bytes.len() as u64, &mut read_slice(bytes)));
    std::hint::black_box(unzipped(bytes, 1 << 20));
});
