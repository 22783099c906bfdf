//! Which application each connection of the node is, as inspection says.

use std::collections::HashMap;

use nv_model::application::ApplicationId;

use crate::inspector::Connection;

/// Most connections whose application is remembered.
const MAX_CONNECTIONS: usize = 65_536;
/// Sweeps for which an application is remembered that no sweep has asked for: two hours.
const UNASKED: u64 = 3600;
/// Sweeps for which that of a connection that is over is, as its last bytes are told by the next one.
const OVER: u64 = 3;

#[derive(Clone, Copy, Debug)]
struct Known {
    application: ApplicationId,
    /// Sweep at which it is forgotten.
    until: u64,
    /// A sweep has told the connection with it.
    told: bool,
}

/// Applications by connection.
#[derive(Debug, Default)]
pub(crate) struct Applications {
    known: HashMap<Connection, Known>,
    sweep: u64,
    overflow: u64,
}

impl Applications {
    /// The application of a connection is this one, and no other that was known before.
    pub(crate) fn learn(&mut self, connection: Connection, application: ApplicationId) {
        let key = connection.sorted();
        if self.known.len() >= MAX_CONNECTIONS && !self.known.contains_key(&key) {
            self.overflow = self.overflow.saturating_add(1);
            return;
        }
        let until = self.sweep.saturating_add(UNASKED);
        self.known.insert(key, Known { application, until, told: false });
    }
    /// A connection is over.
    pub(crate) fn over(&mut self, connection: Connection) {
        let until = self.sweep.saturating_add(OVER);
        if let Some(known) = self.known.get_mut(&connection.sorted()) {
            known.until = until;
        }
    }
    /// The application of a connection, if it is known.
    pub(crate) fn get(&self, connection: Connection) -> Option<ApplicationId> {
        self.known.get(&connection.sorted()).map(|known| known.application)
    }
    /// The same, for a sweep that tells it.
    pub(crate) fn tell(&mut self, connection: Connection) -> Option<ApplicationId> {
        let later = self.sweep.saturating_add(UNASKED);
        let known = self.known.get_mut(&connection.sorted())?;
        known.told = true;
        // What is over stays so.
        if known.until > self.sweep.saturating_add(OVER) {
            known.until = later;
        }
        Some(known.application)
    }
    /// Ends a sweep. Whether there are connections that became known after the last sweep that told them.
    pub(crate) fn swept(&mut self) -> bool {
        self.sweep = self.sweep.saturating_add(1);
        let now = self.sweep;
        self.known.retain(|_, known| known.until > now);
        self.known.values().any(|known| !known.told)
    }
    /// Whether the application of a connection is known, and no sweep has told it.
    pub(crate) fn is_untold(&self, connection: Connection) -> bool {
        self.known.get(&connection.sorted()).is_some_and(|known| !known.told)
    }
    /// Applications that found no room.
    pub(crate) fn overflow(&self) -> u64 {
        self.overflow
    }
    /// How many are known.
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use nv_model::port::Protocol;

    use super::*;

    const HTTP: ApplicationId = ApplicationId(1001);

    fn connection(client_port: u16) -> Connection {
        Connection::ends(Protocol::Tcp, ([10, 0, 0, 2].into(), client_port), ([10, 0, 0, 1].into(), 80))
    }

    #[test]
    fn an_application_is_known_whichever_end_is_taken_for_the_client() {
        let mut applications = Applications::default();
        applications.learn(connection(1), HTTP);
        let Connection { protocol, client, server } = connection(1);
        assert_eq!(applications.get(Connection { protocol, client: server, server: client }), Some(HTTP));
        assert_eq!(applications.get(connection(2)), None);
    }

    #[test]
    fn what_is_over_is_known_until_it_was_told_and_what_is_told_again_stays() {
        let mut applications = Applications::default();
        applications.learn(connection(1), HTTP);
        applications.learn(connection(2), HTTP);
        assert!(applications.is_untold(connection(1)));
        applications.over(connection(1));
        assert_eq!(applications.tell(connection(1)), Some(HTTP));
        assert!(applications.swept(), "the other one is not told yet");
        assert_eq!(applications.tell(connection(2)), Some(HTTP));
        assert!(!applications.swept());
        for _ in 0..OVER {
            applications.swept();
        }
        assert_eq!((applications.get(connection(1)), applications.get(connection(2))), (None, Some(HTTP)));
        for _ in 0..UNASKED * 2 {
            applications.tell(connection(2));
            applications.swept();
        }
        assert_eq!(applications.get(connection(2)), Some(HTTP));
        for _ in 0..UNASKED {
            applications.swept();
        }
        assert_eq!(applications.len(), 0);
    }
}
