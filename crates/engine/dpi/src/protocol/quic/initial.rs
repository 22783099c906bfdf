//! Initial packets of a client (RFC 9001 §5): their keys follow from the connection's identifier, so that whoever sees them
//! can read them. The tag is not checked: a forged packet gives bytes that are no hello.

use aes::Aes128;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use sha2::{Digest as _, Sha256};

use crate::protocol::read::Cursor;

/// Longest packet that is decrypted, in bytes.
const MAX_BYTES: usize = 2048;
/// Bytes of the tag at a packet's end.
const TAG_BYTES: usize = 16;

/// What differs from version to version.
struct Version {
    salt: [u8; 20],
    /// Bits 4 and 5 of the first byte.
    initial: u8,
    labels: [&'static [u8]; 3],
}

const LABELS: [&[u8]; 3] = [b"quic key", b"quic iv", b"quic hp"];

/// Versions 1 and 2 (RFC 9001 §5.2, RFC 9369 §3.3), and drafts from 23 on.
fn version(number: u32) -> Option<Version> {
    let salt = match number {
        1 => [
            0x38, 0x76, 0x2C, 0xF7, 0xF5, 0x59, 0x34, 0xB3, 0x4D, 0x17, 0x9A, 0xE6, 0xA4, 0xC8, 0x0C, 0xAD,
            0xCC, 0xBB, 0x7F, 0x0A,
        ],
        0x6B33_43CF => [
            0x0D, 0xED, 0xE3, 0xDE, 0xF7, 0x00, 0xA6, 0xDB, 0x81, 0x93, 0x81, 0xBE, 0x6E, 0x26, 0x9D, 0xCB,
            0xF9, 0xBD, 0x2E, 0xD9,
        ],
        0xFF00_001D..=0xFF00_0020 => [
            0xAF, 0xBF, 0xEC, 0x28, 0x99, 0x93, 0xD2, 0x4C, 0x9E, 0x97, 0x86, 0xF1, 0x9C, 0x61, 0x11, 0xE0,
            0x43, 0x90, 0xA8, 0x99,
        ],
        0xFF00_0017..=0xFF00_001C => [
            0xC3, 0xEE, 0xF7, 0x12, 0xC7, 0x2E, 0xBB, 0x5A, 0x11, 0xA7, 0xD2, 0x43, 0x2B, 0xB4, 0x63, 0x65,
            0xBE, 0xF9, 0xF5, 0x02,
        ],
        _ => return None,
    };
    let second = number == 0x6B33_43CF;
    Some(Version {
        salt,
        initial: u8::from(second),
        labels: if second { [b"quicv2 key", b"quicv2 iv", b"quicv2 hp"] } else { LABELS },
    })
}

/// HMAC with SHA-256 (RFC 2104), of a key of at most a block.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut pad = [0_u8; 64];
    for (place, byte) in pad.iter_mut().zip(key) {
        *place = *byte;
    }
    let mut inner = Sha256::new_with_prefix(pad.map(|byte| byte ^ 0x36));
    for part in parts {
        inner.update(part);
    }
    let mut outer = Sha256::new_with_prefix(pad.map(|byte| byte ^ 0x5C));
    outer.update(inner.finalize());
    outer.finalize().into()
}

/// HKDF-Expand-Label without context (RFC 8446 §7.1), of at most 32 bytes.
fn expand<const N: usize>(secret: &[u8; 32], label: &[u8]) -> [u8; N] {
    let length = u16::try_from(N).unwrap_or(0).to_be_bytes();
    let name = u8::try_from(label.len().saturating_add(6)).unwrap_or(0);
    let block = hmac(secret, &[&length, &[name], b"tls13 ", label, &[0], &[1]]);
    let mut out = [0; N];
    for (place, byte) in out.iter_mut().zip(block) {
        *place = byte;
    }
    out
}

/// Keys of a client's Initial packets.
struct Keys {
    key: [u8; 16],
    iv: [u8; 12],
    protection: [u8; 16],
}

fn keys(version: &Version, connection: &[u8]) -> Keys {
    let secret = hmac(&version.salt, &[connection]);
    let client: [u8; 32] = expand(&secret, b"client in");
    let [key, iv, protection] = version.labels;
    Keys { key: expand(&client, key), iv: expand(&client, iv), protection: expand(&client, protection) }
}

fn encrypt(key: &[u8; 16], block: [u8; 16]) -> [u8; 16] {
    let mut block = block.into();
    Aes128::new(&(*key).into()).encrypt_block(&mut block);
    block.into()
}

/// A number of one, two, four or eight bytes (RFC 9000 §16).
pub(super) fn integer(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8()?;
    let mut value = u64::from(first & 0x3F);
    for _ in 1..1_u32 << (first >> 6) {
        value = (value << 8) | u64::from(cursor.u8()?);
    }
    Some(value)
}

/// Decrypts the Initial packet at the beginning of a datagram into `out`; gives its size. `secret_of` is the identifier
/// that the first packet was sent to: the keys are made from it for the whole handshake.
pub(super) fn open(datagram: &[u8], first_connection: Option<&[u8]>, out: &mut Vec<u8>) -> Option<usize> {
    let mut cursor = Cursor(datagram);
    let first = cursor.u8()?;
    let version = version(cursor.u32()?)?;
    if first & 0xC0 != 0xC0 || (first >> 4) & 3 != version.initial {
        return None;
    }
    let connection = cursor.short()?;
    cursor.short()?;
    let token = usize::try_from(integer(&mut cursor)?).ok()?;
    cursor.bytes(token)?;
    let length = usize::try_from(integer(&mut cursor)?).ok()?;
    let header = datagram.len().checked_sub(cursor.0.len())?;
    let protected = cursor.bytes(length)?;
    let keys = keys(&version, first_connection.unwrap_or(connection));
    // Header protection (RFC 9001 §5.4): the sample lies four bytes behind where the number begins.
    let sample = *protected.get(4..)?.first_chunk::<16>()?;
    let [mask, number_mask @ ..] = encrypt(&keys.protection, sample);
    let number_bytes = usize::from((first ^ mask) & 3).saturating_add(1);
    let mut nonce = keys.iv;
    let number = protected.get(..number_bytes)?.iter().zip(number_mask).map(|(byte, mask)| byte ^ mask);
    for (place, byte) in nonce.iter_mut().skip(12_usize.saturating_sub(number_bytes)).zip(number) {
        *place ^= byte;
    }
    let end = length.checked_sub(TAG_BYTES)?.min(MAX_BYTES);
    out.clear();
    out.extend_from_slice(protected.get(number_bytes..end)?);
    // AES-GCM counts blocks from 2 (NIST SP 800-38D §7.1).
    for (block, count) in out.chunks_mut(16).zip(2_u32..) {
        let mut counter = [0; 16];
        for (place, byte) in counter.iter_mut().zip(nonce.into_iter().chain(count.to_be_bytes())) {
            *place = byte;
        }
        for (byte, stream) in block.iter_mut().zip(encrypt(&keys.key, counter)) {
            *byte ^= stream;
        }
    }
    header.checked_add(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_standards_examples() {
        // RFC 9001 §A.1 and RFC 9369 §A.1.
        let connection = [0x83, 0x94, 0xC8, 0xF0, 0x3E, 0x51, 0x57, 0x08];
        let first = keys(&version(1).unwrap(), &connection);
        assert_eq!(first.key, 0x1F36_9613_DD76_D546_7730_EFCB_E3B1_A22D_u128.to_be_bytes());
        assert_eq!(first.iv, [0xFA, 0x04, 0x4B, 0x2F, 0x42, 0xA3, 0xFD, 0x3B, 0x46, 0xFB, 0x25, 0x5C]);
        assert_eq!(first.protection, 0x9F50_449E_04A0_E810_283A_1E99_33AD_EDD2_u128.to_be_bytes());
        let second = keys(&version(0x6B33_43CF).unwrap(), &connection);
        assert_eq!(second.key, 0x8B1A_0BC1_2128_4290_A29E_0971_B5CD_045D_u128.to_be_bytes());
    }

    #[test]
    fn numbers_take_the_bytes_that_their_first_bits_say() {
        // RFC 9000 §A.1.
        for (bytes, want) in [
            (&b"\x25"[..], 37),
            (b"\x7b\xbd", 15_293),
            (b"\x9d\x7f\x3e\x7d", 494_878_333),
            (b"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c", 151_288_809_941_952_652),
        ] {
            assert_eq!(integer(&mut Cursor(bytes)), Some(want));
        }
    }
}
