//! Twins of `bpf/include/process.h`: rows of the maps and records of the ring, byte for byte.
//!
//! A test reads the compiled object's BTF and compares every offset with these.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Version of this layout. It is part of the default pin folder's name, so that a program never adopts maps of
/// another shape. Raise it with every change of `process.h`.
pub const ABI: u32 = 8;

/// Bytes of a path with its closing NUL.
pub const PATH_BYTES: usize = 256;
/// Longest prefix of a pattern.
pub const PREFIX_BYTES: usize = 244;
/// Bytes of the file name as it was called.
pub const FILENAME_BYTES: usize = 128;
/// Most bytes of arguments.
pub const ARGUMENT_BYTES: usize = 256;
/// Bytes of a cgroup's path.
pub const CGROUP_PATH_BYTES: usize = 512;
/// Bytes of a task's name.
pub const COMM_BYTES: usize = 16;
/// Bytes of a file system's name.
pub const DEED_TYPE_BYTES: usize = 32;
/// Bytes of what a process said that it wants.
pub const DEED_TEXT_BYTES: usize = 128;
/// `deed_record.flags`: the kernel's own rules did not allow it.
pub const DEED_REFUSED: u32 = 1;
/// Rule of a record that no rule decided.
pub const NO_RULE: u32 = u32::MAX;

/// `cgroup_row.flags`: a container, or below one.
pub const CGROUP_CONTAINER: u32 = 1;
/// `cgroup_row.flags`: made while the programs ran.
pub const CGROUP_WATCHED: u32 = 2;
/// `rule_row.flags`: the rule excuses a changed file too.
pub const RULE_ALLOW_UPDATE: u8 = 1;
/// `rule_row.flags`: the rule was learned.
pub const RULE_LEARNED: u8 = 2;
/// Flag of a profile's row: in Protect, what cannot be judged is stopped.
pub const PROFILE_FAIL_CLOSED: u32 = 1;
/// Bit of [`ProfileRow`]'s `flags`: the profile has rows in `patterns`.
pub const PROFILE_PATTERNS: u32 = 2;

/// `condition_row.has`.
pub mod condition {
    /// The real user id counts.
    pub const UID: u8 = 1;
    /// The executable that runs the program counts.
    pub const CALLER: u8 = 2;
    /// The arguments count.
    pub const ARGUMENTS: u8 = 4;
    /// They begin with the text.
    pub const FROM_BEGIN: u8 = 8;
    /// They end with it.
    pub const TO_END: u8 = 16;
}

/// Value of `features`: a rule asks what ran a program.
pub const FEATURE_CALLERS: u32 = 1;

/// `file_profile_row.flags`.
pub mod files_flag {
    /// A rule of the profile blocks.
    pub const BLOCK: u32 = 1;
    /// A rule speaks of a folder.
    pub const FOLDERS: u32 = 2;
}

/// `file_row.scope`.
pub mod scope {
    /// This file.
    pub const ITSELF: u8 = 1;
    /// What is in this folder.
    pub const IN: u8 = 2;
    /// All that is below it.
    pub const BELOW: u8 = 4;
    /// A file of the rule is below: a mount over this folder hides it.
    pub const ABOVE: u8 = 8;
}

/// `exec_record.flags`.
pub mod exec_flag {
    /// The file is in the overlay's upper layer.
    pub const CHANGED: u32 = 1;
    /// The file has no name left.
    pub const FILELESS: u32 = 2;
    /// The file is not on the container's root file system.
    pub const OTHER_MOUNT: u32 = 4;
    /// The path is not whole.
    pub const TRUNCATED: u32 = 8;
    /// The caller is in the host's mount namespace.
    pub const HOST_MOUNTS: u32 = 16;
    /// The runtime's own exec in a container's cgroup.
    pub const RUNTIME: u32 = 32;
    /// The cgroup is a container's.
    pub const CONTAINER: u32 = 128;
    /// The path may be of the container's own making.
    pub const FOREIGN: u32 = 256;
    /// The file is a script.
    pub const SCRIPT: u32 = 512;
    /// The process came in by another way than the container's first program.
    pub const STRANGER: u32 = 1024;
}

/// `record_head.kind`.
pub mod kind {
    /// [`super::ExecRecord`].
    pub const EXEC: u32 = 1;
    /// [`super::ForkRecord`].
    pub const FORK: u32 = 2;
    /// [`super::ExitRecord`].
    pub const EXIT: u32 = 3;
    /// [`super::CgroupRecord`] of a new cgroup.
    pub const CGROUP_MADE: u32 = 4;
    /// [`super::CgroupRecord`] of a removed cgroup.
    pub const CGROUP_GONE: u32 = 5;
    /// [`super::FileRecord`].
    pub const FILE: u32 = 6;
    /// [`super::DeedRecord`].
    pub const DEED: u32 = 7;
}

/// Defines structs that can be read from and written as bytes, and lists their offsets for the test.
macro_rules! twins {
    ($($(#[$doc:meta])* $name:ident = $c:literal { $($field:ident: $type:ty),+ $(,)? })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
            #[repr(C)]
            #[expect(missing_docs, reason = "the fields are explained at their twins in bpf/include/process.h")]
            pub struct $name { $(pub $field: $type),+ }
        )+
        /// Name in C, size, and offset of each field.
        #[cfg(test)]
        type Shape = (&'static str, usize, Vec<(&'static str, usize)>);
        #[cfg(test)]
        fn shapes() -> Vec<Shape> {
            vec![$(($c, size_of::<$name>(), vec![$((stringify!($field), std::mem::offset_of!($name, $field))),+])),+]
        }
    };
}

twins! {
    /// A file that processes run; the key of `runtimes`, whose value is 1, and the value of `starters`, whose key is the
    /// cgroup id.
    Executable = "executable" { inode: u64, device: u32, reserved: u32 }
    /// Value of `cgroups`; the key is the cgroup id.
    CgroupRow = "cgroup_row" { profile: u32, flags: u32 }
    /// Value of `profiles`; the key is the profile's number.
    ProfileRow = "profile_row" { mode: u32, baseline: u32, flags: u32 }
    /// Key of `exact`.
    ExactKey = "exact_key" { profile: u32, path: [u8; PATH_BYTES] }
    /// Key of `patterns`.
    PatternKey = "pattern_key" { prefixlen: u32, profile: u32, name_hash: [u32; 2], path: [u8; PREFIX_BYTES] }
    /// Value of `exact` and `patterns`.
    RuleRow = "rule_row" {
        action: u8, flags: u8, reserved: u16, order: u32, rule: u32, reserved2: u32, conditional: u64,
    }
    /// Value of `conditions`; the key is the row's number.
    ConditionRow = "condition_row" {
        action: u8, flags: u8, has: u8, argument_bytes: u8, order: u32, rule: u32, uid: u32, next: u64,
        caller_bytes: u32, reserved: u32, caller: [u8; PATH_BYTES], argument_masks: [u64; 256],
    }
    /// Value of `callers`; the key is the process id.
    CallerRow = "caller_row" { mounts: u32, unknown: u32, path: [u8; PATH_BYTES] }
    /// Value of `file_profiles`; the key is the profile's number.
    FileProfileRow = "file_profile_row" { flags: u32 }
    /// Key of `files`.
    FileKey = "file_key" { profile: u32, device: u32, inode: u64 }
    /// Value of `files`.
    FileRow = "file_row" { rule: u32, behavior: u8, scope: u8, reserved: u16 }
    /// Key of `applications`; the value is 1.
    ApplicationKey = "application_key" { profile: u32, rule: u32, device: u32, reserved: u32, inode: u64 }
    /// Value of `belongings`; the key is a descriptor of a process.
    Belonging = "belonging" {
        cgroup: u64, row: CgroupRow, root: u32, mounted: u32, told_at: u64, told_argument: u64, told_deed: u32, user_namespace: u32,
        stranger: u32, reserved: u32,
    }
    /// How every record begins.
    RecordHead = "record_head" { kind: u32, pid: u32, at: u64, cgroup: u64, cpu: u32, sequence: u32 }
    /// A program was run, or stopped from running.
    ExecRecord = "exec_record" {
        head: RecordHead, parent_cgroup: u64, parent_pid: u32, uid: u32, euid: u32, flags: u32, profile: u32,
        rule: u32, decision_nanos: u32, verdict: u8, mechanism: u8, mode: u8, baseline: u8, argument_bytes: u32,
        stdio: [u8; 2], parent_stdio: [u8; 2], comm: [u8; COMM_BYTES], parent_comm: [u8; COMM_BYTES], path: [u8; PATH_BYTES],
        filename: [u8; FILENAME_BYTES], arguments: [u8; ARGUMENT_BYTES],
    }
    /// A process was made.
    ForkRecord = "fork_record" { head: RecordHead, parent_pid: u32, reserved: u32 }
    /// A process ended.
    ExitRecord = "exit_record" { head: RecordHead, code: u32, reserved: u32 }
    /// A file was opened or changed against its rule, or was kept from it.
    FileRecord = "file_record" {
        head: RecordHead, profile: u32, rule: u32, parent_pid: u32, uid: u32, euid: u32, flags: u32,
        decision_nanos: u32, operation: u8, verdict: u8, mechanism: u8, reserved: u8, comm: [u8; COMM_BYTES],
        path: [u8; PATH_BYTES],
    }
    /// A process of a container asked the kernel for something that attacks are made of.
    DeedRecord = "deed_record" {
        head: RecordHead, deed: u32, flags: u32, argument: u64, parent_pid: u32, uid: u32, euid: u32, other_pid: u32,
        comm: [u8; COMM_BYTES], other_comm: [u8; COMM_BYTES], type_name: [u8; DEED_TYPE_BYTES],
        from: [u8; DEED_TEXT_BYTES], target: [u8; DEED_TEXT_BYTES],
    }
    /// A cgroup was made or removed.
    CgroupRecord = "cgroup_record" {
        head: RecordHead, parent: u64, profile: u32, flags: u32, path: [u8; CGROUP_PATH_BYTES],
    }
}

/// Slots of the counters, in the order of `enum counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Slot {
    /// Exec records that found the ring full.
    DroppedExec,
    /// Fork records that found the ring full.
    DroppedFork,
    /// Exit records that found the ring full.
    DroppedExit,
    /// Cgroup records that found the ring full.
    DroppedCgroup,
    /// New cgroups that found no room for their row.
    CgroupsFull,
    /// Judgements without working memory.
    ScratchBusy,
    /// Execs in a cgroup whose profile has no row.
    NoProfile,
    /// Signals that the kernel refused.
    KillFailed,
    /// Execs of the container runtime itself.
    RuntimeExec,
    /// Execs without a policy.
    Open,
    /// Execs to be learned.
    Learn,
    /// Execs allowed by a rule or by the image.
    Allow,
    /// Execs reported.
    Violate,
    /// Execs stopped.
    Deny,
    /// File records that found the ring full.
    DroppedFile,
    /// Processes whose program found no room in `callers`.
    CallersFull,
    /// Records of behaviour that found the ring full.
    DroppedDeed,
    /// Records of behaviour beyond what a cgroup may make in a second.
    LimitedDeed,
    /// Exec records beyond what a cgroup may make in a second.
    LimitedExec,
    /// Fork records beyond it.
    LimitedFork,
    /// Exit records beyond it.
    LimitedExit,
    /// File records beyond it.
    LimitedFile,
    /// Records for the ring, with those that found it full.
    Records,
    /// The same for the ring of cgroups.
    CgroupRecords,
    /// What is known of a container that found no room in its table.
    ContainersFull,
}

impl Slot {
    /// Number of slots.
    pub const COUNT: usize = 25;
}

#[cfg(test)]
mod tests {
    use super::*;
    use libbpf_rs::HasSize as _;
    use libbpf_rs::btf::types::{Enum, MemberAttr, Struct};
    use libbpf_rs::btf::{Btf, BtfType};

    fn btf() -> Btf<'static> {
        Btf::from_path(env!("NV_PROBE_OBJECT")).unwrap()
    }

    #[test]
    fn every_struct_lies_in_memory_as_the_kernel_side_has_it() {
        let btf = btf();
        for (name, size, fields) in shapes() {
            let found: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name}"));
            assert_eq!(found.size(), size, "size of {name}");
            let theirs: Vec<(String, usize)> = found
                .iter()
                .map(|member| match member.attr {
                    MemberAttr::Normal { offset } => {
                        (member.name.unwrap().to_str().unwrap().to_owned(), offset as usize / 8)
                    }
                    MemberAttr::BitField { .. } => panic!("bit field in {name}"),
                })
                .collect();
            let ours: Vec<(String, usize)> =
                fields.into_iter().map(|(field, offset)| (field.to_owned(), offset)).collect();
            assert_eq!(theirs, ours, "fields of {name}");
        }
    }

    #[test]
    fn the_counters_have_the_slots_of_the_kernel_side() {
        let btf = btf();
        let counter: Enum<'_> = btf.type_by_name("counter").unwrap();
        let slots = counter.iter().find(|value| value.name.unwrap() == "COUNT_SLOTS").unwrap();
        assert_eq!(slots.value, i64::try_from(Slot::COUNT).unwrap());
        let deny = counter.iter().find(|value| value.name.unwrap() == "COUNT_DENY").unwrap();
        assert_eq!(deny.value, i64::from(Slot::Deny as u32));
        assert!(btf.type_by_name::<BtfType<'_>>("exec_record").is_some());
    }
}
