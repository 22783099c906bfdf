//! What hellos are told by: names, protocols, and the fingerprints JA3, JA3S (MD5 over decimal lists in the order sent)
//! and JA4 (a readable part, then truncated SHA-256 over sorted hexadecimal lists).

use std::io::Write;

use md5::Md5;
use sha2::{Digest, Sha256};

use super::hello::{Hello, MAX_NUMBERS, Numbers, is_grease};
use crate::event::Field;
use crate::protocol::Context;

/// Tells what a client says.
pub(super) fn client(context: &mut Context<'_>, hello: &Hello<'_>, transport: u8) {
    if let Some(name) = hello.server_name {
        context.text(Field::Sni, 0, name);
    }
    for name in hello.alpn() {
        context.text(Field::AlpnOffered, 0, name);
    }
    context.text(Field::Ja3, 0, &ja3(hello));
    context.text(Field::Ja4, 0, &ja4(hello, transport));
}

/// Tells what a server says.
pub(super) fn server(context: &mut Context<'_>, hello: &Hello<'_>) {
    if let Some(name) = hello.alpn().next() {
        context.text(Field::Alpn, 0, name);
    }
    if let Some(cipher) = hello.ciphers.iter().next() {
        context.number(Field::Cipher, 0, u64::from(cipher));
    }
    context.text(Field::Ja3s, 0, &hexadecimal::<32>(&beginning(hello).finalize()));
}

fn write_number(md5: &mut Md5, number: u16) {
    let mut text = [0_u8; 5];
    let mut rest = text.as_mut_slice();
    // Five digits always fit.
    if write!(rest, "{number}").is_ok() {
        let unused = rest.len();
        md5.update(text.get(..5_usize.saturating_sub(unused)).unwrap_or_default());
    }
}

/// Numbers in decimal, joined by hyphens.
fn list(md5: &mut Md5, numbers: impl Iterator<Item = u16>) {
    for (at, number) in numbers.filter(|number| !is_grease(*number)).enumerate() {
        if at > 0 {
            md5.update(b"-");
        }
        write_number(md5, number);
    }
}

/// What JA3 and JA3S begin with, and JA3S is: the version, the ciphers and the extensions.
fn beginning(hello: &Hello<'_>) -> Md5 {
    let mut md5 = Md5::new();
    write_number(&mut md5, hello.legacy_version);
    md5.update(b",");
    list(&mut md5, hello.ciphers.iter());
    md5.update(b",");
    list(&mut md5, hello.extensions().map(|(kind, _)| kind));
    md5
}

fn ja3(hello: &Hello<'_>) -> [u8; 32] {
    let mut md5 = beginning(hello);
    md5.update(b",");
    list(&mut md5, hello.groups.iter());
    md5.update(b",");
    list(&mut md5, hello.point_formats.iter().map(|format| u16::from(*format)));
    hexadecimal(&md5.finalize())
}

/// JA4 of a client that came over `transport` (`t` for TCP, `q` for QUIC).
pub(super) fn ja4(hello: &Hello<'_>, transport: u8) -> [u8; 36] {
    let version: &[u8; 2] = match hello.version() {
        0x0304 => b"13",
        0x0303 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        _ => b"00",
    };
    let ciphers = sorted(hello.ciphers.iter());
    let all = sorted(hello.extensions().map(|(kind, _)| kind));
    // Server name and protocols are in the readable part.
    let extensions = sorted(hello.extensions().map(|(kind, _)| kind).filter(|kind| !matches!(kind, 0 | 16)));
    let mut out = [b'_'; 36];
    let readable = [
        transport,
        version[0],
        version[1],
        if hello.extensions().any(|(kind, _)| kind == 0) { b'd' } else { b'i' },
        tens(ciphers.1),
        ones(ciphers.1),
        tens(all.1),
        ones(all.1),
    ];
    place(&mut out, 0, &readable);
    place(&mut out, 8, &alpn_mark(hello));
    place(&mut out, 11, &digest(&ciphers, None));
    place(&mut out, 24, &digest(&extensions, Some(hello.signatures)));
    out
}

fn place(out: &mut [u8; 36], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at.saturating_add(bytes.len())) {
        place.copy_from_slice(bytes);
    }
}

fn tens(count: usize) -> u8 {
    digit(count.min(99) / 10)
}

fn ones(count: usize) -> u8 {
    digit(count.min(99) % 10)
}

/// A digit of base 16.
fn digit(value: usize) -> u8 {
    b"0123456789abcdef".get(value & 0x0F).copied().unwrap_or(b'0')
}

/// First and last character of the first protocol.
fn alpn_mark(hello: &Hello<'_>) -> [u8; 2] {
    match hello.alpn().next() {
        Some([first, .., last]) | Some([first @ last])
            if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() =>
        {
            [*first, *last]
        }
        Some([first, .., last]) | Some([first @ last]) => {
            [digit(usize::from(first >> 4)), digit(usize::from(last & 0x0F))]
        }
        _ => *b"00",
    }
}

/// Numbers without GREASE, sorted, and how many.
fn sorted(numbers: impl Iterator<Item = u16>) -> ([u16; MAX_NUMBERS], usize) {
    let mut list = [0; MAX_NUMBERS];
    let mut count = 0_usize;
    for (place, number) in list.iter_mut().zip(numbers.filter(|number| !is_grease(*number))) {
        *place = number;
        count = count.saturating_add(1);
    }
    if let Some(used) = list.get_mut(..count) {
        used.sort_unstable();
    }
    (list, count)
}

/// First 12 hexadecimal digits of the SHA-256 of a list, and of the signature algorithms in the order sent.
fn digest((list, count): &([u16; MAX_NUMBERS], usize), signatures: Option<Numbers<'_>>) -> [u8; 12] {
    if *count == 0 {
        return *b"000000000000";
    }
    let mut sha = Sha256::new();
    for (at, number) in list.iter().take(*count).enumerate() {
        if at > 0 {
            sha.update(b",");
        }
        sha.update(hexadecimal::<4>(&number.to_be_bytes()));
    }
    let signatures = signatures.into_iter().flat_map(Numbers::iter).filter(|number| !is_grease(*number));
    for (at, number) in signatures.enumerate() {
        sha.update(if at == 0 { b"_" } else { b"," });
        sha.update(hexadecimal::<4>(&number.to_be_bytes()));
    }
    hexadecimal(&sha.finalize())
}

/// The first `N` hexadecimal digits.
fn hexadecimal<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [b'0'; N];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    for (place, value) in out.iter_mut().zip(digits) {
        *place = digit(usize::from(value));
    }
    out
}
