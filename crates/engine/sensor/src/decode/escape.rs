//! Escapes in a text (`%41`, `&lt;`): plain bytes pass through in runs, an escape that a border cuts is held.

/// What the bytes from a possible start of an escape on are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    /// No escape: the first byte stands for itself.
    Plain,
    /// Too few bytes to say.
    More,
    /// An escape of so many bytes for this character.
    Is(u32, usize),
}

/// A way to escape.
pub(super) trait Escapes {
    /// Where the next escape may begin.
    fn start(&self, text: &[u8]) -> Option<usize>;
    /// Reads what begins with a possible start. Says [`Escape::More`] never of `LONGEST` bytes or more.
    fn read(&self, text: &[u8]) -> Escape;
    /// Writes the character of an escape.
    fn write(&self, character: u32, out: &mut Vec<u8>);
}

/// Longest escape, in bytes.
pub(super) const LONGEST: usize = 12;

/// Beginning of an escape that is not whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Held {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length = self.length.saturating_add(1);
        }
    }
    fn drop_front(&mut self, count: usize) {
        let count = count.min(self.length);
        self.bytes.copy_within(count..self.length, 0);
        self.length = self.length.saturating_sub(count);
    }

    /// Decodes `input`, which goes on where the last one ended.
    pub(super) fn push_all(&mut self, how: &impl Escapes, input: &[u8], out: &mut Vec<u8>) {
        let mut rest = input;
        // Each turn takes a byte of `rest`, or all of it.
        loop {
            if self.length > 0 {
                let Some((byte, after)) = rest.split_first() else { return };
                self.push(*byte);
                rest = after;
                self.settle(how, false, out);
                continue;
            }
            let Some(start) = how.start(rest) else {
                out.extend_from_slice(rest);
                return;
            };
            let (plain, escaped) = rest.split_at_checked(start).unwrap_or((rest, &[]));
            out.extend_from_slice(plain);
            match how.read(escaped) {
                Escape::Is(character, taken) if taken > 0 => {
                    how.write(character, out);
                    rest = escaped.get(taken..).unwrap_or_default();
                }
                Escape::More if escaped.len() < LONGEST => {
                    for byte in escaped {
                        self.push(*byte);
                    }
                    return;
                }
                Escape::More | Escape::Plain | Escape::Is(..) => {
                    out.extend(escaped.first());
                    rest = escaped.get(1..).unwrap_or_default();
                }
            }
        }
    }

    /// Gives out what is held and decided; with `end`, all of it.
    pub(super) fn settle(&mut self, how: &impl Escapes, end: bool, out: &mut Vec<u8>) {
        // Each turn drops at least a byte of what is held, or ends.
        while self.length > 0 {
            match how.start(self.as_slice()) {
                None => {
                    out.extend_from_slice(self.as_slice());
                    self.length = 0;
                    return;
                }
                Some(0) => {}
                Some(start) => {
                    out.extend_from_slice(self.as_slice().get(..start).unwrap_or_default());
                    self.drop_front(start);
                }
            }
            match how.read(self.as_slice()) {
                Escape::Is(character, taken) if taken > 0 => {
                    how.write(character, out);
                    self.drop_front(taken);
                }
                Escape::More if !end && self.length < LONGEST => return,
                Escape::More | Escape::Plain | Escape::Is(..) => {
                    out.extend(self.as_slice().first());
                    self.drop_front(1);
                }
            }
        }
    }
}
