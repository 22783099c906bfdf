//! The bytes at hand of a stream: a piece, and the last bytes before it.

/// A piece of a stream.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    /// The last bytes before the piece.
    pub(crate) tail: &'a [u8],
    /// The piece.
    pub(crate) data: &'a [u8],
    /// Where in the stream the piece begins.
    pub(crate) offset: u64,
}

impl<'a> Text<'a> {
    /// Where the piece ends.
    pub(crate) fn end(&self) -> u64 {
        self.offset.saturating_add(self.data.len() as u64)
    }
    /// Where the bytes at hand begin.
    pub(crate) fn start(&self) -> u64 {
        self.offset.saturating_sub(self.tail.len() as u64)
    }
    /// The bytes from `from` to `to`, as far as they are at hand, in two parts.
    pub(crate) fn slices(&self, from: u64, to: u64) -> (&'a [u8], &'a [u8]) {
        let at = |position: u64| usize::try_from(position.saturating_sub(self.start())).unwrap_or(usize::MAX);
        let (from, to) = (at(from), at(to.min(self.end())));
        let tail = self.tail.len();
        let old = self.tail.get(from.min(tail)..to.min(tail)).unwrap_or_default();
        let new = self.data.get(from.saturating_sub(tail)..to.saturating_sub(tail)).unwrap_or_default();
        (old, new)
    }
    /// The byte at a place.
    pub(crate) fn byte(&self, position: u64) -> Option<u8> {
        match position.checked_sub(self.offset) {
            Some(at) => self.data.get(usize::try_from(at).ok()?).copied(),
            None => {
                let back = usize::try_from(self.offset.saturating_sub(position)).ok()?;
                self.tail.get(self.tail.len().checked_sub(back)?).copied()
            }
        }
    }
    /// Up to `N` bytes before a place, at the end of the array; and how many.
    pub(crate) fn window<const N: usize>(&self, end: u64) -> ([u8; N], usize) {
        let (old, new) = self.slices(end.saturating_sub(N as u64).max(self.start()), end);
        let mut out = [0; N];
        let count = old.len().saturating_add(new.len()).min(N);
        for (place, byte) in out.iter_mut().skip(N.saturating_sub(count)).zip(old.iter().chain(new)) {
            *place = *byte;
        }
        (out, count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_before_and_within_a_piece_are_reached_by_their_place() {
        let text = Text { tail: b"cde", data: b"fgh", offset: 5 };
        assert_eq!((text.start(), text.end()), (2, 8));
        assert_eq!(text.slices(3, 7), (&b"de"[..], &b"fg"[..]));
        assert_eq!(text.slices(6, 100), (&b""[..], &b"gh"[..]));
        assert_eq!(
            (text.byte(1), text.byte(2), text.byte(5), text.byte(8)),
            (None, Some(b'c'), Some(b'f'), None)
        );
        assert_eq!(text.window::<4>(7), (*b"defg", 4));
        assert_eq!(text.window::<8>(4), (*b"\0\0\0\0\0\0cd", 2));
    }
}
