//! Messages of DNS.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

/// `www.example.com`, type A.
pub(crate) const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";

/// CNAME `web.example.com`, then 192.0.2.7 for 300 seconds.
pub(crate) const ANSWER: &[u8] =
    b"\x12\x34\x81\x80\0\x01\0\x02\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01\
    \xC0\x0C\0\x05\0\x01\0\0\0\x3C\0\x06\x03web\xC0\x10\
    \xC0\x2D\0\x01\0\x01\0\0\x01\x2C\0\x04\xC0\0\x02\x07";

/// A message behind its length.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

pub(crate) fn samples() -> Vec<Sample> {
    let (question, answer) = (framed(QUESTION), framed(ANSWER));
    vec![("DNS over TCP", 53, flight([(Client, &question), (Server, &answer)]))]
}
