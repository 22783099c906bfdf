//! What a container asks the kernel for: mounts, namespaces, modules, BPF programs, the rights of root, another process.

use nv_model::behaviour::{Behaviour, Deed, DeedKind};

use super::Finding;

/// `CLONE_NEW…` of namespaces (Linux, uapi/linux/sched.h).
const NAMESPACES: [(u64, &str); 8] = [
    (0x0002_0000, "mount"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
    (0x0800_0000, "ipc"),
    (0x0400_0000, "uts"),
    (0x0200_0000, "cgroup"),
    (0x0000_0080, "time"),
];
/// `MS_BIND` and `MS_MOVE` of `mount(2)`.
const BIND: u64 = 0x1000;
const MOVE: u64 = 0x2000;
/// `MS_UNBINDABLE`, `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`.
const PROPAGATION: u64 = 0xF << 17;

/// What it is a sign of.
#[must_use]
pub fn of_deed(deed: &Deed) -> Finding {
    let (behaviour, asked) = match deed.kind {
        DeedKind::Mount => (Behaviour::Mount, mount(deed)),
        DeedKind::Remount => (Behaviour::Mount, format!("mounts {} another way", quoted(&deed.target))),
        DeedKind::MoveMount => {
            let from =
                if deed.from.is_empty() { String::new() } else { format!(" of {}", quoted(&deed.from)) };
            (Behaviour::Mount, format!("puts a mount{from} at {}", quoted(&deed.target)))
        }
        DeedKind::PivotRoot => {
            (Behaviour::Mount, format!("makes {} its root file system", quoted(&deed.target)))
        }
        DeedKind::ModuleLoad => (Behaviour::ModuleLoad, "loads a kernel module".to_owned()),
        DeedKind::BpfLoad => {
            let name = if deed.from.is_empty() { String::new() } else { format!(" {}", quoted(&deed.from)) };
            (Behaviour::BpfLoad, format!("loads the BPF program{name} into the kernel"))
        }
        DeedKind::JoinNamespace => (
            Behaviour::NamespaceChange,
            format!("enters namespaces that are there{}", namespaces(deed.argument)),
        ),
        DeedKind::NewNamespace => {
            (Behaviour::NamespaceChange, format!("makes namespaces of its own{}", namespaces(deed.argument)))
        }
        DeedKind::BecomeRoot => (Behaviour::Escalation, "becomes root without a set-id program".to_owned()),
        DeedKind::Ptrace => (Behaviour::Ptrace, ptrace(deed)),
        DeedKind::LeaveCgroup => {
            (Behaviour::CgroupEscape, format!("leaves its container for the cgroup {}", quoted(&deed.target)))
        }
    };
    let end = if deed.refused { ", and is not allowed to by the kernel" } else { "" };
    Finding::new(behaviour, format!("a process of the container {asked}{end}"))
}

fn mount(deed: &Deed) -> String {
    let target = if deed.target.is_empty() { String::new() } else { format!(" on {}", quoted(&deed.target)) };
    if deed.argument & PROPAGATION != 0 {
        return format!("changes who shares the mounts{target}");
    }
    if deed.argument & MOVE != 0 {
        return format!("moves the mount {}{target}", quoted(&deed.from));
    }
    if deed.argument & BIND != 0 || deed.file_system.is_empty() {
        return format!("mounts {}{target}", quoted(&deed.from));
    }
    let from = match deed.from.as_str() {
        "" => String::new(),
        from if from == deed.file_system => String::new(),
        from => format!(" of {}", quoted(from)),
    };
    format!("mounts a file system {}{from}{target}", quoted(&deed.file_system))
}

fn ptrace(deed: &Deed) -> String {
    match &deed.other {
        Some((pid, name)) => format!("takes hold of process {pid} ({})", quoted(name)),
        None => "takes hold of another process".to_owned(),
    }
}

/// The words of namespaces, in a fixed order.
fn namespaces(flags: u64) -> String {
    let words: Vec<&str> =
        NAMESPACES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, word)| *word).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

/// Words of a process of the container, which may say anything.
fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deed(kind: DeedKind) -> Deed {
        Deed {
            kind,
            refused: false,
            argument: 0,
            other: None,
            file_system: String::new(),
            from: String::new(),
            target: String::new(),
        }
    }

    #[test]
    fn each_deed_is_the_behaviour_that_it_is_a_sign_of_and_says_what_was_asked_for() {
        let root = Deed { target: "/mnt".to_owned(), from: "/dev/sda1".to_owned(), ..deed(DeedKind::Mount) };
        let both = Deed { argument: 0x0002_0000 | 0x1000_0000, ..deed(DeedKind::NewNamespace) };
        let other = Deed { other: Some((7, "sshd".to_owned())), ..deed(DeedKind::Ptrace) };
        for (deed, behaviour, says) in [
            (
                Deed { file_system: "ext4".to_owned(), ..root.clone() },
                Behaviour::Mount,
                r#"a file system "ext4" of "/dev/sda1" on "/mnt""#,
            ),
            (Deed { argument: BIND, ..root.clone() }, Behaviour::Mount, r#"mounts "/dev/sda1" on "/mnt""#),
            (Deed { argument: MOVE, ..root }, Behaviour::Mount, "moves the mount"),
            (both, Behaviour::NamespaceChange, "of its own: mount, user"),
            (other, Behaviour::Ptrace, r#"process 7 ("sshd")"#),
            (deed(DeedKind::ModuleLoad), Behaviour::ModuleLoad, "a kernel module"),
            (deed(DeedKind::BpfLoad), Behaviour::BpfLoad, "BPF"),
            (deed(DeedKind::BecomeRoot), Behaviour::Escalation, "root"),
        ] {
            let found = of_deed(&deed);
            assert_eq!(found.behaviour, behaviour, "{deed:?}");
            assert!(found.message.contains(says), "{}", found.message);
        }
    }

    #[test]
    fn what_the_kernel_refused_is_told_as_such() {
        let refused = Deed { refused: true, ..deed(DeedKind::ModuleLoad) };
        assert!(of_deed(&refused).message.ends_with("not allowed to by the kernel"));
    }

    proptest! {
        #[test]
        fn no_words_of_a_process_break_out_of_their_quotes(from in ".{0,40}", target in ".{0,40}", argument: u64, kind in 0_usize..11) {
            let kind = DeedKind::ALL[kind];
            let found = of_deed(&Deed { from, target, argument, ..deed(kind) });
            prop_assert!(!found.message.chars().any(char::is_control));
        }
    }
}
