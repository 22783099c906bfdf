//! The scanner's own program on images that anybody may have made: what reads their layers may do nothing else.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const SCANNER: &str = env!("CARGO_BIN_EXE_scanner");
const APK: &str = "P:busybox\nV:1.36.1-r5\nA:x86_64\n\n";
const SECDB: &str = "---\ndistroversion: v3.18\nreponame: main\narchs:\n  - x86_64\npackages:\n  - pkg:\n      name: busybox\n      secfixes:\n        1.36.1-r6:\n          - CVE-2023-42363\n";

fn scanner(arguments: &[&str]) -> Output {
    Command::new(SCANNER).args(arguments).env("SCANNER_REGISTRY_PASSWORD", "hunter2").output().unwrap()
}

fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len() as u64);
        head.set_mode(0o644);
        builder.append_data(&mut head, path, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

/// An image as `docker save` writes it, unpacked.
fn image(root: &Path, layers: &[Vec<u8>]) {
    let marks: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digits(layer))).collect();
    let config =
        json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": marks}});
    let manifest = |descriptor: Value| json!({"manifests": [descriptor]});
    let blob = |bytes: &[u8]| {
        fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        fs::write(root.join("blobs/sha256").join(digits(bytes)), bytes).unwrap();
        json!({"digest": format!("sha256:{}", digits(bytes)), "size": bytes.len()})
    };
    let layers: Vec<Value> = layers.iter().map(|layer| blob(layer)).collect();
    let one =
        blob(json!({"config": blob(config.to_string().as_bytes()), "layers": layers}).to_string().as_bytes());
    fs::write(root.join("index.json"), manifest(one).to_string()).unwrap();
}

fn database(folder: &Path) -> String {
    let feed = folder.join("feeds/alpine-secdb/v3.18/main.yaml");
    fs::create_dir_all(feed.parent().unwrap()).unwrap();
    fs::write(&feed, SECDB).unwrap();
    let out = folder.join("cvedb").to_str().unwrap().to_owned();
    let built = scanner(&["db", "build", "--feeds", folder.join("feeds").to_str().unwrap(), "--out", &out]);
    assert!(built.status.success(), "{built:?}");
    out
}

#[test]
fn an_image_is_read_by_a_process_of_its_own_and_one_damaged_layer_hides_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path());
    let whole = folder.path().join("whole");
    let release: &[u8] = b"ID=alpine\nVERSION_ID=3.18.4\n";
    let base = layer(&[("etc/os-release", release), ("lib/apk/db/installed", APK.as_bytes())]);
    // More than one frame, so that each side waits for the other.
    let large = layer(&[("data", &vec![7; 3 * 1024 * 1024])]);
    image(&whole, &[base.clone(), large.clone()]);
    let scanned = scanner(&["image", whole.to_str().unwrap(), "--db", &db, "--format", "json"]);
    let said = String::from_utf8_lossy(&scanned.stderr).into_owned();
    assert!(scanned.status.success(), "{said}");
    let text = String::from_utf8(scanned.stdout).unwrap();
    assert!(text.contains("CVE-2023-42363") && text.contains("1.36.1-r6"), "{text}");

    let damaged = folder.path().join("damaged");
    image(&damaged, &[base, large.clone()]);
    let blob = damaged.join("blobs/sha256").join(digits(&large));
    fs::write(&blob, &large[..1024 * 1024]).unwrap();
    let scanned = scanner(&["image", damaged.to_str().unwrap(), "--db", &db, "--format", "json"]);
    let said = String::from_utf8_lossy(&scanned.stderr).into_owned();
    assert!(!scanned.status.success(), "what is in a layer that cannot be read may be the worst");
    assert!(said.contains(&digits(&large)), "{said}");
    assert!(String::from_utf8_lossy(&scanned.stdout).contains("CVE-2023-42363"), "the other layer counts");
}

#[test]
fn what_reads_layers_has_no_capability_no_environment_and_few_system_calls() {
    let mut reader = Command::new(SCANNER)
        .arg("layer-reader")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let status = format!("/proc/{}/status", reader.id());
    let begun = Instant::now();
    let found = loop {
        let text = fs::read_to_string(&status).unwrap();
        if text.contains("Seccomp:\t2") || begun.elapsed() > Duration::from_secs(60) {
            break text;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapPrm:\t0000000000000000"] {
        assert!(found.contains(line), "{line}: {found}");
    }
    // A stranger's bytes in the place of a task end it, and it says why.
    reader.stdin.take().unwrap().write_all(&[0xff; 64]).unwrap();
    let ended = reader.wait_with_output().unwrap();
    assert!(!ended.status.success() && ended.stdout.is_empty(), "{ended:?}");
    assert!(String::from_utf8_lossy(&ended.stderr).contains("too long"), "{ended:?}");
}
