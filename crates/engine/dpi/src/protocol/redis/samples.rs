//! Conversations in RESP.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

pub(crate) fn samples() -> Vec<Sample> {
    vec![(
        "Redis",
        7000,
        flight([
            (Client, b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\n*1\r\n$4\r\nEVIL\r\n"),
            (Server, b"+OK\r\n+OK\r\n"),
            (Client, b"PING\r\n*1\r\n$4\r\nINFO\r\n"),
            (Server, b"+PONG\r\n$3\r\nabc\r\n"),
        ]),
    )]
}

mod tests {
    use super::samples;
    use crate::event::Field;
    use crate::tests::conversation::talk;

    #[test]
    fn commands_are_named_and_their_arguments_are_not_told() {
        let (_, port, flights) = samples().remove(0);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [2002]);
        assert_eq!(told.values(Field::Command), ["AUTH", "SET", "PING", "INFO"]);
        assert!(!format!("{told:?}").contains("secret"));
        assert_eq!(told.lost, 0);
    }
}
