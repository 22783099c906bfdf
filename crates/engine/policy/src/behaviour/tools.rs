//! Programs whose use in a container is telling in itself, by the names they are usually called by.

use nv_model::behaviour::Behaviour;
use nv_model::verdict::Verdict;

use super::{Exec, Finding};

const SCANNERS: &[&str] =
    &["nmap", "nping", "zmap", "masscan", "rustscan", "fscan", "unicornscan", "hping3", "arp-scan"];
const CARRIERS: &[&str] = &[
    "nc",
    "ncat",
    "netcat",
    "nc.traditional",
    "nc.openbsd",
    "cryptcat",
    "pwncat",
    "socat",
    "socat1",
    "telnet",
];
const LOGINS: &[&str] =
    &["ssh", "sshd", "sshd-session", "scp", "sftp", "sftp-server", "dropbear", "dbclient", "rsh", "rlogin"];
const TUNNELS: &[&str] = &[
    "iodine",
    "iodined",
    "dnscat",
    "dnscat2",
    "dns2tcp",
    "dns2tcpc",
    "dns2tcpd",
    "ptunnel",
    "ptunnel-ng",
    "icmptunnel",
    "chisel",
    "ngrok",
    "frpc",
    "gost",
    "ligolo-agent",
];
/// Programs that are many, told apart by the name that they are called by or by their first argument.
const MANY_IN_ONE: &[&str] = &["busybox", "toybox", "coreutils"];
/// Options of ssh that take a value (ssh(1)).
const SSH_VALUES: &str = "BbcDEeFIiJLlmOoPpQRSWw";

/// What a program may be called.
pub(super) struct Names<'a> {
    /// The last part of its path.
    own: &'a str,
    /// By what else it was called.
    others: [&'a str; 3],
}

fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

impl<'a> Names<'a> {
    pub(super) fn of(exec: &Exec<'a>) -> Self {
        let mut words = exec.command.split(' ');
        // A login shell's name begins with '-'.
        let zeroth = last(words.next().unwrap_or_default()).trim_start_matches('-');
        let first = words.next().unwrap_or_default();
        let own = last(exec.path);
        let many = MANY_IN_ONE.contains(&own);
        // `busybox nc`, where the first argument is a program; `nc` by a link has its own arguments.
        let applet = if many && MANY_IN_ONE.contains(&zeroth) { first } else { "" };
        Self { own, others: [last(exec.called), zeroth, applet] }
    }

    /// The name by which it is one of these.
    pub(super) fn one_of(&self, known: &[&str]) -> Option<&'a str> {
        std::iter::once(self.own).chain(self.others).find(|name| known.contains(name))
    }
}

/// The finding of a tool by its name, and of what ssh is told to do.
pub(super) fn named(exec: &Exec<'_>, names: &Names<'_>) -> Option<Finding> {
    if let Some(name) = names.one_of(TUNNELS) {
        return Some(Finding::new(Behaviour::Tunnel, format!("{name} hides traffic in other traffic")));
    }
    let login = names.one_of(LOGINS);
    if login == Some("ssh")
        && let Some(how) = forwards(exec.command)
    {
        return Some(Finding::new(Behaviour::Tunnel, format!("ssh opens a tunnel ({how})")));
    }
    // Where the profile lists the tool itself, its use is intended. A list that has busybox says nothing of its nc.
    let listed = |name: &str| exec.verdict == Verdict::Allow && name == names.own;
    if let Some(name) = names.one_of(SCANNERS).filter(|name| !listed(name)) {
        return Some(Finding::new(Behaviour::NetworkScan, format!("{name} looks around in the network")));
    }
    // On a host people work with these.
    if !exec.container {
        return None;
    }
    if let Some(name) = names.one_of(CARRIERS).filter(|name| !listed(name)) {
        let what = format!("{name} carries any data over the network");
        return Some(Finding::new(Behaviour::NetworkTool, what));
    }
    let name = login.filter(|name| !listed(name))?;
    Some(Finding::new(
        Behaviour::RemoteLogin,
        format!("{name} logs in to another machine or lets in from there"),
    ))
}

/// Whether the options of ssh, up to the destination, ask for a tunnel, and which.
fn forwards(command: &str) -> Option<&'static str> {
    let mut words = command.split(' ').skip(1).filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let options = word.strip_prefix('-')?;
        for (at, option) in options.char_indices() {
            match option {
                'R' => return Some("remote forwarding"),
                'D' => return Some("a proxy"),
                'w' => return Some("a network device"),
                _ => {}
            }
            if !SSH_VALUES.contains(option) {
                continue;
            }
            let rest = options.get(at.saturating_add(option.len_utf8())..).unwrap_or_default();
            let value = if rest.is_empty() { words.next().unwrap_or_default() } else { rest };
            if option == 'o' {
                let value = value.to_ascii_lowercase();
                for (key, how) in [
                    ("remoteforward", "remote forwarding"),
                    ("dynamicforward", "a proxy"),
                    ("tunnel=", "a network device"),
                ] {
                    if value.starts_with(key) {
                        return Some(how);
                    }
                }
            }
            break;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing::{exec, found};
    use super::*;

    fn ran(path: &'static str, called: &'static str, command: &'static str) -> Exec<'static> {
        Exec { path, called, command, ..exec() }
    }

    #[test]
    fn a_tool_is_known_by_its_path_its_link_its_first_word_or_its_applet() {
        for (path, called, command, want) in [
            ("/usr/bin/nmap", "/usr/bin/nmap", "nmap -sS host", Some(Behaviour::NetworkScan)),
            ("/bin/nc.openbsd", "/bin/nc", "nc host 80", Some(Behaviour::NetworkTool)),
            ("/bin/busybox", "/bin/nc", "nc host 80", Some(Behaviour::NetworkTool)),
            ("/bin/busybox", "/bin/busybox", "busybox nc host 80", Some(Behaviour::NetworkTool)),
            ("/bin/busybox", "/bin/echo", "echo nc", None),
            ("/bin/busybox", "/bin/busybox", "", None),
            ("/usr/sbin/iodine", "", "iodine -f host", Some(Behaviour::Tunnel)),
            ("/usr/bin/scp", "scp", "scp a host:b", Some(Behaviour::RemoteLogin)),
            ("/opt/ncurses", "/opt/ncurses", "ncurses", None),
        ] {
            assert_eq!(found(&ran(path, called, command)).first().copied(), want, "{path} {command}");
        }
    }

    #[test]
    fn a_tool_that_the_profile_lists_is_intended_but_not_every_applet_of_a_listed_busybox() {
        let nc = Exec { verdict: Verdict::Allow, ..ran("/usr/bin/nc", "/usr/bin/nc", "nc host 80") };
        assert_eq!(found(&nc), []);
        let applet = Exec { verdict: Verdict::Allow, ..ran("/bin/busybox", "/bin/nc", "nc host 80") };
        assert_eq!(found(&applet), [Behaviour::NetworkTool]);
        let tunnel = Exec { verdict: Verdict::Allow, ..ran("/bin/iodine", "/bin/iodine", "iodine x") };
        assert_eq!(found(&tunnel), [Behaviour::Tunnel]);
    }

    #[test]
    fn on_a_host_only_scanners_and_tunnels_are_told() {
        for (path, want) in [
            ("/usr/bin/ssh", None),
            ("/usr/bin/nc", None),
            ("/usr/bin/nmap", Some(Behaviour::NetworkScan)),
            ("/usr/sbin/iodined", Some(Behaviour::Tunnel)),
        ] {
            let exec = Exec { container: false, ..ran(path, path, "") };
            assert_eq!(found(&exec).first().copied(), want, "{path}");
        }
    }

    #[test]
    fn ssh_is_a_tunnel_when_its_own_options_say_so() {
        for (command, want) in [
            ("ssh -R 80:localhost:80 host", true),
            ("ssh -fNR80:localhost:80 host", true),
            ("ssh -N -D 1080 host", true),
            ("ssh -p 22 -oRemoteForward=80:a:80 host", true),
            ("ssh -o DynamicForward=1080 host", true),
            ("ssh -i /Run/Dir host", false),
            ("ssh -iR host", false),
            ("ssh host ls -R -D", false),
            ("ssh -L 80:db:5432 host", false),
            ("ssh", false),
        ] {
            let behaviour = found(&ran("/usr/bin/ssh", "/usr/bin/ssh", command));
            let expected = if want { Behaviour::Tunnel } else { Behaviour::RemoteLogin };
            assert_eq!(behaviour, [expected], "{command}");
        }
    }
}
