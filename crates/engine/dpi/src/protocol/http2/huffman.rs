//! The Huffman code of HPACK (RFC 7541 §5.2, Appendix B). It is canonical: lengths alone give the codes.

/// Bits of the code of each byte, and of the end of a string.
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26, 30,
];
const LONGEST: usize = 30;
const END: u16 = 256;

/// Codes of one length: the first code, where its symbols begin in [`Code::symbols`], and how many there are.
#[derive(Clone, Copy)]
struct Row {
    first: u32,
    start: u16,
    count: u16,
}

struct Code {
    rows: [Row; LONGEST + 1],
    symbols: [u16; 257],
}

#[expect(
    clippy::indexing_slicing,
    clippy::as_conversions,
    reason = "computed when compiling: a wrong index does not build"
)]
const CODE: Code = {
    let mut code = Code { rows: [Row { first: 0, start: 0, count: 0 }; LONGEST + 1], symbols: [0; 257] };
    let (mut next, mut placed, mut length) = (0_u32, 0_u16, 1_usize);
    while length <= LONGEST {
        code.rows[length] = Row { first: next, start: placed, count: 0 };
        let mut symbol = 0_usize;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == length {
                code.symbols[placed as usize] = symbol as u16;
                code.rows[length].count += 1;
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        next <<= 1;
        length += 1;
    }
    code
};

/// Appends what `input` stands for to `out`, up to `most` bytes in all. `None` for what is no code, for padding that is
/// not the beginning of the end's code, and beyond `most`.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>, most: usize) -> Option<()> {
    let (mut code, mut length) = (0_u32, 0_usize);
    for byte in input {
        for shift in (0..8_u32).rev() {
            code = (code << 1) | u32::from((byte >> shift) & 1);
            length = length.saturating_add(1);
            let row = CODE.rows.get(length)?;
            let Some(at) = code.checked_sub(row.first).filter(|at| *at < u32::from(row.count)) else {
                continue;
            };
            let at = usize::from(row.start).saturating_add(usize::try_from(at).ok()?);
            let symbol = *CODE.symbols.get(at)?;
            if symbol == END || out.len() >= most {
                return None;
            }
            out.push(u8::try_from(symbol).ok()?);
            (code, length) = (0, 0);
        }
    }
    // Less than a byte of ones is padding.
    (length < 8 && code.saturating_add(1) == 1 << length).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_complete() {
        let sum: u64 = LENGTHS.iter().map(|length| 1_u64 << (30 - u32::from(*length))).sum();
        assert_eq!(sum, 1 << 30);
    }

    #[test]
    fn the_examples_of_the_standard_are_read() {
        // RFC 7541 §C.4 and §C.6.
        for (code, want) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x25\xa8\x49\xe9\x5b\xb8\xe8\xb4\xbf", "custom-value"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            let mut out = Vec::new();
            assert_eq!(decode(code, &mut out, 100), Some(()), "{want}");
            assert_eq!(out, want.as_bytes());
        }
    }

    #[test]
    fn false_padding_the_end_and_too_much_are_refused() {
        for code in [&b"\x60"[..], b"\xff\xff\xff\xff", b"\xff"] {
            assert_eq!(decode(code, &mut Vec::new(), 100), None, "{code:x?}");
        }
        assert_eq!(decode(b"\xa8\xeb\x10\x64\x9c\xbf", &mut Vec::new(), 7), None);
    }
}
