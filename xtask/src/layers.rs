//! The folder is the layer: core < engine < io < role < apps. A crate depends on lower layers only, `io` crates do
//! not know one another, engines know nothing of the outside, and a third-party crate enters through few doors.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use toml::Table;

/// Layers from the lowest; tests, benches and xtask stand above all.
const LAYERS: [&str; 5] = ["core", "engine", "io", "role", "apps"];

/// Crates that only these of ours may name, by the folder below `crates/`.
const DOORS: &[(&str, &[&str])] = &[
    ("kube", &["io/kubernetes"]),
    ("libbpf-rs", &["io/probe", "io/capture"]),
    ("libbpf-sys", &["io/probe", "io/capture"]),
    ("redb", &["io/store"]),
    ("fjall", &["io/store"]),
    ("etcd-client", &["io/store"]),
    ("containerd-client", &["io/runtime"]),
    ("k8s-cri", &["io/runtime"]),
    ("rcgen", &["io/pki"]),
    ("argon2", &["io/identity"]),
];

/// What an engine may not know: async, files, networks, processes, clocks.
const OUTSIDE: &[&str] = &[
    "tokio",
    "tokio-stream",
    "tokio-util",
    "axum",
    "hyper",
    "reqwest",
    "tonic",
    "rustix",
    "libc",
    "rtnetlink",
    "tracing-subscriber",
];

/// Words of the outside that an engine's source may not have.
const OUTSIDE_WORDS: &[&str] = &[
    "std::fs",
    "std::net::Tcp",
    "std::net::Udp",
    "std::process",
    "SystemTime::now",
    "Instant::now",
    "std::thread",
];

struct Crate {
    folder: String,
    layer: usize,
    manifest: Table,
}

/// Every place that breaks the direction of the layers.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut crates: BTreeMap<String, Crate> = BTreeMap::new();
    for (layer, name) in LAYERS.iter().enumerate() {
        let folder = if *name == "apps" { root.join("apps") } else { root.join("crates").join(name) };
        for entry in sorted(&folder)? {
            let manifest_path = folder.join(&entry).join("Cargo.toml");
            if !manifest_path.exists() {
                continue;
            }
            let text =
                fs::read_to_string(&manifest_path).with_context(|| manifest_path.display().to_string())?;
            let manifest: Table = text.parse().with_context(|| manifest_path.display().to_string())?;
            let package =
                manifest.get("package").and_then(|p| p.get("name")).and_then(|n| n.as_str()).unwrap_or("");
            crates.insert(package.to_owned(), Crate { folder: format!("{name}/{entry}"), layer, manifest });
        }
    }
    let workspace: Table = fs::read_to_string(root.join("Cargo.toml"))?.parse()?;
    let mut broken = Vec::new();
    for (name, this) in &crates {
        let expected = match this.folder.split_once('/') {
            Some(("apps", app)) => app.to_owned(),
            Some(("role", role)) => format!("nv-role-{role}"),
            Some((_, folder)) => format!("nv-{folder}"),
            None => String::new(),
        };
        if *name != expected {
            broken.push(format!("{}: package is named {name}, expected {expected}", this.folder));
        }
        broken.extend(lints(this, &workspace));
        let dependencies = this.manifest.get("dependencies").and_then(|d| d.as_table());
        for dependency in dependencies.into_iter().flatten().map(|(key, _)| key) {
            if let Some(other) = crates.get(dependency) {
                let same_layer = other.layer == this.layer;
                let allowed_sideways = matches!(LAYERS.get(this.layer), Some(&"core" | &"engine" | &"role"));
                if other.layer > this.layer || (same_layer && !allowed_sideways) {
                    broken
                        .push(format!("{}: depends on {}, which is not below it", this.folder, other.folder));
                }
            }
            if let Some((_, doors)) = DOORS.iter().find(|(outside, _)| outside == dependency)
                && !doors.contains(&this.folder.as_str())
            {
                broken.push(format!(
                    "{}: names {dependency}, which enters through {}",
                    this.folder,
                    doors.join(", ")
                ));
            }
            if this.folder.starts_with("engine/") && OUTSIDE.contains(&dependency.as_str()) {
                broken.push(format!("{}: an engine does not know {dependency}", this.folder));
            }
        }
        if this.folder.starts_with("engine/") {
            broken.extend(engine_sources(&root.join("crates").join(&this.folder).join("src"), &this.folder)?);
        }
    }
    Ok(broken)
}

/// A crate takes the workspace's lints, or, where unsafe code is needed, the same table with `deny` for it.
fn lints(this: &Crate, workspace: &Table) -> Vec<String> {
    let lints = this.manifest.get("lints").and_then(|l| l.as_table());
    if lints.and_then(|l| l.get("workspace")).and_then(|w| w.as_bool()) == Some(true) {
        return Vec::new();
    }
    if !["io/probe", "io/capture"].contains(&this.folder.as_str()) {
        return vec![format!("{}: [lints] workspace = true is missing", this.folder)];
    }
    let Some(wanted) = workspace.get("workspace").and_then(|w| w.get("lints")).and_then(|l| l.as_table())
    else {
        return vec!["Cargo.toml: no workspace lints".to_owned()];
    };
    let mut broken = Vec::new();
    for (tool, table) in wanted {
        for (lint, level) in table.as_table().into_iter().flatten() {
            let given = lints.and_then(|l| l.get(tool)).and_then(|t| t.get(lint));
            let same = if lint == "unsafe_code" {
                given.and_then(|g| g.as_str()) == Some("deny")
            } else {
                given == Some(level)
            };
            if !same {
                broken.push(format!("{}: lint {tool}::{lint} differs from the workspace's", this.folder));
            }
        }
    }
    broken
}

fn engine_sources(folder: &Path, name: &str) -> Result<Vec<String>> {
    let mut broken = Vec::new();
    for entry in sorted(folder)? {
        let path = folder.join(&entry);
        if path.is_dir() {
            broken.extend(engine_sources(&path, name)?);
        } else if entry.ends_with(".rs") {
            let text = fs::read_to_string(&path)?;
            for word in OUTSIDE_WORDS.iter().filter(|word| text.contains(*word)) {
                broken.push(format!("{name}: {entry} names {word}; an engine has no outside"));
            }
        }
    }
    Ok(broken)
}

/// Names in a folder, sorted; none when it does not exist.
fn sorted(folder: &Path) -> Result<Vec<String>> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
