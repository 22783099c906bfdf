//! Conversations of PostgreSQL.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

fn startup() -> Vec<u8> {
    let parameters = b"\0\x03\0\0user\0alice\0database\0shop\0\0";
    [&u32::try_from(parameters.len() + 4).unwrap().to_be_bytes()[..], parameters].concat()
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], body].concat()
}

pub(crate) fn samples() -> Vec<Sample> {
    let login =
        [message(b'R', &[0, 0, 0, 0]), message(b'S', b"server_version\x0015.4\0"), message(b'Z', b"I")]
            .concat();
    let long = [b"select 1 -- ".as_slice(), &[b'x'; 3000], b"\0"].concat();
    let refused = [message(b'E', b"SERROR\0C42P01\0Mno such table\0\0"), message(b'Z', b"I")].concat();
    vec![
        (
            "PostgreSQL",
            5432,
            flight([
                (Client, &startup()),
                (Server, &login),
                (
                    Client,
                    &[
                        message(b'Q', b"select * from t\0"),
                        message(b'P', b"s1\0insert into u values ($1)\0\0\0"),
                    ]
                    .concat(),
                ),
                (Server, &refused),
                (Client, &[message(b'Q', &long), message(b'X', b"")].concat()),
            ]),
        ),
        (
            "PostgreSQL with TLS",
            6000,
            flight([
                (Client, &[0, 0, 0, 8, 4, 210, 22, 47]),
                (Server, b"S"),
                (Client, &crate::protocol::tls::samples::client_hello()),
                (Server, &crate::protocol::tls::samples::server_hello()),
            ]),
        ),
        (
            "PostgreSQL without TLS",
            5432,
            flight([
                (Client, &[0, 0, 0, 8, 4, 210, 22, 47]),
                (Server, b"N"),
                (Client, &startup()),
                (Server, &login),
            ]),
        ),
    ]
}

mod tests {
    use super::samples;
    use crate::event::Field;
    use crate::tests::conversation::talk;

    #[test]
    fn login_statements_and_errors_are_read() {
        let (_, port, flights) = samples().remove(0);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [2006]);
        assert_eq!((told.values(Field::User), told.values(Field::Database)), (vec!["alice"], vec!["shop"]));
        assert_eq!(told.values(Field::ServerSoftware), ["15.4"]);
        let statements = told.values(Field::Statement);
        assert_eq!(statements[..2], ["select * from t", "insert into u values ($1)"]);
        assert_eq!(statements[2].len(), 3012);
        assert_eq!(told.values(Field::Error), ["42P01"]);
        assert_eq!(told.lost, 0);
    }

    #[test]
    fn a_connection_that_turns_to_tls_stays_postgresql_and_names_the_server() {
        let (_, port, flights) = samples().remove(1);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [2006]);
        assert_eq!(told.values(Field::Sni), ["db.example"]);
        assert_eq!(told.values(Field::Version), ["TLS 1.2"]);
    }

    #[test]
    fn a_server_without_tls_is_read_in_clear() {
        let (_, port, flights) = samples().remove(2);
        assert_eq!(talk(port, &flights).values(Field::User), ["alice"]);
    }
}
