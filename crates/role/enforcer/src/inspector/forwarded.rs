//! Who asks through proxies: what they have written into `X-Forwarded-For`, request by request.

use std::collections::HashMap;

use nv_dpi::event::SessionId;

/// Longest list of one request; what is before is what anybody could have written.
const MAX_LIST_BYTES: usize = 1024;
/// Most connections of which the last list is remembered.
const MAX_SESSIONS: usize = 16_384;

/// The last list of each connection. A request may have the field several times, which is one list (RFC 9110 §5.3).
#[derive(Debug, Default)]
pub(super) struct Lists {
    of: HashMap<SessionId, (u32, String)>,
}

impl Lists {
    /// Takes a field of a request and gives the whole list so far.
    pub(super) fn take(&mut self, session: SessionId, request: u32, raw: &[u8]) -> Option<&str> {
        let field = std::str::from_utf8(raw).ok()?;
        if self.of.len() >= MAX_SESSIONS && !self.of.contains_key(&session) {
            return None;
        }
        let (last, list) = self.of.entry(session).or_default();
        if *last != request {
            (*last, *list) = (request, String::new());
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(field);
        let over = list.len().saturating_sub(MAX_LIST_BYTES);
        let cut = (over..=list.len()).find(|at| list.is_char_boundary(*at)).unwrap_or(0);
        list.drain(..cut);
        Some(list)
    }

    /// A connection is over.
    pub(super) fn over(&mut self, session: SessionId) {
        self.of.remove(&session);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_one_request_are_one_list_and_the_next_request_begins_anew() {
        let mut lists = Lists::default();
        let mut take =
            |request, raw: &str| lists.take(SessionId(1), request, raw.as_bytes()).unwrap().to_owned();
        assert_eq!(take(1, "203.0.113.7"), "203.0.113.7");
        assert_eq!(take(1, "198.51.100.9"), "203.0.113.7,198.51.100.9");
        assert_eq!(take(2, "192.0.2.1"), "192.0.2.1");
        assert_eq!(take(2, &"x".repeat(2000)).len(), MAX_LIST_BYTES);
        assert!(lists.take(SessionId(1), 3, b"\xff").is_none());
    }
}
