//! Compiles `bpf/probe.bpf.c` and `bpf/replay.bpf.c` with the clang of the system. Neither kernel headers nor BTF of this machine are used.

use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

/// Debian names its clang by version; the first of these that runs is taken.
const COMPILERS: [&str; 8] =
    ["clang", "clang-14", "clang-15", "clang-16", "clang-17", "clang-18", "clang-19", "clang-20"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("../../../bpf").canonicalize()?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo:rerun-if-env-changed=CLANG");
    for watched in ["probe.bpf.c", "replay.bpf.c", "probe", "include"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    let compiler = std::env::var("CLANG").ok().or_else(find_compiler).ok_or(
        "no clang found to compile bpf/probe.bpf.c: run `make setup`, or name one in the variable CLANG",
    )?;
    let (below, include) = (format!("-I{}", root.display()), format!("-I{}", root.join("include").display()));
    for (name, variable) in [("probe", "NV_PROBE_OBJECT"), ("replay", "NV_REPLAY_OBJECT")] {
        let object = out.join(format!("{name}.bpf.o"));
        // No header of this machine is taken. v3 for the 32 bits as wide as registers, and jumps by them (Linux 5.1).
        SkeletonBuilder::new()
            .source(root.join(format!("{name}.bpf.c")))
            .obj(&object)
            .clang(&compiler)
            .clang_args([
                "-O2",
                "-mcpu=v3",
                "-nostdinc",
                "-Wall",
                "-Werror",
                below.as_str(),
                include.as_str(),
            ])
            .build()?;
        println!("cargo:rustc-env={variable}={}", object.display());
    }
    Ok(())
}

fn find_compiler() -> Option<String> {
    COMPILERS
        .iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|out| out.status.success()))
        .map(|name| (*name).to_owned())
}
