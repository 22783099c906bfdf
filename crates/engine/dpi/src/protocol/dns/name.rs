//! Names: labels and pointers (RFC 1035 §3.1, §4.1.4).

/// Longest name as text (RFC 1035 §2.3.4).
const MAX_BYTES: usize = 255;
/// Pointers that are followed for one name; a name of 255 bytes cannot need more.
const MAX_POINTERS: u8 = 63;

/// A name as text, labels joined by dots; the root is a dot.
#[derive(Debug)]
pub(super) struct Name {
    text: [u8; MAX_BYTES],
    length: usize,
    /// The last read met more pointers than a name can have.
    pub(super) looped: bool,
}

impl Default for Name {
    fn default() -> Self {
        Self { text: [0; MAX_BYTES], length: 0, looped: false }
    }
}

/// Whether a name is whole where it stands.
pub(super) enum Length {
    Whole,
    More,
    Wrong,
}

/// Walks a name without following pointers.
pub(super) fn length(input: &[u8]) -> Length {
    let mut at = 0_usize;
    // Each turn goes on by at least one byte, up to 255.
    while at <= MAX_BYTES {
        match input.get(at) {
            None => return Length::More,
            Some(0) => return Length::Whole,
            Some(label @ 1..=63) => at = at.saturating_add(usize::from(*label)).saturating_add(1),
            Some(0xC0..) => {
                let end = at.saturating_add(2);
                return if input.len() < end { Length::More } else { Length::Whole };
            }
            Some(_) => return Length::Wrong,
        }
    }
    Length::Wrong
}

impl Name {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self.length {
            0 => b".",
            length => self.text.get(..length).unwrap_or_default(),
        }
    }

    /// Reads the name at `at` of the message, following pointers. Gives the bytes that it takes where it stands; `None`
    /// when it is wrong.
    pub(super) fn read(&mut self, message: &[u8], at: usize) -> Option<usize> {
        (self.length, self.looped) = (0, false);
        let (mut at, mut pointers, mut taken) = (at, 0_u8, None);
        let start = at;
        // Each turn adds a label to at most 255 bytes of text, or follows one of at most 63 pointers.
        loop {
            let byte = *message.get(at)?;
            match byte {
                0 => return Some(taken.unwrap_or_else(|| at.saturating_add(1).saturating_sub(start))),
                1..=63 => {
                    let from = at.saturating_add(1);
                    let label = message.get(from..from.saturating_add(usize::from(byte)))?;
                    if self.length > 0 {
                        self.push(b".")?;
                    }
                    self.push(label)?;
                    at = from.saturating_add(label.len());
                }
                0xC0.. => {
                    let low = *message.get(at.saturating_add(1))?;
                    taken.get_or_insert_with(|| at.saturating_add(2).saturating_sub(start));
                    pointers = pointers.saturating_add(1);
                    if pointers > MAX_POINTERS {
                        self.looped = true;
                        return None;
                    }
                    at = usize::from(u16::from_be_bytes([byte & 0x3F, low]));
                }
                _ => return None,
            }
        }
    }

    fn push(&mut self, part: &[u8]) -> Option<()> {
        let end = self.length.saturating_add(part.len());
        self.text.get_mut(self.length..end)?.copy_from_slice(part);
        self.length = end;
        Some(())
    }
}
