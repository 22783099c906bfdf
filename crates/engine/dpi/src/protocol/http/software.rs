//! Server software by what it says of itself.

pub(crate) const WORDPRESS: u32 = 2009;

/// The application that a Server header names.
pub(crate) fn of_server(value: &[u8]) -> Option<u32> {
    let word = value.split(|byte| matches!(byte, b'/' | b' ' | b'(')).next()?;
    let is = |name: &[u8]| word.eq_ignore_ascii_case(name);
    match word {
        _ if is(b"nginx") => Some(2022),
        _ if is(b"apache") => Some(2021),
        _ if is(b"jetty") => Some(2023),
        _ if is(b"couchdb") => Some(2011),
        _ if is(b"couchbase") => Some(2008),
        _ => None,
    }
}

/// The application whose servers alone send this header.
pub(crate) fn of_header(name: &[u8]) -> Option<u32> {
    if name.eq_ignore_ascii_case(b"x-etcd-cluster-id") {
        Some(2019)
    } else if name.eq_ignore_ascii_case(b"x-elastic-product") {
        Some(2012)
    } else if name.eq_ignore_ascii_case(b"x-consul-index") {
        Some(2017)
    } else {
        None
    }
}
