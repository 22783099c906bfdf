//! Any bytes are a program: ELF with what it was built of, Go's and Rust's lists alone, a program known by its name.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_package::{go, known_program, program, read_slice, rust};

const NAMES: [&str; 6] = [
    "usr/bin/node",
    "usr/sbin/nginx",
    "usr/bin/python3.11",
    "usr/bin/redis-server",
    "usr/bin/php",
    "bin/busybox",
];

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else { return };
    match how % 4 {
        0 => {
            std::hint::black_box(program::inspect(&mut read_slice(bytes)));
        }
        1 => {
            let mut string_at = read_slice(bytes);
            std::hint::black_box(go::parse_build_info(bytes, how & 4 != 0, &mut |at, length| {
                string_at(at, length)
            }));
        }
        2 => {
            std::hint::black_box(rust::parse_auditable(bytes));
        }
        _ => {
            let name = NAMES[usize::from(how >> 2) % NAMES.len()];
            std::hint::black_box(known_program::inspect(name, bytes.len() as u64, &mut read_slice(bytes)));
        }
    }
});
