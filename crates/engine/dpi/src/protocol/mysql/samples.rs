//! Conversations of MySQL.

use crate::key::Side::{Client, Server};
use crate::protocol::samples::Sample;
use crate::tests::conversation::flight;

fn packet(sequence: u8, body: &[u8]) -> Vec<u8> {
    let [l0, l1, l2, _] = u32::try_from(body.len()).unwrap().to_le_bytes();
    [&[l0, l1, l2, sequence], body].concat()
}

fn greeting() -> Vec<u8> {
    packet(0, &[b"\x0A8.0.36-test\0".as_slice(), &[7; 50]].concat())
}

fn login(capabilities: u32) -> Vec<u8> {
    let fixed = [&capabilities.to_le_bytes()[..], &[0; 28]].concat();
    packet(1, &[fixed.as_slice(), b"bob\0", &[3, 1, 2, 3], b"shop\0"].concat())
}

pub(crate) fn samples() -> Vec<Sample> {
    let ssl = packet(1, &[&0x8A08_u32.to_le_bytes()[..], &[0; 28]].concat());
    vec![
        (
            "MySQL",
            3306,
            flight([
                (Server, &greeting()),
                (Client, &login(0x8208)),
                (Server, &packet(2, &[0, 0, 0, 2, 0, 0, 0])),
                (Client, &packet(0, b"\x03select * from orders")),
                (Server, &packet(1, b"\xFF\x15\x04#28000Access denied")),
                (Client, &packet(0, &[b"\x03select '".as_slice(), &[b'y'; 6000], b"'"].concat())),
            ]),
        ),
        (
            "MySQL with TLS",
            3307,
            flight([
                (Server, &greeting()),
                (Client, &[ssl, crate::protocol::tls::samples::client_hello()].concat()),
                (Server, &crate::protocol::tls::samples::server_hello()),
            ]),
        ),
    ]
}

mod tests {
    use super::samples;
    use crate::event::Field;
    use crate::tests::conversation::talk;
    use crate::threat::Threat;

    #[test]
    fn login_statements_and_a_refusal_are_read() {
        let (_, port, flights) = samples().remove(0);
        let told = talk(port, &flights);
        assert_eq!(told.applications, [2001]);
        assert_eq!(told.values(Field::ServerSoftware), ["8.0.36-test"]);
        assert_eq!((told.values(Field::User), told.values(Field::Database)), (vec!["bob"], vec!["shop"]));
        let statements = told.values(Field::Statement);
        assert_eq!((statements[0], statements[1].len()), ("select * from orders", 6009));
        assert_eq!(told.values(Field::Error), ["1045"]);
        assert_eq!(told.threats, [Threat::MySqlAccessDeny]);
    }

    #[test]
    fn a_connection_that_turns_to_tls_stays_mysql_and_names_the_server() {
        let (_, port, flights) = samples().remove(1);
        let told = talk(port, &flights);
        assert_eq!(
            (told.applications.as_slice(), told.values(Field::Sni)),
            ([2001].as_slice(), vec!["db.example"])
        );
    }
}
