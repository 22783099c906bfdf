//! Debian policy 5.6.12, as `dpkg --compare-versions` decides it.

use super::cursor::{Cursor, split_epoch, split_last_dash};
use super::key::Key;

/// `~` sorts before the end of a part, even before nothing.
const TILDE: u8 = 0;
const END: u8 = 1;
/// What is neither letter nor digit sorts after all letters.
const OTHER: u8 = 128;

pub(super) fn write(version: &[u8], key: &mut Key) {
    let (epoch, rest) = split_epoch(version);
    let (upstream, revision) = split_last_dash(rest);
    key.number(epoch);
    write_part(upstream, key);
    write_part(revision.unwrap_or_default(), key);
}

/// Runs of other characters and numbers in turn; either may be empty.
fn write_part(part: &[u8], key: &mut Key) {
    let mut cursor = Cursor::new(part);
    loop {
        for byte in cursor.take_while(|byte| !byte.is_ascii_digit()) {
            match byte {
                b'~' => key.rank(TILDE),
                b'a'..=b'z' | b'A'..=b'Z' => key.rank(*byte),
                byte if byte.is_ascii() => key.rank(OTHER | byte),
                byte => {
                    key.rank(u8::MAX);
                    key.rank(*byte);
                }
            }
        }
        key.rank(END);
        key.number(cursor.digits());
        if cursor.is_empty() {
            key.rank(END);
            return;
        }
    }
}
