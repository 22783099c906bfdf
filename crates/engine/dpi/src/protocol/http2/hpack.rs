//! Header compression (RFC 7541): a table that both ends keep in step, one for each direction.

use std::collections::VecDeque;

use super::huffman;

/// Largest table that is kept, in the standard's octets; a peer that wants more is not followed.
pub(super) const MAX_TABLE: usize = 65_536;
/// Table that both ends begin with.
pub(super) const FIRST_TABLE: usize = 4096;
/// What an entry counts beyond its bytes (RFC 7541 §4.1).
const OVERHEAD: usize = 32;
/// Longest name or value that is decoded.
const MAX_STRING: usize = 16 * 1024;

const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The table of one direction, and the header that was read last.
#[derive(Debug)]
pub(super) struct Decoder {
    /// Names and values, the oldest first.
    data: VecDeque<u8>,
    /// Lengths of name and value, the oldest first.
    entries: VecDeque<(usize, usize)>,
    /// Size in the standard's octets, and the largest that the encoder has announced.
    size: usize,
    limit: usize,
    /// The largest that the encoder may announce.
    pub(super) allowed: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    pub(super) fn new() -> Self {
        Self {
            data: VecDeque::new(),
            entries: VecDeque::new(),
            size: 0,
            limit: FIRST_TABLE,
            allowed: FIRST_TABLE,
            name: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Reads a block and tells each header. `None` when it cannot be read: the table is out of step from there on.
    pub(super) fn read(&mut self, mut block: &[u8], mut tell: impl FnMut(&[u8], &[u8])) -> Option<()> {
        // Each turn takes at least a byte of the block.
        while let Some(first) = block.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut block, 7)?;
                self.copy(index, true)?;
                tell(&self.name, &self.value);
                continue;
            }
            if first & 0xE0 == 0x20 {
                let limit = integer(&mut block, 5)?;
                if limit > self.allowed.min(MAX_TABLE) {
                    return None;
                }
                self.limit = limit;
                self.evict(0);
                continue;
            }
            let keep = first & 0xC0 == 0x40;
            match integer(&mut block, if keep { 6 } else { 4 })? {
                0 => string(&mut block, &mut self.name)?,
                index => self.copy(index, false)?,
            }
            string(&mut block, &mut self.value)?;
            tell(&self.name, &self.value);
            if keep {
                self.insert();
            }
        }
        Some(())
    }

    /// Takes name, and value when wanted, from the tables (RFC 7541 §2.3.3).
    fn copy(&mut self, index: usize, value: bool) -> Option<()> {
        self.name.clear();
        if let Some((name, text)) = index.checked_sub(1).and_then(|index| STATIC.get(index)) {
            self.name.extend_from_slice(name.as_bytes());
            if value {
                self.value.clear();
                self.value.extend_from_slice(text.as_bytes());
            }
            return Some(());
        }
        // The newest entry has the lowest number.
        let from_newest = index.checked_sub(STATIC.len().saturating_add(1))?;
        let at = self.entries.len().checked_sub(from_newest.saturating_add(1))?;
        let before: usize = self.entries.range(..at).map(|(name, value)| name.saturating_add(*value)).sum();
        let (name, text) = *self.entries.get(at)?;
        let middle = before.saturating_add(name);
        self.name.extend(self.data.range(before..middle));
        if value {
            self.value.clear();
            self.value.extend(self.data.range(middle..middle.saturating_add(text)));
        }
        Some(())
    }

    fn insert(&mut self) {
        let size = self.name.len().saturating_add(self.value.len()).saturating_add(OVERHEAD);
        self.evict(size);
        if size <= self.limit {
            self.data.extend(&self.name);
            self.data.extend(&self.value);
            self.entries.push_back((self.name.len(), self.value.len()));
            self.size = self.size.saturating_add(size);
        }
    }

    /// Lets the oldest go until `more` fits (RFC 7541 §4.4).
    fn evict(&mut self, more: usize) {
        while self.size.saturating_add(more) > self.limit {
            let Some((name, value)) = self.entries.pop_front() else { break };
            let bytes = name.saturating_add(value);
            self.data.drain(..bytes.min(self.data.len()));
            self.size = self.size.saturating_sub(bytes.saturating_add(OVERHEAD));
        }
    }
}

/// A number whose first bits share a byte (RFC 7541 §5.1); up to 28 bits more.
fn integer(block: &mut &[u8], bits: u32) -> Option<usize> {
    let (first, mut rest) = block.split_first()?;
    let most = (1_usize << bits).saturating_sub(1);
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0_u32;
        loop {
            let (byte, after) = rest.split_first()?;
            rest = after;
            value = value.checked_add(usize::from(byte & 0x7F) << shift)?;
            if byte & 0x80 == 0 {
                break;
            }
            shift = shift.saturating_add(7);
            if shift > 21 {
                return None;
            }
        }
    }
    *block = rest;
    Some(value)
}

/// A string, plain or in the Huffman code (RFC 7541 §5.2).
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Option<()> {
    let coded = block.first()? & 0x80 != 0;
    let length = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(length)?;
    *block = rest;
    out.clear();
    if coded {
        return huffman::decode(text, out, MAX_STRING);
    }
    if length > MAX_STRING {
        return None;
    }
    out.extend_from_slice(text);
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn headers(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<String>> {
        let mut out = Vec::new();
        decoder.read(block, |name, value| {
            out.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        })?;
        Some(out)
    }

    #[test]
    fn the_requests_of_the_standard_are_read_with_one_table() {
        // RFC 7541 §C.4: three requests of one connection, in the Huffman code.
        let mut decoder = Decoder::new();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
        let third =
            b"\x82\x87\x85\xbf\x40\x88\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f\x89\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf";
        let host = ":authority: www.example.com";
        for (block, want) in [
            (&first[..], vec![":method: GET", ":scheme: http", ":path: /", host]),
            (second, vec![":method: GET", ":scheme: http", ":path: /", host, "cache-control: no-cache"]),
            (
                third,
                vec![
                    ":method: GET",
                    ":scheme: https",
                    ":path: /index.html",
                    host,
                    "custom-key: custom-value",
                ],
            ),
        ] {
            assert_eq!(headers(&mut decoder, block).unwrap(), want);
        }
        assert_eq!((decoder.size, decoder.entries.len()), (164, 3));
    }

    #[test]
    fn the_table_lets_the_oldest_go_and_never_grows_beyond_its_limit() {
        let mut decoder = Decoder::new();
        // Limit 64, then two entries of 36 octets.
        headers(&mut decoder, b"\x3f\x21\x40\x02aa\x02bb\x40\x02cc\x02dd").unwrap();
        assert_eq!(headers(&mut decoder, b"\xbe").unwrap(), ["cc: dd"]);
        assert_eq!(headers(&mut decoder, b"\xbf"), None, "the first is gone");
    }

    #[test]
    fn a_table_larger_than_allowed_is_refused() {
        assert_eq!(headers(&mut Decoder::new(), b"\x3f\xe2\x1f"), None);
    }

    proptest! {
        #[test]
        fn any_block_gives_an_answer_and_the_table_stays_bounded(blocks in vec(vec(any::<u8>(), 0..80), 0..20)) {
            let mut decoder = Decoder::new();
            for block in blocks {
                headers(&mut decoder, &block);
                prop_assert!(decoder.size <= FIRST_TABLE);
                let bytes: usize = decoder.entries.iter().map(|(name, value)| name + value).sum();
                prop_assert_eq!(bytes, decoder.data.len());
            }
        }
    }
}
