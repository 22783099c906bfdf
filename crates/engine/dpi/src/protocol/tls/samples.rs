//! Conversations in TLS.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

pub(crate) fn record(kind: u8, version: [u8; 2], body: &[u8]) -> Vec<u8> {
    [&[kind, version[0], version[1]], &u16::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat()
}

pub(crate) fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, l0, l1, l2], body].concat()
}

fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes(), &u16::try_from(data.len()).unwrap().to_be_bytes()[..], data].concat()
}

fn hello(version: u16, ciphers: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = extensions.concat();
    [
        &version.to_be_bytes()[..],
        &[9; 32],
        &[0],
        ciphers,
        &u16::try_from(extensions.len()).unwrap().to_be_bytes(),
        &extensions,
    ]
    .concat()
}

/// Offers TLS 1.2 and 1.3, asks for db.example, speaks h2 and http/1.1; with GREASE.
pub(crate) fn client_hello() -> Vec<u8> {
    let ciphers = b"\0\x06\x0A\x0A\x13\x01\xC0\x2F\x01\0";
    let body = hello(
        0x0303,
        ciphers,
        &[
            extension(0x2A2A, b""),
            extension(0, b"\0\x0D\0\0\x0Adb.example"),
            extension(10, b"\0\x04\0\x1D\0\x17"),
            extension(11, b"\x01\0"),
            extension(16, b"\0\x0C\x02h2\x08http/1.1"),
            extension(13, b"\0\x04\x04\x03\x08\x04"),
            extension(43, b"\x06\x1A\x1A\x03\x04\x03\x03"),
        ],
    );
    record(22, [3, 1], &message(1, &body))
}

/// TLS 1.2, ECDHE-RSA-AES128-GCM, h2.
pub(crate) fn server_hello() -> Vec<u8> {
    let body = hello(0x0303, b"\xC0\x2F\0", &[extension(16, b"\0\x03\x02h2")]);
    record(22, [3, 3], &message(2, &body))
}

/// A certificate from `Test CA` for `db.example`, as far as names go, in three records.
pub(crate) fn certificate() -> Vec<u8> {
    let der = |tag: u8, content: &[u8]| {
        [&[tag, 0x82], &u16::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
    };
    let name =
        |text: &[u8]| der(0x30, &der(0x31, &der(0x30, &[der(6, &[0x55, 4, 3]), der(12, text)].concat())));
    let signed = [
        der(0xA0, &[2, 1, 2]),
        der(2, &[1]),
        der(0x30, b""),
        name(b"Test CA"),
        der(0x30, b""),
        name(b"db.example"),
        der(0x30, &[0; 700]),
    ]
    .concat();
    let certificate = der(0x30, &der(0x30, &signed));
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_be_bytes()[1..].to_vec();
    let list = [length(certificate.len()), certificate].concat();
    let whole = message(11, &[length(list.len()), list].concat());
    whole.chunks(300).map(|part| record(22, [3, 3], part)).collect::<Vec<_>>().concat()
}

pub(crate) fn samples() -> Vec<Sample> {
    let server = [server_hello(), certificate(), record(22, [3, 3], &message(14, b""))].concat();
    let finished = [record(20, [3, 3], &[1]), record(22, [3, 3], &[0xEE; 40])].concat();
    let bleeding = [server_hello(), record(24, [3, 2], &[1, 0x40, 0, 1])].concat();
    vec![
        (
            "TLS",
            8443,
            flight([
                (Client, &client_hello()),
                (Server, &server),
                (Client, &finished),
                (Server, &finished),
                (Client, &record(23, [3, 3], &[0xAA; 500])),
                (Server, &record(23, [3, 3], &[0xBB; 9000])),
            ]),
        ),
        ("Heartbleed", 443, flight([(Client, &client_hello()), (Server, &bleeding)])),
    ]
}
