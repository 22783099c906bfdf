//! Many needles in one pass (Wu and Manber, "A fast algorithm for multi-pattern searching", 1994): a table over two bytes
//! says how far on the next end of a needle can lie at the earliest.
//!
//! Letters match in either case. Needles are searched by their ends, so that all of a needle is there when it is found.

/// A table over all pairs of bytes.
const PAIRS: usize = 1 << 16;

/// Needles of about the same length.
#[derive(Clone)]
pub(crate) struct Needles {
    /// Bytes at each needle's end that the table is made of: the length of the shortest.
    window: usize,
    /// How far on an end can lie that has this pair in its window; 0 where one may be.
    shift: Box<[u8; PAIRS]>,
    /// Needles that end with a pair, as a range of `order`.
    ends: Box<[(u16, u16)]>,
    pairs: Vec<u16>,
    order: Vec<u16>,
    needles: Vec<Vec<u8>>,
}

impl std::fmt::Debug for Needles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needles")
            .field("window", &self.window)
            .field("needles", &self.needles.len())
            .finish_non_exhaustive()
    }
}

impl Needles {
    /// A table for needles in lower case of two bytes or more, 65,535 at most; `None` for none.
    pub(crate) fn new(needles: Vec<Vec<u8>>) -> Option<Self> {
        let window = needles.iter().map(Vec::len).min()?;
        if window < 2 || needles.len() > usize::from(u16::MAX) {
            return None;
        }
        let far = u8::try_from(window.saturating_sub(1)).unwrap_or(u8::MAX);
        let mut shift: Box<[u8; PAIRS]> = vec![far; PAIRS].into_boxed_slice().try_into().ok()?;
        let mut by_pair: std::collections::BTreeMap<u16, Vec<u16>> = std::collections::BTreeMap::new();
        for (index, needle) in (0_u16..).zip(&needles) {
            let tail = needle.get(needle.len().saturating_sub(window)..)?;
            for (at, pair) in tail.windows(2).enumerate() {
                let [a, b] = *pair else { continue };
                let left = u8::try_from(window.saturating_sub(2).saturating_sub(at)).unwrap_or(far).min(far);
                for first in [a, a.to_ascii_uppercase()] {
                    for second in [b, b.to_ascii_uppercase()] {
                        if let Some(place) = shift.get_mut(usize::from(u16::from_be_bytes([first, second]))) {
                            *place = (*place).min(left);
                        }
                    }
                }
                if left == 0 {
                    by_pair.entry(u16::from_be_bytes([a, b])).or_default().push(index);
                }
            }
        }
        let (mut pairs, mut ends, mut order) = (Vec::new(), Vec::new(), Vec::new());
        for (pair, indexes) in by_pair {
            let start = u16::try_from(order.len()).ok()?;
            order.extend(indexes);
            pairs.push(pair);
            ends.push((start, u16::try_from(order.len()).ok()?));
        }
        Some(Self { window, shift, ends: ends.into_boxed_slice(), pairs, order, needles })
    }

    /// A needle.
    pub(crate) fn needle(&self, index: u16) -> &[u8] {
        self.needles.get(usize::from(index)).map_or(&[], Vec::as_slice)
    }

    /// Tells each needle that ends in `data` behind its first `from` bytes: which, and the offset behind its last byte.
    pub(crate) fn find(&self, data: &[u8], from: usize, found: &mut impl FnMut(u16, usize)) {
        // The offset behind a possible end; each turn goes on by at least one byte.
        let mut end = self.window.max(from.saturating_add(1));
        loop {
            let Some([a, b]) = data.get(end.wrapping_sub(2)..end) else { return };
            let pair = u16::from_be_bytes([*a, *b]);
            let step = self.shift.get(usize::from(pair)).copied().unwrap_or(1);
            if step == 0 {
                self.verify(data, pair, end, found);
                end = end.saturating_add(1);
            } else {
                end = end.saturating_add(usize::from(step));
            }
        }
    }

    #[cold]
    fn verify(&self, data: &[u8], pair: u16, end: usize, found: &mut impl FnMut(u16, usize)) {
        let [a, b] = pair.to_be_bytes();
        let pair = u16::from_be_bytes([a.to_ascii_lowercase(), b.to_ascii_lowercase()]);
        let Ok(at) = self.pairs.binary_search(&pair) else { return };
        let Some((start, stop)) = self.ends.get(at) else { return };
        for index in self.order.get(usize::from(*start)..usize::from(*stop)).unwrap_or_default() {
            let needle = self.needle(*index);
            let text = end.checked_sub(needle.len()).and_then(|start| data.get(start..end));
            if text.is_some_and(|text| text.eq_ignore_ascii_case(needle)) {
                found(*index, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_needle_is_found_at_each_of_its_ends(
            needles in vec("[abc]{2,5}", 1..8),
            data in "[abcABCx]{0,60}",
            from in 0_usize..10,
        ) {
            let table = Needles::new(needles.iter().map(|needle| needle.as_bytes().to_vec()).collect()).unwrap();
            let mut got = Vec::new();
            table.find(data.as_bytes(), from, &mut |index, end| got.push((end, index)));
            let lower = data.to_ascii_lowercase().into_bytes();
            let mut want = Vec::new();
            for end in 0..=lower.len() {
                for (index, needle) in (0_u16..).zip(&needles) {
                    if end > from && lower[..end].ends_with(needle.as_bytes()) {
                        want.push((end, index));
                    }
                }
            }
            got.sort_unstable();
            want.sort_unstable();
            prop_assert_eq!(got, want);
        }
    }
}
