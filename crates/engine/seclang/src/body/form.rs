//! `application/x-www-form-urlencoded`.

use super::{BodyError, MAX_ARGUMENTS};
use crate::transform::Transform;

/// Reads `a=1&b=2`; `take` says whether it has a place for more.
pub(super) fn read(text: &[u8], mut take: impl FnMut(Vec<u8>, Vec<u8>) -> bool) -> Result<(), BodyError> {
    let mut count = 0_usize;
    for part in text.split(|byte| *byte == b'&').filter(|part| !part.is_empty()) {
        count = count.saturating_add(1);
        let at = part.iter().position(|byte| *byte == b'=').unwrap_or(part.len());
        let (name, value) = part.split_at_checked(at).unwrap_or_default();
        let decoded = |text: &[u8]| {
            let mut out = Vec::with_capacity(text.len());
            Transform::UrlDecode.apply(text, &mut out);
            out
        };
        if count > MAX_ARGUMENTS || !take(decoded(name), decoded(value.get(1..).unwrap_or_default())) {
            return Err(BodyError::Arguments);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_decoded_and_their_number_is_bounded() {
        let mut found = Vec::new();
        read(b"a=1&&b%20c=d+e=f&g", |name, value| {
            found.push((name, value));
            true
        })
        .unwrap();
        let want = [("a", "1"), ("b c", "d e=f"), ("g", "")];
        assert_eq!(found, want.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec())));
        assert_eq!(read(&b"a&".repeat(1001), |_, _| true), Err(BodyError::Arguments));
    }
}
