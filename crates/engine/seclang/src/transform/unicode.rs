//! UTF-8 (RFC 3629) to `%uHHHH`.

/// Sequences of more than one byte become `%u` and four digits at least; other bytes stay.
pub(super) fn utf8_to_unicode(input: &[u8], out: &mut Vec<u8>) {
    for chunk in input.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match u8::try_from(letter) {
                Ok(byte) if byte.is_ascii() => out.push(byte),
                _ => out.extend_from_slice(format!("%u{:04x}", u32::from(letter)).as_bytes()),
            }
        }
        out.extend_from_slice(chunk.invalid());
    }
}
