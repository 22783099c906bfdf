//! The compiled object, and opening it.

use std::cell::RefCell;

use nv_model::verdict::Mechanism;

use libbpf_rs::{ErrorExt as _, ObjectBuilder, OpenObject, PrintLevel, set_print};

/// ELF needs the alignment of its widest fields, which `include_bytes!` alone does not give.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("NV_PROBE_OBJECT")));

/// Maps that user space shares; all but the working memory and the constants.
pub(crate) const SHARED_MAPS: [&str; 20] = [
    "cgroup_ring",
    "cgroups",
    "profiles",
    "exact",
    "patterns",
    "ring",
    "counters",
    "file_profiles",
    "files",
    "file_filter",
    "applications",
    "conditions",
    "callers",
    "features",
    "belongings",
    "runtimes",
    "leavers",
    "roots",
    "mounters",
    "starters",
];

/// Programs that every tier runs.
pub(crate) const OBSERVERS: [&str; 6] =
    ["exec_tracepoint", "fork_tracepoint", "exit_tracepoint", "cgroup_made", "cgroup_gone", "cgroup_joined"];

/// Hooks of file rules, the better one first where one does for another; each has a program for either mechanism, `_lsm` or
/// `_fmod_ret` behind its name.
pub(crate) const FILE_HOOKS: [&[&str]; 12] = [
    &["file_open"],
    &["path_unlink"],
    &["path_rmdir"],
    &["path_mkdir"],
    &["path_symlink"],
    &["path_rename"],
    &["path_link"],
    &["path_truncate"],
    &["path_chmod"],
    &["path_chown", "inode_setattr"],
    &["sb_mount"],
    &["move_mount"],
];

/// Programs that tell of what is asked for with a capability, the better one first.
pub(crate) const CAPABILITY_PROGRAMS: [&str; 2] = ["capability_tracepoint", "capability_fexit"];
/// Programs that tell of a hold on another process, the better one first.
pub(crate) const PTRACE_PROGRAMS: [&str; 2] = ["ptrace_fexit", "ptrace_tracepoint"];

/// The program of a hook for a mechanism.
pub(crate) fn file_program(hook: &str, mechanism: Mechanism) -> Option<String> {
    match mechanism {
        Mechanism::BpfLsm => Some(format!("{hook}_lsm")),
        Mechanism::FmodRet => Some(format!("{hook}_fmod_ret")),
        _ => None,
    }
}

/// What programs are told of the node when they are loaded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Constants {
    /// Inode of the host's mount namespace; 0 for none.
    pub(crate) host_mount_namespace: u32,
    /// Whether the kernel lets the programs keep something by task.
    pub(crate) keeps_by_task: bool,
    /// Records of a kind that a cgroup may make in a second.
    pub(crate) records_per_second: u32,
}

impl Constants {
    /// As the object lays them out.
    fn bytes(self) -> Vec<u8> {
        let words = [self.host_mount_namespace, u32::from(self.keeps_by_task), self.records_per_second];
        words.into_iter().flat_map(u32::to_ne_bytes).collect()
    }
}

/// Opens the object with the programs in `programs`.
pub(crate) fn open<S: AsRef<str>>(programs: &[S], constants: Constants) -> libbpf_rs::Result<OpenObject> {
    set_print(Some((PrintLevel::Info, log)));
    COMPLAINTS.with_borrow_mut(Vec::clear);
    let mut object = ObjectBuilder::default().name("nv_process")?.open_memory(&OBJECT.0)?;
    for mut program in object.progs_mut() {
        let wanted = programs.iter().any(|name| program.name() == name.as_ref());
        program.set_autoload(wanted);
    }
    for mut map in object.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            map.set_initial_value(&constants.bytes()).context("cannot set the constants of the programs")?;
        }
        if map.name() == "belongings" {
            map.set_autocreate(constants.keeps_by_task)?;
        }
    }
    Ok(object)
}

/// The shape of every shared table, one a line: name, type, sizes of key and value, rows, flags. Programs that were
/// built with another shape must not share tables with these.
///
/// # Errors
/// The object of this build cannot be read.
pub fn shape() -> libbpf_rs::Result<String> {
    let object = open::<&str>(&[], Constants { keeps_by_task: true, ..Constants::default() })?;
    let mut lines: Vec<String> = object
        .maps()
        .filter(|map| SHARED_MAPS.iter().any(|name| map.name() == *name))
        .map(|map| {
            let kind = u32::from(map.map_type());
            let (key, value, rows) = (map.key_size(), map.value_size(), map.max_entries());
            format!("{} {kind} {key} {value} {rows} {}", map.name().to_string_lossy(), map.map_flags())
        })
        .collect();
    lines.sort();
    Ok(lines.join("\n"))
}

/// Most bytes of libbpf's words that a reason quotes.
const QUOTED: usize = 300;

thread_local! {
    /// What libbpf complained about on this thread since the last [`open`].
    static COMPLAINTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// libbpf explains a refused load over many lines; they are for whoever asks for them.
#[expect(clippy::needless_pass_by_value, reason = "the signature is libbpf-rs'")]
fn log(level: PrintLevel, text: String) {
    tracing::debug!(target: "libbpf", "{}", text.trim_end());
    if level == PrintLevel::Warn {
        COMPLAINTS.with_borrow_mut(|all| {
            if all.len() < 16 {
                all.push(essence(&text));
            }
        });
    }
}

/// What libbpf complained about since the object was opened on this thread: the verifier's reason, else its first
/// words; empty when it did not.
pub(crate) fn complaint() -> String {
    COMPLAINTS.with_borrow(|all| {
        let reason = all.iter().find(|line| !line.is_empty() && !line.contains("BPF program load failed"));
        reason.or(all.first()).cloned().unwrap_or_default()
    })
}

/// One line of a complaint: of a verifier's log the one that says what is wrong, which is followed by statistics.
fn essence(text: &str) -> String {
    let line = if text.contains("BEGIN PROG LOAD LOG") {
        let lines = text.lines().rev().skip_while(|line| line.starts_with("--") || line.trim().is_empty());
        let mut lines = lines.filter(|line| !line.starts_with("processed ") && !line.contains(" state: "));
        lines.next().unwrap_or_default()
    } else {
        text.lines().next().unwrap_or_default()
    };
    line.trim_start_matches("libbpf: ").chars().take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_verifiers_log_the_reason_is_quoted() {
        let log = "libbpf: prog 'x': -- BEGIN PROG LOAD LOG --\n0: (b7) r0 = 0\ninfinite loop detected at insn 41\n\
                   cur state: R0=0\nold state: R0=0\nprocessed 106 insns (limit 1000000)\n-- END PROG LOAD LOG --\n";
        assert_eq!(essence(log), "infinite loop detected at insn 41");
        assert_eq!(
            essence("libbpf: prog 'x': BPF program load failed: -EPERM\n"),
            "prog 'x': BPF program load failed: -EPERM"
        );
    }
}
