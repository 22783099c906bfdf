//! Compiles `bpf/network.bpf.c` for the kernel; the object is embedded into the crate.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../../bpf/network.bpf.c");
    println!("cargo:rerun-if-changed={}", source.display());
    println!("cargo:rerun-if-changed={}", source.with_file_name("network").display());
    println!("cargo:rerun-if-changed={}", source.with_file_name("include").display());
    println!("cargo:rerun-if-env-changed=CLANG");
    let object = PathBuf::from(env::var("OUT_DIR")?).join("network.bpf.o");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    SkeletonBuilder::new()
        .source(&source)
        .obj(&object)
        .clang(find_clang()?)
        // v3: 32 bits as wide as registers, and jumps by them (Linux 5.1). The folder is where Debian keeps <asm/types.h>.
        .clang_args(["-mcpu=v3", "-Wall", "-Werror", &format!("-I/usr/include/{architecture}-linux-gnu")])
        .build()?;
    Ok(())
}

/// `$CLANG`, else the first of the usual names that runs.
fn find_clang() -> Result<String, Box<dyn Error>> {
    if let Ok(named) = env::var("CLANG") {
        return Ok(named);
    }
    ["clang", "clang-14", "clang-19"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success()))
        .map(str::to_owned)
        .ok_or_else(|| "no clang found; install it (Debian: clang) or set CLANG".into())
}
