//! Ranges of bytes, in vectors: one comparison tells of sixteen bytes which of them are in a range.

use wide::i8x16;

/// A range of bytes (seen as a circle), so moved that its last byte is the largest signed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    shift: i8,
    least: i8,
}

impl Span {
    /// The bytes from `first` to `last`, over the end where `last` is less.
    pub(crate) fn new(first: u8, last: u8) -> Self {
        let shift = 0x7F_u8.wrapping_sub(last);
        Self { shift: shift.cast_signed(), least: first.wrapping_add(shift).cast_signed() }
    }

    pub(crate) fn has(self, byte: u8) -> bool {
        byte.cast_signed().wrapping_add(self.shift) >= self.least
    }

    /// Which bytes are not in it.
    pub(crate) fn outside(self, bytes: i8x16) -> i8x16 {
        let [shift, least] = [self.shift, self.least].map(i8x16::splat);
        least.simd_gt(bytes + shift)
    }
}

/// Ranges of [`Exits`].
const MAX_EXITS: usize = 5;

/// The bytes that lead out of a state of an automaton; all others leave it where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exits([Span; MAX_EXITS]);

impl Exits {
    /// `None` where they are none, or more than a few ranges.
    pub(crate) fn new(leads_out: impl Fn(u8) -> bool) -> Option<Self> {
        let mut spans =
            (0..=u8::MAX).filter(|byte| leads_out(*byte) && !leads_out(byte.wrapping_sub(1))).map(|first| {
                let length =
                    (1..=u8::MAX).find(|length| !leads_out(first.wrapping_add(*length))).unwrap_or(1);
                Span::new(first, first.wrapping_add(length).wrapping_sub(1))
            });
        // One of them as often as it takes.
        let mut exits = [spans.next()?; MAX_EXITS];
        for (place, span) in exits.iter_mut().skip(1).zip(&mut spans) {
            *place = span;
        }
        spans.next().is_none().then_some(Self(exits))
    }

    /// How many bytes at the beginning of a text lead nowhere else.
    pub(crate) fn stays(&self, text: &[u8]) -> usize {
        let (blocks, rest) = text.as_chunks::<16>();
        for (block, at) in blocks.iter().zip((0_usize..).step_by(16)) {
            let bytes = i8x16::new(block.map(u8::cast_signed));
            let stay =
                self.0.iter().fold(i8x16::splat(-1), |stay, span| stay & span.outside(bytes)).to_bitmask();
            if stay != 0xFFFF {
                return at.saturating_add(usize::try_from(stay.trailing_ones()).unwrap_or(0));
            }
        }
        let more = rest.iter().take_while(|byte| !self.0.iter().any(|span| span.has(**byte))).count();
        text.len().saturating_sub(rest.len()).saturating_add(more)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_stays_up_to_the_first_byte_that_leads_out(
            ranges in vec((any::<u8>(), 0_u8..40), 1..7),
            text in vec(prop_oneof![9 => Just(b'a'), 1 => any::<u8>()], 0..90),
        ) {
            let leads_out = |byte: u8| ranges.iter().any(|(first, more)| byte.wrapping_sub(*first) <= *more);
            let want = text.iter().take_while(|byte| !leads_out(**byte)).count();
            match Exits::new(leads_out) {
                Some(exits) => prop_assert_eq!(exits.stays(&text), want),
                None => prop_assert!(ranges.len() > MAX_EXITS),
            }
        }
    }

    #[test]
    fn a_state_that_nothing_or_everything_leads_out_of_has_no_exits() {
        assert!(Exits::new(|_| false).is_none());
        assert!(Exits::new(|_| true).is_none());
        assert!(Exits::new(|byte| byte & 1 == 0).is_none());
    }
}
