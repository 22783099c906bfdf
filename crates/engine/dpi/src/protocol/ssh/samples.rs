//! Conversations in SSH.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

pub(crate) fn samples() -> Vec<Sample> {
    vec![(
        "SSH",
        2222,
        flight([
            (Server, b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"),
            (Client, b"SSH-2.0-libssh_0.10\r\n\0\0\x04\x14garbage"),
        ]),
    )]
}

mod tests {
    use super::{Client, Server, flight, samples};
    use crate::event::Field;
    use crate::tests::conversation::talk;
    use crate::threat::Threat;

    #[test]
    fn both_sides_say_what_they_are() {
        let (_, port, flights) = samples().remove(0);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [1003]);
        assert_eq!(told.values(Field::ServerSoftware), ["OpenSSH_9.2p1 Debian-2"]);
        assert_eq!(told.values(Field::ClientSoftware), ["libssh_0.10"]);
        assert_eq!(told.values(Field::Version), ["2.0"]);
    }

    #[test]
    fn only_a_version_that_cannot_speak_the_second_is_weak() {
        for (version, want) in [("1.5", vec![Threat::SshVersion1]), ("1.99", vec![]), ("2.0", vec![])] {
            let server = format!("SSH-{version}-x\r\n");
            let told = talk(22, &flight([(Server, server.as_bytes()), (Client, b"SSH-2.0-y\r\n")]));
            assert_eq!(told.threats, want, "{version}");
        }
    }
}
