//! What is read from handshakes, and what is told as an attack.

use super::samples::{client_hello, message, record, samples, server_hello};
use crate::event::Field;
use crate::key::Side::{Client, Server};
use crate::tests::conversation::{flight, talk};
use crate::threat::Threat;

#[test]
fn a_handshake_names_server_protocols_version_and_certificate() {
    let (_, port, flights) = samples().remove(0);
    let told = talk(port, &flights);
    assert_eq!(told.applications, [1002]);
    for (field, want) in [
        (Field::Sni, vec!["db.example"]),
        (Field::AlpnOffered, vec!["h2", "http/1.1"]),
        (Field::Alpn, vec!["h2"]),
        (Field::Version, vec!["TLS 1.2"]),
        (Field::Cipher, vec!["49199"]),
        (Field::Issuer, vec!["Test CA"]),
        (Field::Subject, vec!["db.example"]),
    ] {
        assert_eq!(told.values(field), want, "{field:?}");
    }
    assert_eq!((told.threats.len(), told.lost), (0, 0));
}

#[test]
fn fingerprints_leave_out_grease() {
    let told = talk(443, &flight([(Client, &client_hello())]));
    // MD5 of "771,4865-49199,0-10-11-16-13-43,29-23,0".
    assert_eq!(told.values(Field::Ja3), ["45375bffc36d1158dac85b42a8f8674e"]);
    // SHA-256 of "1301,c02f" and of "000a,000b,000d,002b_0403,0804".
    assert_eq!(told.values(Field::Ja4), ["t13d0206h2_c1929292aa6b_fb71836bce29"]);
}

#[test]
fn a_hello_that_the_server_asked_for_again_is_read() {
    let retry = b"\xCF\x21\xAD\x74\xE5\x9A\x61\x11\xBE\x1D\x8C\x02\x1E\x65\xB8\x91\xC2\xA2\x11\x16\x7A\xBB\x8C\x5E\x07\x9E\x09\xE2\xC8\xA8\x33\x9C";
    for (random, names) in [(retry, vec!["db.example", "db.example"]), (&[9; 32], vec!["db.example"])] {
        let body = [&[3, 3][..], random, &[0], b"\x13\x01\0\0\x06\0\x2B\0\x02\x03\x04"].concat();
        let change = record(20, [3, 3], &[1]);
        let answer = [record(22, [3, 3], &message(2, &body)), change.clone()].concat();
        let again = [change, client_hello()].concat();
        let told = talk(443, &flight([(Client, &client_hello()), (Server, &answer), (Client, &again)]));
        assert_eq!(told.values(Field::Sni), names);
    }
}

#[test]
fn weak_versions_are_told_when_the_server_takes_them() {
    for (version, want) in [
        (0x0300_u16, vec![Threat::SslVersion2or3]),
        (0x0301, vec![Threat::SslTls10]),
        (0x0302, vec![Threat::SslTls11]),
        (0x0303, vec![]),
    ] {
        let body = [&version.to_be_bytes()[..], &[9; 32], &[0], b"\xC0\x2F\0"].concat();
        let answer = record(22, version.to_be_bytes(), &message(2, &body));
        let told = talk(443, &flight([(Client, &client_hello()), (Server, &answer)]));
        assert_eq!(told.threats, want, "{version:#06x}");
    }
}

#[test]
fn a_heartbeat_that_claims_more_than_it_brings_is_told_in_clear_and_encrypted() {
    let cipher = record(20, [3, 2], &[1]);
    let beat = |length: usize| record(24, [3, 2], &vec![0xCC; length]);
    let clear = |claimed: u8, payload: usize| {
        record(24, [3, 2], &[&[1, 0, claimed], vec![b'x'; payload].as_slice()].concat())
    };
    for (name, client, server, want) in [
        ("honest", clear(4, 20), Vec::new(), 0),
        ("lying", clear(200, 20), Vec::new(), 1),
        ("encrypted, honest", [cipher.clone(), beat(60)].concat(), [cipher.clone(), beat(60)].concat(), 0),
        (
            "encrypted, answered with memory",
            [cipher.clone(), beat(60)].concat(),
            [cipher, beat(16_000)].concat(),
            1,
        ),
    ] {
        let told = talk(
            443,
            &flight([
                (Client, &client_hello()),
                (Server, &server_hello()),
                (Client, &client),
                (Server, &[server, record(21, [3, 2], &[1, 0])].concat()),
            ]),
        );
        assert_eq!(told.threats, vec![Threat::SslHeartbleed; want], "{name}");
    }
}

#[test]
fn a_hello_of_ssl_2_is_read_and_lengths_beyond_its_record_are_told() {
    let hello =
        |ciphers: u8| [&[0x80, 0x2E, 1, 0, 2, 0, ciphers, 0, 0, 0, 16], vec![1; 37].as_slice()].concat();
    for (ciphers, want) in
        [(21, vec![Threat::SslVersion2or3]), (200, vec![Threat::SslCipherOverflow, Threat::SslVersion2or3])]
    {
        let told = talk(443, &flight([(Client, &hello(ciphers))]));
        assert_eq!((told.applications.as_slice(), told.threats), ([1002].as_slice(), want), "{ciphers}");
    }
}
