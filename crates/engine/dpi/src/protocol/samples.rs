//! A conversation in each protocol, for tests that hold for all of them.

use crate::key::Side;

/// Name, port of the server, flights.
pub(crate) type Sample = (&'static str, u16, Vec<(Side, Vec<u8>)>);

/// Conversations over TCP.
pub(crate) fn streams() -> Vec<Sample> {
    [
        super::http::samples(),
        super::tls::samples::samples(),
        super::dns::samples::samples(),
        super::ssh::samples::samples(),
        super::redis::samples::samples(),
        super::postgresql::samples::samples(),
        super::mysql::samples::samples(),
    ]
    .concat()
}
