//! The scanner's own program against files that are damaged, endless or meant to harm: what, where and what to do is said, and the
//! rest goes on.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot go on without fails it"
)]

mod sound;

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sound::{APK, RELEASE, SECDB};

const SCANNER: &str = env!("CARGO_BIN_EXE_scanner");
const VAST: u64 = 4 << 30;

struct Said {
    out: String,
    errors: String,
    code: Option<i32>,
}

impl Said {
    /// The one vulnerability of the sound package is found, whatever lies beside it.
    fn finds_the_sound_package(&self) {
        assert_eq!(self.code, Some(0), "{}", self.errors);
        let report: Value = serde_json::from_str(&self.out).unwrap();
        let found: Vec<_> =
            report["vulnerabilities"].as_array().unwrap().iter().map(|found| &found["name"]).collect();
        assert_eq!(found, ["CVE-2023-42363"], "{}", self.errors);
    }

    fn says(&self, what: &str) {
        assert!(self.errors.contains(what), "{what:?} in: {}", self.errors);
    }
}

/// A folder with a database and a root file system.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Self { folder: tempfile::tempdir().unwrap() };
        desk.put("feeds/alpine-secdb/v3.18/main.yaml", SECDB.as_bytes());
        desk.put("root/etc/os-release", RELEASE.as_bytes());
        desk.put("root/lib/apk/db/installed", APK.as_bytes());
        let built = desk.run(&["db", "build", "--feeds", "feeds", "--out", "cvedb"]);
        assert_eq!(built.code, Some(0), "{}", built.errors);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        put(&self.path(name), content);
    }

    /// A file of 4 GiB without a byte of it on the disk.
    fn put_vast(&self, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        File::create(self.path(name)).unwrap().set_len(VAST).unwrap();
    }

    /// Runs the scanner in the folder with at most 1 GiB of memory of its own.
    fn run(&self, arguments: &[&str]) -> Said {
        let done = Command::new("prlimit")
            .args(["--data=1073741824", SCANNER])
            .args(arguments)
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8(done.stderr).unwrap();
        assert!(!errors.contains("panicked"), "{errors}");
        Said { out: String::from_utf8(done.stdout).unwrap(), errors, code: done.status.code() }
    }

    fn scan(&self) -> Said {
        self.run(&["fs", "root", "--db", "cvedb", "--format", "json"])
    }
}

fn put(path: &Path, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A zip archive of one file, deflated (APPNOTE.TXT 4.3).
fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let le = |number: usize, bytes: usize| number.to_le_bytes().into_iter().take(bytes).collect::<Vec<u8>>();
    let mut packed = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(content).unwrap();
    let packed = packed.finish().unwrap();
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let head = [
        vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0],
        crc.sum().to_le_bytes().to_vec(),
        le(packed.len(), 4),
        le(content.len(), 4),
        le(name.len(), 2),
        vec![0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04".to_vec(), head.clone(), name.into(), packed].concat();
    let entry = [b"PK\x01\x02".to_vec(), vec![20, 0], head, vec![0; 14], name.into()].concat();
    let end = [
        b"PK\x05\x06".to_vec(),
        vec![0; 4],
        le(1, 2),
        le(1, 2),
        le(entry.len(), 4),
        le(local.len(), 4),
        vec![0, 0],
    ]
    .concat();
    [local, entry, end].concat()
}

#[test]
fn bombs_vast_files_loops_and_broken_package_databases_in_a_root_hide_no_package() {
    let desk = Desk::new();
    desk.put("root/srv/bomb.jar", &zip("META-INF/maven/a/b/pom.properties", &vec![0; 100 << 20]));
    let nested = (0..12).fold(b"x".to_vec(), |inner, _| zip("inner.jar", &inner));
    desk.put("root/srv/nested.jar", &nested);
    desk.put("root/srv/cut.jar", &nested[..nested.len() / 2]);
    desk.put_vast("root/srv/package-lock.json");
    // Each of rpm's formats by its first bytes, and nothing behind them that holds.
    desk.put("root/var/lib/rpm/rpmdb.sqlite", &[&b"SQLite format 3\0\x10\0"[..], &[0xff; 4000]].concat());
    desk.put("root/var/lib/rpm/Packages.db", &[&b"RpmP"[..], &[0xff; 4000]].concat());
    let mut hash = vec![0xff; 4096];
    hash[12..16].copy_from_slice(&0x0006_1561_u32.to_le_bytes());
    desk.put("root/var/lib/rpm/Packages", &hash);
    for (link, target) in [("self", "."), ("a", "b"), ("b", "a"), ("up", "../.."), ("out", "/")] {
        symlink(target, desk.path("root/srv").join(link)).unwrap();
    }
    let said = desk.scan();
    said.finds_the_sound_package();
    for what in [
        "srv/bomb.jar: Java archive",
        "pom.properties: damaged, or too large",
        "srv/nested.jar: Java archive",
        "nested too deep",
        "srv/package-lock.json: 4294967296 bytes, at most",
        "var/lib/rpm/rpmdb.sqlite: rpm database",
        "var/lib/rpm/Packages.db: rpm database",
        "var/lib/rpm/Packages: rpm database",
    ] {
        said.says(what);
    }
}

#[test]
fn vast_documents_are_refused_by_their_size_before_they_are_read() {
    let desk = Desk::new();
    desk.put_vast("vast.json");
    for arguments in [
        &["sbom", "vast.json", "--db", "cvedb"][..],
        &["fs", "root", "--db", "cvedb", "--vex", "vast.json"],
        &["fs", "root", "--db", "cvedb", "--accept", "vast.json"],
    ] {
        let said = desk.run(arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}");
        said.says("vast.json has more than 536870912 bytes");
    }
    let said = desk.run(&["fs", "root", "--db", "vast.json"]);
    assert_eq!(said.code, Some(1));
    said.says("vast.json is refused: not a vulnerability database");

    // A feed that is too large is told, and the others are built.
    let said = desk.run(&["db", "build", "--feeds", "feeds", "--feed", "osv:vast.json", "--out", "other"]);
    assert_eq!(said.code, Some(0), "{}", said.errors);
    said.says("vast.json has 4294967296 bytes, at most 536870912 are read");
    assert!(said.out.contains("alpine-secdb"));

    // One line of a list that never ends is passed over, and the next is read.
    let mut list = File::create(desk.path("list")).unwrap();
    list.set_len(256 << 20).unwrap();
    std::io::Seek::seek(&mut list, std::io::SeekFrom::End(0)).unwrap();
    list.write_all(
        b"\n{\"os\":\"alpine\",\"release\":\"3.18\",\"name\":\"busybox\",\"version\":\"1.36.1-r5\"}\n",
    )
    .unwrap();
    let said = desk.run(&["match", "--db", "cvedb", "--packages", "list"]);
    assert!(said.out.contains("CVE-2023-42363"), "{} {}", said.out, said.errors);
    said.says("line 1: more than 65536 bytes, passed over");
}

#[test]
fn a_database_that_is_cut_changed_or_signed_by_another_is_refused_with_what_to_do() {
    let desk = Desk::new();
    let whole = fs::read(desk.path("cvedb")).unwrap();
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for (bytes, why) in [
        (&whole[..whole.len() / 2], "fetch or build it again"),
        (&flipped, "fetch or build it again"),
        (&b"something else"[..], "not a vulnerability database: one that `scanner db build` made"),
    ] {
        desk.put("bad", bytes);
        let said = desk.run(&["db", "verify", "bad"]);
        assert_eq!(said.code, Some(1), "{why}");
        said.says("bad is refused");
        said.says(why);
    }
    desk.put("key.pub", "7".repeat(64).as_bytes());
    let said = desk.run(&["db", "verify", "cvedb", "--trust", "key.pub"]);
    assert_eq!(said.code, Some(1));
    let said = desk.run(&["-v", "-d", "nowhere"]);
    assert_eq!(said.code, Some(254));
    assert_eq!(said.errors.matches("No such file").count(), 1, "{}", said.errors);
}

#[test]
fn a_layer_of_a_hundred_thousand_files_is_read_within_a_bound_of_memory() {
    let desk = Desk::new();
    let mut layer = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut entry = |path: &str, content: &[u8]| {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len() as u64);
        head.set_mode(0o644);
        layer.append_data(&mut head, path, content).unwrap();
    };
    for number in 0..100_000_u32 {
        entry(&format!("srv/{}/{number}/package.json", number % 100), b"{}");
    }
    entry("etc/os-release", RELEASE.as_bytes());
    entry("lib/apk/db/installed", APK.as_bytes());
    let layer = layer.into_inner().unwrap().finish().unwrap();
    let blob = |content: &[u8]| {
        let digits: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
        desk.put(&format!("image/blobs/sha256/{digits}"), content);
        json!({"digest": format!("sha256:{digits}"), "size": content.len()})
    };
    let layers = [blob(&layer)];
    let config = blob(json!({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}).to_string().as_bytes());
    let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
    let manifest = blob(manifest.to_string().as_bytes());
    desk.put("image/index.json", json!({"schemaVersion": 2, "manifests": [manifest]}).to_string().as_bytes());
    desk.put("image/oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    desk.run(&["image", "image", "--db", "cvedb", "--format", "json"]).finds_the_sound_package();
}
