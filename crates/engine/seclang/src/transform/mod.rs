//! Transformations of a value before an operator sees it (`t:…`): each is total, and writes at most three times what it
//! reads, or 20 bytes.

mod blank;
mod codec;
mod command;
mod escape;
mod path;
mod percent;
mod unicode;

use std::str::FromStr;

macro_rules! transforms {
    ($($variant:ident $name:literal $apply:path;)*) => {
        /// A transformation, by its name in the rule language.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Transform { $(#[doc = concat!("`t:", $name, "`")] $variant,)* }

        impl Transform {
            /// Every transformation that is known.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in the rule language.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Its place in a table.
            pub(crate) const fn index(self) -> usize {
                self as usize
            }

            /// Appends what becomes of `input` to `out`.
            pub fn apply(self, input: &[u8], out: &mut Vec<u8>) {
                match self { $(Self::$variant => $apply(input, out),)* }
            }
        }
    };
}

transforms! {
    Base64Decode "base64Decode" codec::base64_decode;
    Base64DecodeExt "base64DecodeExt" codec::base64_decode_ext;
    Base64Encode "base64Encode" codec::base64_encode;
    CmdLine "cmdLine" command::cmd_line;
    CompressWhitespace "compressWhitespace" blank::compress;
    CssDecode "cssDecode" escape::css;
    EscapeSeqDecode "escapeSeqDecode" escape::ansi_c;
    HexDecode "hexDecode" codec::hex_decode;
    HexEncode "hexEncode" codec::hex_encode;
    HtmlEntityDecode "htmlEntityDecode" escape::html;
    JsDecode "jsDecode" escape::js;
    Length "length" codec::length;
    Lowercase "lowercase" blank::lowercase;
    Md5 "md5" codec::md5;
    NormalizePath "normalizePath" path::normalize;
    NormalizePathWin "normalizePathWin" path::normalize_win;
    RemoveComments "removeComments" blank::remove_comments;
    RemoveCommentsChar "removeCommentsChar" blank::remove_comment_marks;
    RemoveNulls "removeNulls" blank::remove_nulls;
    RemoveWhitespace "removeWhitespace" blank::remove;
    ReplaceComments "replaceComments" blank::replace_comments;
    ReplaceNulls "replaceNulls" blank::replace_nulls;
    Sha1 "sha1" codec::sha1;
    SqlHexDecode "sqlHexDecode" codec::sql_hex_decode;
    Trim "trim" blank::trim;
    TrimLeft "trimLeft" blank::trim_left;
    TrimRight "trimRight" blank::trim_right;
    Uppercase "uppercase" blank::uppercase;
    UrlDecode "urlDecode" percent::decode;
    UrlDecodeUni "urlDecodeUni" percent::decode_uni;
    UrlEncode "urlEncode" percent::encode;
    Utf8ToUnicode "utf8toUnicode" unicode::utf8_to_unicode;
}

/// No transformation has such a name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("transformation {0:?} is not supported")]
pub struct UnknownTransform(String);

impl FromStr for Transform {
    type Err = UnknownTransform;
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        // Older names of the same transformations.
        let name = match name.to_ascii_lowercase().as_str() {
            "normalisepath" => "normalizePath",
            "normalisepathwin" => "normalizePathWin",
            _ => name,
        };
        let found = Self::ALL.iter().find(|known| known.name().eq_ignore_ascii_case(name));
        found.copied().ok_or_else(|| UnknownTransform(name.to_owned()))
    }
}

/// The value of a hexadecimal digit.
fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// The value of two hexadecimal digits at the beginning of `text`.
fn hex_pair(text: &[u8]) -> Option<u8> {
    match text {
        [high, low, ..] => Some(digit(*high)?.wrapping_shl(4) | digit(*low)?),
        _ => None,
    }
}

/// The byte that a 16-bit code point stands for: full-width forms (U+FF01–U+FF5E) become ASCII, of others the low byte
/// counts, as ModSecurity has it without a code page.
fn narrow(high: u8, low: u8) -> u8 {
    if high == 0xFF && (0x01..=0x5E).contains(&low) { low.wrapping_add(0x20) } else { low }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn of(transform: Transform, input: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        transform.apply(input, &mut out);
        out
    }

    #[test]
    fn each_transformation_does_what_its_name_says() {
        use Transform as T;
        for (transform, input, want) in [
            (T::UrlDecodeUni, &b"a%20b+c%u0041%uff1c%zz%4"[..], &b"a b cA<%zz%4"[..]),
            (T::UrlDecode, b"a%20b+%u0041", b"a b %u0041"),
            (T::UrlEncode, b"a b/*", b"a+b%2f*"),
            (T::HtmlEntityDecode, b"&lt;&#x61;&#98;&amp;&quot&unknown;&#;", b"<ab&\"&unknown;&#;"),
            (T::JsDecode, b"\\x41\\u0042\\103\\n\\'\\uff1c", b"ABC\n'<"),
            (T::CssDecode, b"\\65 xp\\000072ession\\\nx\\z", b"expressionxz"),
            (T::EscapeSeqDecode, b"\\x41\\101\\n\\q", b"AA\n\\q"),
            (T::Base64Decode, b"aGVsbG8=", b"hello"),
            (T::Base64Decode, b"aGVs!bG8=", b"hel"),
            (T::Base64DecodeExt, b"aG.Vs bG8=", b"hello"),
            (T::Base64Encode, b"hello", b"aGVsbG8="),
            (T::HexEncode, b"\x00\xffA", b"00ff41"),
            (T::HexDecode, b"4142", b"AB"),
            (T::SqlHexDecode, b"x=0x4142 y", b"x=AB y"),
            (T::CmdLine, b"C^m\"D \t/C,  'dir' ;x (y", b"cmd/c dir x(y"),
            (T::CompressWhitespace, b"a \t\n b\xa0c", b"a b c"),
            (T::RemoveWhitespace, b"a \t\n b", b"ab"),
            (T::RemoveNulls, b"a\0b", b"ab"),
            (T::ReplaceNulls, b"a\0b", b"a b"),
            (T::ReplaceComments, b"a/* x */b/* open", b"a b "),
            (T::RemoveComments, b"a/* x */b -- rest", b"ab "),
            (T::RemoveCommentsChar, b"a/*b*/c--d#e<!--f-->", b"abcdef"),
            (T::NormalizePath, b"/a/./b/../c//d", b"/a/c/d"),
            (T::NormalizePath, b"../../etc/passwd", b"../../etc/passwd"),
            (T::NormalizePathWin, b"a\\b\\..\\c", b"a/c"),
            (T::Utf8ToUnicode, "a\u{e9}\u{ff1c}".as_bytes(), b"a%u00e9%uff1c"),
            (T::Lowercase, b"AbC\xc4", b"abc\xc4"),
            (T::Uppercase, b"aBc", b"ABC"),
            (T::Trim, b"  a b ", b"a b"),
            (T::TrimLeft, b"  a ", b"a "),
            (T::TrimRight, b" a  ", b" a"),
            (T::Length, b"abcde", b"5"),
        ] {
            let got = of(transform, input);
            assert_eq!(
                String::from_utf8_lossy(&got),
                String::from_utf8_lossy(want),
                "{} of {:?}",
                transform.name(),
                String::from_utf8_lossy(input)
            );
        }
        assert_eq!(of(T::HexEncode, &of(T::Sha1, b"abc")), b"a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(of(T::HexEncode, &of(T::Md5, b"abc")), b"900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn names_are_known_in_any_case_and_unknown_ones_are_told() {
        assert_eq!("URLDECODEUNI".parse(), Ok(Transform::UrlDecodeUni));
        assert_eq!("normalisePath".parse(), Ok(Transform::NormalizePath));
        assert!("parityEven7bit".parse::<Transform>().is_err());
    }

    proptest! {
        #[test]
        fn every_transformation_takes_any_bytes_and_its_result_is_bounded(
            raw in vec(any::<u8>(), 0..200),
            marked in vec(prop::sample::select(b"\\%&#;u0x1aF/*.-<!> \n\0=".to_vec()), 0..200),
        ) {
            for input in [&raw, &marked] {
                for transform in Transform::ALL {
                    let out = of(*transform, input);
                    prop_assert!(out.len() <= input.len().saturating_mul(3).max(20), "{}", transform.name());
                }
            }
        }
    }
}
