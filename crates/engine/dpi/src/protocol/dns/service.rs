//! Records that bind a service to its servers (RFC 9460): SVCB and HTTPS, which may say addresses too.

use std::net::IpAddr;

use super::name::{self, Name};
use crate::protocol::read::Cursor;

/// Keys of parameters with addresses (RFC 9460 §14.3.2).
const IPV4_HINT: u16 = 4;
const IPV6_HINT: u16 = 6;
/// Parameters of a record that are looked at, and addresses of one that are told.
const MAX_PARAMETERS: usize = 16;
const MAX_ADDRESSES: usize = 8;

/// The addresses that a record hints at; its data lies at `data_at` of the message.
pub(super) fn addresses(message: &[u8], data_at: usize, data: &[u8]) -> impl Iterator<Item = IpAddr> {
    let mut found = [None; MAX_ADDRESSES];
    let mut places = found.iter_mut();
    let target_at = data_at.saturating_add(2);
    let length = match data.get(2..).map(name::length) {
        Some(name::Length::Whole) => Name::default().read(message, target_at),
        _ => None,
    };
    let rest = length.and_then(|length| data.get(length.saturating_add(2)..)).unwrap_or_default();
    let mut cursor = Cursor(rest);
    for _ in 0..MAX_PARAMETERS {
        let Some((key, value)) = cursor.u16().zip(cursor.long()) else { break };
        let bytes = match key {
            IPV4_HINT => 4,
            IPV6_HINT => 16,
            _ => continue,
        };
        for one in value.chunks_exact(bytes) {
            let address = match (one.first_chunk::<4>(), one.first_chunk::<16>()) {
                (_, Some(six)) => IpAddr::from(*six),
                (Some(four), None) => IpAddr::from(*four),
                (None, None) => continue,
            };
            if let Some(place) = places.next() {
                *place = Some(address);
            }
        }
    }
    found.into_iter().flatten()
}
