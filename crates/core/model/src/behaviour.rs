//! Suspicious behaviour: what a program does that attacks are made of.

use serde::{Deserialize, Serialize};

use crate::observation::ProcessObservation;

macro_rules! behaviours {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $attack:literal, $kind:ident;)*) => {
        /// What was done.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Behaviour { $($(#[$doc])* $name,)* }

        impl Behaviour {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }
            /// Id of the technique in MITRE ATT&CK (Enterprise, version 15).
            #[must_use]
            pub const fn attack(self) -> &'static str {
                match self { $(Self::$name => $attack,)* }
            }
            /// Which incident it is.
            #[must_use]
            pub const fn kind(self) -> BehaviourKind {
                match self { $(Self::$name => BehaviourKind::$kind,)* }
            }
        }
    };
}

behaviours! {
    /// A tool to look around in a network (Network Service Discovery).
    NetworkScan = "network_scan", "T1046", Process;
    /// A tool that carries any data over the network (Non-Application Layer Protocol).
    NetworkTool = "network_tool", "T1095", Process;
    /// A login to or from another machine (Remote Services: SSH).
    RemoteLogin = "remote_login", "T1021.004", Process;
    /// A shell whose input or output is a connection (Command and Scripting Interpreter: Unix Shell).
    RemoteShell = "remote_shell", "T1059.004", Process;
    /// Traffic hidden in other traffic (Protocol Tunneling).
    Tunnel = "tunnel", "T1572", Tunnel;
    /// The rights of root by a program with the set-id bit (Abuse Elevation Control Mechanism: Setuid and Setgid).
    SetIdEscalation = "set_id_escalation", "T1548.001", Escalation;
    /// The rights of root without any such program (Exploitation for Privilege Escalation).
    Escalation = "escalation", "T1068", Escalation;
    /// A program that exists in memory only (Reflective Code Loading).
    Fileless = "fileless", "T1620", Process;
    /// A program that came after the image (Ingress Tool Transfer).
    NewExecutable = "new_executable", "T1105", Process;
    /// A program that is another one than before under the same path (Compromise Host Software Binary).
    ChangedExecutable = "changed_executable", "T1554", Process;
    /// Another process is read or steered (Process Injection: Ptrace System Calls).
    Ptrace = "ptrace", "T1055.008", Process;
    /// A file system is mounted from inside of a container (Escape to Host).
    Mount = "mount", "T1611", Process;
    /// A kernel module is loaded (Boot or Logon Autostart Execution: Kernel Modules and Extensions).
    ModuleLoad = "module_load", "T1547.006", Process;
    /// A program is loaded into the kernel (Rootkit).
    BpfLoad = "bpf_load", "T1014", Process;
    /// New or other namespaces are entered (Escape to Host).
    NamespaceChange = "namespace_change", "T1611", Process;
    /// A program of a container in the host's namespaces (Escape to Host).
    NamespaceEscape = "namespace_escape", "T1611", Escalation;
    /// A process of a container in a cgroup outside of it (Escape to Host).
    CgroupEscape = "cgroup_escape", "T1611", Escalation;
}

/// Which incident of the contract a behaviour is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BehaviourKind {
    /// `Container.Suspicious.Process`, `Host.Suspicious.Process`.
    Process,
    /// `Container.Tunnel.Detected`, `Host.Tunnel.Detected`.
    Tunnel,
    /// `Container.Privilege.Escalation`, `Host.Privilege.Escalation`.
    Escalation,
}

/// What standard input or output is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stdio {
    /// Closed, or of no kind that is told apart.
    #[default]
    Unknown,
    /// A terminal.
    Terminal,
    /// Another device, such as `/dev/null`.
    Device,
    /// A file.
    File,
    /// A pipe, with or without a name.
    Pipe,
    /// An IPv4 or IPv6 socket.
    InternetSocket,
    /// A socket of another family.
    OtherSocket,
}

/// What a process of a container asked the kernel for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeedKind {
    /// A mount: of a file system, or of a part of another one.
    Mount,
    /// Another way of a mount that is there.
    Remount,
    /// A mount, or a tree of them, at another place.
    MoveMount,
    /// Another root file system.
    PivotRoot,
    /// A kernel module.
    ModuleLoad,
    /// A BPF program.
    BpfLoad,
    /// Namespaces that are there already.
    JoinNamespace,
    /// Namespaces of its own.
    NewNamespace,
    /// To be root, by a user who is not.
    BecomeRoot,
    /// Another process' memory or course.
    Ptrace,
    /// To be in a cgroup outside of its container, whose id is [`Deed::argument`].
    LeaveCgroup,
}

impl DeedKind {
    /// All of them; the place, counted from 1, is the number by which the kernel side calls it.
    pub const ALL: [Self; 11] = [
        Self::Mount,
        Self::Remount,
        Self::MoveMount,
        Self::PivotRoot,
        Self::ModuleLoad,
        Self::BpfLoad,
        Self::JoinNamespace,
        Self::NewNamespace,
        Self::BecomeRoot,
        Self::Ptrace,
        Self::LeaveCgroup,
    ];
}

/// Something that a process of a container asked the kernel for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// What.
    pub kind: DeedKind,
    /// The kernel's own rules did not allow it.
    pub refused: bool,
    /// The flags that it was asked with: of `mount(2)`, or the `CLONE_NEW…` of namespaces; the id of a cgroup.
    pub argument: u64,
    /// The process that it was done to, in the host's numbering, and its name.
    pub other: Option<(u32, String)>,
    /// Type of a file system, as the process said it; may be empty.
    pub file_system: String,
    /// What is mounted, or the name of a BPF program, as the process said it; may be empty.
    pub from: String,
    /// Where it is mounted, as the process said it, or the path of the cgroup; may be empty.
    pub target: String,
}

/// Suspicious behaviour that a node saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehaviourObservation {
    /// What was done.
    pub behaviour: Behaviour,
    /// How it was recognised, in a sentence.
    pub message: String,
    /// Who did it, what was decided about that program, how often and when.
    pub process: ProcessObservation,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_behaviour_has_a_word_of_its_own_and_a_technique() {
        let mut words: Vec<&str> = Behaviour::ALL.iter().map(|behaviour| behaviour.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Behaviour::ALL.len());
        for behaviour in Behaviour::ALL {
            let digits = behaviour.attack().strip_prefix('T').unwrap();
            assert!(digits.chars().all(|c| c.is_ascii_digit() || c == '.'), "{behaviour:?}");
        }
    }
}
