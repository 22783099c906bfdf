//! Conversations in HTTP/2. Header blocks are from RFC 7541 §C.4, or literals without compression.

use super::PREFACE;
use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[l0, l1, l2, kind, flags], &stream.to_be_bytes()[..], body].concat()
}

/// A header that is not kept in the table.
fn literal(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[0x10][..], &part(name), &part(value)].concat()
}

pub(crate) fn samples() -> Vec<Sample> {
    let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let second = b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf";
    let begin = [PREFACE, &frame(4, 0, 0, b"\0\x03\0\0\0\x64"), &frame(1, 5, 1, first)].concat();
    let padded = [&[3][..], &[0, 0, 0, 0, 9], &second[..4], &[0, 0, 0]].concat();
    let split = [frame(1, 0x28, 3, &padded), frame(9, 4, 3, &second[4..])].concat();
    let answer = [
        frame(4, 0, 0, b""),
        frame(1, 4, 1, &[&[0x88][..], &literal("server", "nginx/1.25")].concat()),
        frame(0, 1, 1, &[b'd'; 3000]),
        frame(1, 5, 3, b"\x8d"),
    ]
    .concat();
    let call = [
        &[0x83, 0x86][..],
        &literal(":path", "/etcdserverpb.KV/Range"),
        &literal("content-type", "application/grpc"),
    ]
    .concat();
    let smuggled = [&[0x83, 0x86, 0x84][..], &literal("x", "a\r\nGET /admin HTTP/1.1")].concat();
    vec![
        ("HTTP/2", 8080, flight([(Client, &begin), (Client, &split), (Server, &answer)])),
        (
            "GRPC",
            2379,
            flight([(Client, &[PREFACE, &frame(1, 4, 1, &call)].concat()), (Server, &frame(4, 0, 0, b""))]),
        ),
        ("HTTP/2 smuggled", 80, flight([(Client, &[PREFACE, &frame(1, 5, 1, &smuggled)].concat())])),
    ]
}

mod tests {
    use super::samples;
    use crate::event::Field;
    use crate::tests::conversation::{Told, talk};
    use crate::threat::Threat;

    fn told(index: usize) -> Told {
        let (_, port, flights) = samples().swap_remove(index);
        talk(port, &flights)
    }

    #[test]
    fn compressed_requests_and_answers_are_read_with_their_stream() {
        let told = told(0);
        assert_eq!(told.applications, [1001]);
        assert_eq!(told.values(Field::Version), ["HTTP/2"]);
        assert_eq!(told.values(Field::Host), ["www.example.com", "www.example.com"]);
        assert_eq!(told.values(Field::Status), ["200", "404"]);
        assert_eq!((told.software.as_slice(), told.lost), ([2022].as_slice(), 0));
        assert!(told.fields.iter().any(|(transaction, field, _)| (*transaction, *field) == (1, Field::Host)));
    }

    #[test]
    fn grpc_is_told_by_its_content_type_and_etcd_by_its_service() {
        let told = told(1);
        assert_eq!(
            (told.applications.as_slice(), told.software.as_slice()),
            ([1001, 2028].as_slice(), [2019].as_slice())
        );
        assert_eq!(told.values(Field::Uri), ["/etcdserverpb.KV/Range"]);
    }

    #[test]
    fn a_header_that_would_be_two_in_http_1_is_smuggling() {
        assert_eq!(told(2).threats, [Threat::HttpRequestSmuggling]);
    }
}
