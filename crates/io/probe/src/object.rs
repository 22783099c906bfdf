//! The compiled object, and opening it.

use libbpf_rs::{ErrorExt as _, ObjectBuilder, OpenObject, PrintLevel, set_print};

/// ELF needs the alignment of its widest fields, which `include_bytes!` alone does not give.
#[repr(C, align(16))]
struct Aligned<T: ?Sized>(T);

static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("NV_PROCESS_OBJECT")));

/// Maps that user space shares; all but the working memory and the constants.
pub(crate) const SHARED_MAPS: [&str; 6] = ["cgroups", "profiles", "exact", "patterns", "ring", "counters"];

/// Programs that every tier runs.
pub(crate) const OBSERVERS: [&str; 5] =
    ["exec_tracepoint", "fork_tracepoint", "exit_tracepoint", "cgroup_made", "cgroup_gone"];

/// Opens the object with the programs in `programs`, told the inode of the host's mount namespace.
pub(crate) fn open(programs: &[&str], host_mount_namespace: u32) -> libbpf_rs::Result<OpenObject> {
    set_print(Some((PrintLevel::Info, log)));
    let mut object = ObjectBuilder::default().name("nv_process")?.open_memory(&OBJECT.0)?;
    for mut program in object.progs_mut() {
        let wanted = programs.iter().any(|name| program.name() == *name);
        program.set_autoload(wanted);
    }
    for mut map in object.maps_mut() {
        if map.name().to_string_lossy().ends_with(".rodata") {
            // The object has this one constant.
            map.set_initial_value(&host_mount_namespace.to_ne_bytes())
                .context("cannot set the host's mount namespace")?;
        }
    }
    Ok(object)
}

/// libbpf explains a refused load over many lines; they are for whoever asks for them.
#[expect(clippy::needless_pass_by_value, reason = "the signature is libbpf-rs'")]
fn log(_: PrintLevel, text: String) {
    tracing::debug!(target: "libbpf", "{}", text.trim_end());
}
