//! Any bytes are a capture or are refused; what is read of one is decoded, or is not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nv_packet::capture_file::CaptureFile;
use nv_packet::decode::decode;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut capture) = CaptureFile::open(bytes) else { return };
    while let Ok(Some(record)) = capture.read() {
        if let Some(link) = record.link {
            std::hint::black_box(decode(link, record.frame).is_ok());
        }
    }
});
