//! What the agent gives away at its start: every privilege that only the keeper needs.
//!
//! Linux keeps privileges a thread, so this comes before there are others. A keeper that is killed later is started anew
//! by the [`crate::Launcher`], which was started before.

use std::collections::BTreeMap;
use std::path::Path;

pub use nv_confine::ConfineError as PrivilegesError;
use nv_confine::{failed, keep_only};
use rustix::thread::CapabilitySet;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

/// First kernel that lets a process without privileges write to tables whose descriptors it holds
/// (`c8644cd0efe7`, Linux 5.19).
const TABLES_WITHOUT_PRIVILEGE: (u32, u32) = (5, 19);
/// First kernel with `CAP_BPF`; before it `CAP_SYS_ADMIN` stood for it.
const CAP_BPF_SINCE: (u32, u32) = (5, 8);

/// System calls that nothing in the agent makes, and that an intruder in it would want: other processes' memory, the
/// kernel's code, mounts and namespaces. `CAP_SYS_PTRACE`, which reading `/proc` takes, must not open the first.
const REFUSED: [i64; 19] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
];

/// A privilege that is kept, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Which one.
    pub capability: CapabilitySet,
    /// What for.
    pub why: &'static str,
}

/// What else the process does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// It listens on a port below 1024.
    pub low_port: bool,
    /// Its state directory belongs to somebody else than root.
    pub foreign_state: bool,
}

impl Needs {
    /// Of a process with this state directory and these ports.
    #[must_use]
    pub fn of(state_dir: &Path, ports: &[u16]) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let owner =
            state_dir.ancestors().find_map(|folder| std::fs::metadata(folder).ok()).map(|found| found.uid());
        Self {
            low_port: ports.iter().any(|port| (1..1024).contains(port)),
            foreign_state: owner.is_some_and(|owner| owner != 0),
        }
    }
}

/// What the agent keeps on a kernel of this version.
#[must_use]
pub fn kept(kernel: (u32, u32), needs: Needs) -> Vec<Kept> {
    let mut kept = vec![
        Kept {
            capability: CapabilitySet::SYS_PTRACE,
            why: "executables, roots and sockets of other users' processes in /proc",
        },
        Kept {
            capability: CapabilitySet::DAC_READ_SEARCH,
            why: "files of containers that belong to their users",
        },
    ];
    if kernel < CAP_BPF_SINCE {
        kept.push(Kept {
            capability: CapabilitySet::SYS_ADMIN,
            why: "writing rows of tables, before Linux 5.8",
        });
    } else if kernel < TABLES_WITHOUT_PRIVILEGE {
        kept.push(Kept { capability: CapabilitySet::BPF, why: "writing rows of tables, before Linux 5.19" });
    }
    if needs.low_port {
        kept.push(Kept { capability: CapabilitySet::NET_BIND_SERVICE, why: "a port below 1024" });
    }
    if needs.foreign_state {
        let why = "a state directory that belongs to another user";
        kept.push(Kept { capability: CapabilitySet::DAC_OVERRIDE, why });
        kept.push(Kept { capability: CapabilitySet::FOWNER, why });
    }
    kept
}

/// What a keeper keeps; `kills` says that it stops programs by itself, as no BPF program does.
#[must_use]
pub fn kept_by_keeper(kills: bool) -> Vec<Kept> {
    let keep = |capability, why| Kept { capability, why };
    let mut kept = vec![
        keep(CapabilitySet::BPF, "loading programs and tables"),
        keep(CapabilitySet::PERFMON, "programs at tracepoints"),
        keep(CapabilitySet::NET_ADMIN, "programs at interfaces"),
        keep(CapabilitySet::NET_RAW, "sockets that see packets, for captures and inspectors"),
        keep(CapabilitySet::SYS_ADMIN, "fanotify, entering network namespaces, mounting the BPF file system"),
        keep(CapabilitySet::SYS_PTRACE, "roots of other users' processes in /proc"),
        keep(
            CapabilitySet::DAC_READ_SEARCH,
            "files of containers that belong to their users, cgroups by number",
        ),
        keep(CapabilitySet::SYS_RESOURCE, "locking tables in memory, before Linux 5.11"),
    ];
    if kills {
        kept.push(keep(CapabilitySet::KILL, "stopping programs that no BPF program stops"));
    }
    kept
}

/// Gives away what the agent does not need ([`kept`]), for good: for this thread, all that it starts, and all programs
/// that they run. Nothing may trace or dump this process any more but root with `CAP_SYS_PTRACE`.
///
/// # Errors
/// [`PrivilegesError`]: then the process must not go on, as it would hold what it should not.
pub fn reduce(needs: Needs) -> Result<Vec<Kept>, PrivilegesError> {
    let kept = kept(kernel_version(), needs);
    keep(&kept)?;
    refuse_system_calls()?;
    Ok(kept)
}

/// The same for a keeper ([`kept_by_keeper`]), whose system calls stay.
///
/// # Errors
/// As for [`reduce`].
pub fn reduce_keeper(kills: bool) -> Result<(), PrivilegesError> {
    keep(&kept_by_keeper(kills))
}

fn keep(kept: &[Kept]) -> Result<(), PrivilegesError> {
    keep_only(kept.iter().fold(CapabilitySet::empty(), |all, one| all | one.capability))
}

fn refuse_system_calls() -> Result<(), PrivilegesError> {
    let arch = std::env::consts::ARCH.try_into().map_err(failed("system calls of this machine"))?;
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        REFUSED.iter().map(|number| (*number, Vec::new())).collect();
    let eperm = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1));
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, eperm, arch).map_err(failed("system calls"))?;
    let program: BpfProgram =
        filter.try_into().map_err(failed::<seccompiler::BackendError>("system calls"))?;
    match seccompiler::apply_filter(&program) {
        Ok(()) => Ok(()),
        Err(error) => Err(failed("system calls")(error)),
    }
}

/// Major and minor number of the running kernel; 0 where it does not say.
fn kernel_version() -> (u32, u32) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    parse_version(&release)
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(kernel: (u32, u32), needs: Needs) -> CapabilitySet {
        kept(kernel, needs).iter().fold(CapabilitySet::empty(), |all, one| all | one.capability)
    }

    #[test]
    fn only_an_old_kernel_takes_more_than_reading() {
        let reading = CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH;
        for (kernel, more) in [
            ("6.1.0-37-cloud-amd64", CapabilitySet::empty()),
            ("5.19.1", CapabilitySet::empty()),
            ("5.10.0", CapabilitySet::BPF),
            ("5.4.0", CapabilitySet::SYS_ADMIN),
        ] {
            assert_eq!(names(parse_version(kernel), Needs::default()), reading | more, "{kernel}");
        }
    }

    #[test]
    fn ports_and_state_decide_what_else_is_kept() {
        let needs = Needs::of(Path::new("/"), &[0, 443, 8443]);
        assert_eq!(needs, Needs { low_port: true, foreign_state: false });
        assert!(names((6, 1), needs).contains(CapabilitySet::NET_BIND_SERVICE));
        assert_eq!(Needs::of(Path::new("/"), &[10443]), Needs::default());
        assert!(names((6, 1), Needs { foreign_state: true, ..needs }).contains(CapabilitySet::DAC_OVERRIDE));
    }
}
