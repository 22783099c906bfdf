//! How much chance is in a text.

/// Shannon's entropy in bits a byte: 0 where all bytes are the same, at most 8.
pub(crate) fn bits(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text {
        if let Some(count) = counts.get_mut(usize::from(*byte)) {
            *count += 1;
        }
    }
    let Ok(length) = u32::try_from(text.len()) else { return 0.0 };
    let share = |count: u32| f64::from(count) / f64::from(length);
    counts.into_iter().filter(|count| *count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entropy_is_none_of_one_byte_and_one_bit_of_two_alike() {
        for (text, want) in [("aaaa", 0.0), ("abab", 1.0), ("abcd", 2.0), ("", 0.0)] {
            assert!((bits(text.as_bytes()) - want).abs() < 1e-9, "{text}");
        }
    }
}
