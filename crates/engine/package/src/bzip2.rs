//! bzip2's format with a cap: streams of blocks, each a Burrows-Wheeler transform behind move-to-front and Huffman codes.
//!
//! What bzip2 0.9.0 and older wrote of blocks that are put out of order on purpose is not read.

/// The first bytes of a stream; a digit follows, the size of its blocks.
pub const BZIP2: &[u8] = b"BZh";

/// What begins a block: 48 bits of pi; what ends a stream: of its square root.
const BLOCK: u64 = 0x3141_5926_5359;
const END: u64 = 0x1772_4538_5090;
/// Symbols that are coded by one table before the next is chosen.
const GROUP: usize = 50;
/// Longest code of a symbol, in bits.
const LONGEST: u32 = 20;

/// The content of a bzip2 file, of several streams too; none where it is damaged, cut or larger than `cap` bytes.
pub fn unbzipped(bytes: &[u8], cap: u64) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut bits = Bits { bytes, at: 0, held: 0, count: 0 };
    loop {
        stream(&mut bits, &mut content, cap)?;
        // Several streams lie one behind the other, each from a whole byte on.
        bits.count = 0;
        bits.held = 0;
        if bits.at >= bytes.len() {
            return Some(content);
        }
    }
}

/// Bits of bytes, the highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl Bits<'_> {
    /// Up to 32 bits.
    fn take(&mut self, count: u32) -> Option<u32> {
        while self.count < count {
            self.held = self.held << 8 | u64::from(*self.bytes.get(self.at)?);
            self.at += 1;
            self.count += 8;
        }
        self.count -= count;
        let taken = self.held >> self.count;
        self.held &= (1 << self.count) - 1;
        u32::try_from(taken).ok()
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == 1)
    }

    fn index(&mut self, count: u32) -> Option<usize> {
        usize::try_from(self.take(count)?).ok()
    }
}

fn stream(bits: &mut Bits<'_>, content: &mut Vec<u8>, cap: u64) -> Option<()> {
    for byte in BZIP2 {
        (bits.take(8)? == u32::from(*byte)).then_some(())?;
    }
    let level = bits.take(8)?.checked_sub(u32::from(b'0')).filter(|level| (1..=9).contains(level))?;
    let most = usize::try_from(level).ok()? * 100_000;
    let mut sum = 0_u32;
    let mut block = Vec::new();
    loop {
        let magic = u64::from(bits.take(24)?) << 24 | u64::from(bits.take(24)?);
        let told = bits.take(32)?;
        match magic {
            BLOCK => {
                let origin = read_block(bits, most, &mut block)?;
                let found = write_block(&block, origin, content, cap)?;
                (found == told).then_some(())?;
                sum = sum.rotate_left(1) ^ found;
            }
            END => return (sum == told).then_some(()),
            _ => return None,
        }
    }
}

/// A canonical Huffman code: how many symbols have each length, and the symbols in the order of their codes.
struct Code {
    counts: [u32; LONGEST as usize + 1],
    symbols: Vec<u16>,
}

impl Code {
    fn read(bits: &mut Bits<'_>, alphabet: u16) -> Option<Self> {
        let mut length = bits.take(5)?;
        let mut lengths = Vec::with_capacity(usize::from(alphabet));
        for symbol in 0..alphabet {
            loop {
                (1..=LONGEST).contains(&length).then_some(())?;
                if !bits.flag()? {
                    break;
                }
                length = if bits.flag()? { length - 1 } else { length + 1 };
            }
            lengths.push((length, symbol));
        }
        let mut counts = [0; LONGEST as usize + 1];
        for (length, _) in &lengths {
            *counts.get_mut(usize::try_from(*length).ok()?)? += 1;
        }
        lengths.sort_unstable();
        Some(Self { counts, symbols: lengths.into_iter().map(|(_, symbol)| symbol).collect() })
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Option<u16> {
        let (mut code, mut first, mut before) = (0_u32, 0_u32, 0_u32);
        for count in self.counts.iter().skip(1) {
            code = code << 1 | bits.take(1)?;
            first <<= 1;
            let place = code.checked_sub(first)?;
            if place < *count {
                return self.symbols.get(usize::try_from(before + place).ok()?).copied();
            }
            before += count;
            first += count;
        }
        None
    }
}

/// Reads a block into `block`: in the low eight bits of each entry a byte of the transform's last column. Gives the row of
/// the original.
fn read_block(bits: &mut Bits<'_>, most: usize, block: &mut Vec<u32>) -> Option<usize> {
    block.clear();
    if bits.flag()? {
        return None;
    }
    let origin = bits.index(24)?;
    let mut used = Vec::with_capacity(256);
    let sixteens = bits.take(16)?;
    for high in 0..16_u8 {
        if sixteens & 0x8000 >> high == 0 {
            continue;
        }
        let bytes = bits.take(16)?;
        used.extend((0..16_u8).filter(|low| bytes & 0x8000 >> low != 0).map(|low| high << 4 | low));
    }
    // Two symbols for runs of the byte in front, one for each other place, and the end.
    let end = u16::try_from(used.len()).ok().filter(|count| *count > 0)? + 1;
    let tables = bits.index(3).filter(|count| (2..=6).contains(count))?;
    let selectors = bits.index(15).filter(|count| *count > 0)?;
    let mut recent: Vec<usize> = (0..tables).collect();
    let mut chosen = Vec::with_capacity(selectors);
    for _ in 0..selectors {
        let mut place = 0;
        while bits.flag()? {
            place += 1;
            (place < tables).then_some(())?;
        }
        recent.get_mut(..=place)?.rotate_right(1);
        chosen.push(*recent.first()?);
    }
    let codes = (0..tables).map(|_| Code::read(bits, end + 1)).collect::<Option<Vec<_>>>()?;
    let (mut run, mut weight) = (0_usize, 1_usize);
    for table in chosen {
        let code = codes.get(table)?;
        for _ in 0..GROUP {
            let symbol = code.symbol(bits)?;
            if symbol < 2 {
                run += weight << symbol;
                weight <<= 1;
                (run <= most).then_some(())?;
                continue;
            }
            if run > 0 {
                (block.len() + run <= most).then_some(())?;
                block.resize(block.len() + run, u32::from(*used.first()?));
                (run, weight) = (0, 1);
            }
            if symbol == end {
                return (origin < block.len()).then_some(origin);
            }
            (block.len() < most).then_some(())?;
            used.get_mut(..usize::from(symbol))?.rotate_right(1);
            block.push(u32::from(*used.first()?));
        }
    }
    None
}

/// Undoes the transform of a block and its runs; gives the checksum of what it wrote.
fn write_block(block: &[u32], origin: usize, content: &mut Vec<u8>, cap: u64) -> Option<u32> {
    let byte_of = |entry: u32| u8::try_from(entry & 0xff).ok();
    let mut starts = [0_u32; 256];
    for entry in block {
        *starts.get_mut(usize::from(byte_of(*entry)?))? += 1;
    }
    let mut sum = 0;
    for start in &mut starts {
        (*start, sum) = (sum, sum + *start);
    }
    // Row by row: where the row that follows in the original is.
    let mut next = vec![0_u32; block.len()];
    for (row, entry) in (0_u32..).zip(block) {
        let place = starts.get_mut(usize::from(byte_of(*entry)?))?;
        *next.get_mut(usize::try_from(*place).ok()?)? = row;
        *place += 1;
    }
    let cap = usize::try_from(cap).unwrap_or(usize::MAX);
    let mut checksum = u32::MAX;
    let mut row = usize::try_from(*next.get(origin)?).ok()?;
    let (mut last, mut same) = (None, 0);
    for _ in 0..block.len() {
        let byte = byte_of(*block.get(row)?)?;
        row = usize::try_from(*next.get(row)?).ok()?;
        // Behind four equal bytes is how many more of them there are.
        let (written, times) = if same == 4 {
            same = 0;
            (last.take()?, usize::from(byte))
        } else {
            same = if last == Some(byte) { same + 1 } else { 1 };
            last = Some(byte);
            (byte, 1)
        };
        (content.len() + times <= cap).then_some(())?;
        content.resize(content.len() + times, written);
        for _ in 0..times {
            let place = usize::from(u8::try_from(checksum >> 24).ok()? ^ written);
            checksum = checksum << 8 ^ CHECKSUMS.get(place)?;
        }
    }
    Some(!checksum)
}

/// CRC-32 with the highest bit first (polynomial 0x04c11db7), a byte at a time.
static CHECKSUMS: [u32; 256] = checksums();

const fn checksums() -> [u32; 256] {
    let mut table = [0; 256];
    let mut rest: &mut [u32] = &mut table;
    let mut byte = 0_u32;
    while let Some((first, behind)) = rest.split_first_mut() {
        let mut sum = byte << 24;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 0x8000_0000 == 0 { sum << 1 } else { sum << 1 ^ 0x04c1_1db7 };
            bit += 1;
        }
        *first = sum;
        byte += 1;
        rest = behind;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(pair).collect()
    }

    /// What bzip2 1.0.8 writes of the text that `text` gives.
    const TEXT: &str = "425a68393141592653594b39abe80000217fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff \
         ffffffb000eb3080000000026034004c00264c000000460130000000000000d000000000000000000000130010000000 \
         0000000001300000000000000000980000000000000000000000000004c04c1549a68d026000993264c001304c1304c1 \
         300000043000d23c8134d0c0000000980000009800000008c0004c1346200f060708090a0b0c0d0e002080222426282a \
         2c2e30323436383a3c3e40424446484bf8262728292a2b2c01fd2e262f303132313f333435363738393a3b3c3d3efcfe \
         1a883a20811c2121a222a323a424a525a626a727a828a929aa2aab2bac2cad2dae2eb333b434b981ad1c277f90283d62 \
         80140d8da1c0dc11bc23838b90500900803abb0f01dc8c30043c002803a7f9837b7dc300121c08a3e1c028a5e5e9edf1 \
         f7defdf07ff8fcbe701030507090b0d0f11131517191b1d1f21232527292b2d3335360672767a7e82868a8e92969a9ea \
         2a6aaaeb2b6babec2c6caced2d6dadee2e6eaeef2f6faff03070b0f13171b1f23272b2f33373b3f43474b4f53575b5f6 \
         3676b6f73777b7f83878b8f93979b9fa3a7abafb3b7bbbfc3c7ffe5e7e9ebed1fee07e3e7ebec5dc914e142412ce6afa \
         00";
    /// `one\n` and `two\n`, a stream each, blocks of 100,000 and of 900,000 bytes.
    const TWO: &str = "425a68313141592653597813c082000001c10000100201a000219a68334d0cbc5dc914e14241e04f0208425a68393141 \
         592653592eb71ad700000141800010000084802000219a68334d073c5dc914e14240badc6b5c";
    /// 20,000,000 zeros.
    const ZEROS: &str = "425a6839314159265359bfcaafc400992fc200c00000080008200030cc0529a6aa91146c0288a3c5dc914e14242ff2ab \
         f100";

    fn text() -> Vec<u8> {
        let mut text = b"<oval_definitions>".to_vec();
        text.resize(text.len() + 300, b'a');
        text.push(b'\n');
        text.extend(0..=255);
        text.extend_from_slice(b"</oval_definitions>\n");
        text
    }

    #[test]
    fn streams_are_read_one_behind_the_other_and_up_to_the_cap() {
        assert_eq!(unbzipped(&bytes(TEXT), 10_000).unwrap(), text());
        assert_eq!(unbzipped(&bytes(TWO), 8).unwrap(), b"one\ntwo\n");
        assert_eq!(unbzipped(&bytes("425a683917724538509000000000"), 0).unwrap(), b"", "an empty file");
        assert_eq!(unbzipped(&bytes(ZEROS), 20_000_000).unwrap().len(), 20_000_000);
        for (file, cap) in [(ZEROS, 19_999_999), (ZEROS, 1), (TEXT, 100), (TWO, 7)] {
            assert_eq!(unbzipped(&bytes(file), cap), None, "a cap of {cap}");
        }
    }

    #[test]
    fn a_cut_or_changed_stream_is_refused() {
        let whole = bytes(TEXT);
        for length in 0..whole.len() {
            assert_eq!(unbzipped(&whole[..length], 10_000), None, "cut at {length}");
        }
        for place in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[place] ^= 0x10;
            // But for bits that say nothing, such as tables that no group uses, every change is seen.
            assert!(unbzipped(&changed, 10_000).is_none_or(|content| content == text()), "at {place}");
        }
        assert_eq!(unbzipped(&[&whole[..], b"more"].concat(), 10_000), None, "what follows is no stream");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_and_never_grow_beyond_the_cap(
            tail in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
            place in 0_usize..200,
            flip in 0_u8..8,
        ) {
            let behind = [&b"BZh91AY&SY"[..], &tail].concat();
            let _refused = unbzipped(&behind, 1000);
            let mut damaged = bytes(TEXT);
            let place = place % damaged.len();
            damaged[place] ^= 1 << flip;
            if let Some(content) = unbzipped(&damaged, 1000) {
                proptest::prop_assert!(content.len() <= 1000);
            }
        }
    }
}
