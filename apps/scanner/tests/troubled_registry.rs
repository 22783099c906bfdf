//! The scanner's own program against registries that are broken, slow or hostile.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot go on without fails it"
)]

mod served;
mod sound;

use std::fs;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use nv_telemetry::{Clock as _, SystemClock};
use serde_json::json;
use served::{Answer, Asked, Image, digits, serve};
use sound::{APK, RELEASE, SECDB};

const SCANNER: &str = env!("CARGO_BIN_EXE_scanner");

/// A folder with a database, and what was said about an image.
struct Desk {
    folder: tempfile::TempDir,
    db: String,
}

struct Said {
    out: String,
    errors: String,
    code: Option<i32>,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let feed = folder.path().join("feeds/alpine-secdb/v3.18/main.yaml");
        fs::create_dir_all(feed.parent().unwrap()).unwrap();
        fs::write(&feed, SECDB).unwrap();
        let db = folder.path().join("cvedb").to_str().unwrap().to_owned();
        let feeds = folder.path().join("feeds");
        let built = Command::new(SCANNER)
            .args(["db", "build", "--feeds", feeds.to_str().unwrap(), "--out", &db])
            .output()
            .unwrap();
        assert!(built.status.success(), "{built:?}");
        Self { folder, db }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Scans `shop/web:1` of a registry.
    fn scan(&self, url: &str, further: &[&str]) -> Said {
        let mut command = Command::new(SCANNER);
        command.args(["image", "shop/web:1", "--registry", url, "--db", &self.db, "--format", "json"]);
        let Output { stdout, stderr, status } = command
            .args(further)
            .env("SCANNER_REGISTRY_USERNAME", "reader")
            .env("SCANNER_REGISTRY_PASSWORD", "hunter2")
            .output()
            .unwrap();
        let errors = String::from_utf8(stderr).unwrap();
        assert!(!errors.contains("hunter2") && !errors.contains("panicked"), "{errors}");
        Said { out: String::from_utf8(stdout).unwrap(), errors, code: status.code() }
    }

    /// An image that cannot be scanned: it says why, and what is in it is no result.
    fn refuses(&self, image: Image, why: &str) {
        let said = self.scan(&image.serve(), &[]);
        assert_eq!(said.code, Some(1), "{}", said.errors);
        assert!(said.errors.contains(why), "{why}: {}", said.errors);
    }
}

fn entry(
    builder: &mut tar::Builder<Vec<u8>>,
    path: &str,
    kind: tar::EntryType,
    target: &str,
    content: &[u8],
) {
    let mut head = tar::Header::new_gnu();
    head.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
    head.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    head.set_entry_type(kind);
    head.set_size(content.len() as u64);
    head.set_mode(0o644);
    head.set_cksum();
    builder.append(&head, content).unwrap();
}

fn layer(entries: &[(&str, tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, target, content) in entries {
        entry(&mut builder, path, *kind, target, content.as_bytes());
    }
    builder.into_inner().unwrap()
}

use tar::EntryType as T;

fn alpine() -> Vec<u8> {
    layer(&[("etc/os-release", T::Regular, "", RELEASE), ("lib/apk/db/installed", T::Regular, "", APK)])
}

#[test]
fn a_registry_that_is_busy_slow_or_forgets_its_tokens_is_asked_again() {
    let desk = Desk::new();
    let image = Image::new(&[alpine()]);
    let (asked, tokens) = (AtomicUsize::new(0), Mutex::new(Vec::<String>::new()));
    let address = std::sync::Arc::new(Mutex::new(String::new()));
    let here = std::sync::Arc::clone(&address);
    let served = serve(None, move |request: &Asked| {
        let mut tokens = tokens.lock().unwrap();
        if request.path.starts_with("/token") {
            assert!(request.authorization.starts_with("Basic "), "the authority is told who asks");
            let next = format!("t{}", tokens.len());
            tokens.push(next);
            let text = json!({"token": tokens.last().unwrap(), "expires_in": 300}).to_string();
            return Answer::of(text);
        }
        let number = asked.fetch_add(1, Ordering::SeqCst);
        // Every other token ends as soon as it was used.
        let last = tokens.last().cloned().unwrap_or_default();
        if last.is_empty() || request.authorization != format!("Bearer {last}") || number % 5 == 4 {
            let challenge = format!("Bearer realm=\"http://{}/token\",service=\"lab\"", here.lock().unwrap());
            return Answer::status(401).header("www-authenticate", &challenge);
        }
        match number {
            2 => Answer::status(429).header("retry-after", "0"),
            3 => Answer::status(500),
            _ => Answer { slowly: Some(512), ..image.answer(request) },
        }
    });
    *address.lock().unwrap() = served.to_string();
    let said = desk.scan(&format!("http://{served}"), &[]);
    assert_eq!(said.code, Some(0), "{}", said.errors);
    assert!(said.out.contains("CVE-2023-42363"), "{}", said.out);
}

#[test]
fn a_registry_that_refuses_or_fails_is_told_with_its_answer() {
    let desk = Desk::new();
    for (answer, why) in [
        (Answer::status(401), "401"),
        (Answer::status(403), "403"),
        (Answer::status(404), "has no manifest"),
        (Answer::status(429).header("retry-after", "3600"), "asks to wait 3600 s"),
        (Answer { body: b"out of disk".to_vec(), ..Answer::status(500) }, "500"),
        (
            Answer { length: Some(5_000_000_000), zeros: 1 << 32, ..Answer::of("{") },
            "is larger than 4194304 bytes",
        ),
        (Answer::of("<html>"), "is no manifest"),
        (Answer::of("[".repeat(100_000)), "is no manifest"),
    ] {
        let url = format!("http://{}", serve(None, move |_: &Asked| answer.clone()));
        let said = desk.scan(&url, &[]);
        assert_eq!(said.code, Some(1), "{why}");
        assert!(said.errors.contains(why) && said.out.is_empty(), "{why}: {}", said.errors);
    }
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = desk.scan(&format!("http://{gone}"), &[]);
    assert!(said.code == Some(1) && said.errors.contains(&gone.to_string()), "{}", said.errors);
}

#[test]
fn a_registry_with_an_authority_of_its_own_is_trusted_where_that_is_named_and_not_before() {
    let desk = Desk::new();
    let now = SystemClock::new().now();
    for folder in ["ca", "other"] {
        fs::create_dir(desk.path().join(folder)).unwrap();
    }
    let authority = nv_pki::Authority::open(&desk.path().join("ca"), now).unwrap();
    let names = ["localhost".to_owned()];
    let issued = authority.issue_server(&names, &[IpAddr::V4(Ipv4Addr::LOCALHOST)], now).unwrap();
    let image = Image::new(&[alpine()]);
    let served = serve(Some(nv_pki::tls::web_server(&issued).unwrap()), move |request| image.answer(request));
    let url = format!("https://{served}");
    let said = desk.scan(&url, &[]);
    assert_eq!(said.code, Some(1));
    assert!(said.errors.contains("certificate") && said.out.is_empty(), "{}", said.errors);
    let ca = desk.path().join("ca.pem");
    fs::write(&ca, authority.certificate_pem()).unwrap();
    let other = desk.path().join("other.pem");
    let stranger = nv_pki::Authority::open(&desk.path().join("other"), now).unwrap();
    fs::write(&other, stranger.certificate_pem()).unwrap();
    for (further, code) in [
        (&["--registry-ca", ca.to_str().unwrap()][..], 0),
        (&["--registry-ca", other.to_str().unwrap()], 1),
        (&["--registry-insecure"], 0),
    ] {
        let said = desk.scan(&url, further);
        assert_eq!(said.code, Some(code), "{further:?}: {}", said.errors);
        assert_eq!(said.out.contains("CVE-2023-42363"), code == 0, "{further:?}");
    }
}

#[test]
fn what_is_not_what_the_manifest_says_is_no_image() {
    let desk = Desk::new();
    let first = |image: &Image| format!("/v2/shop/web/blobs/{}", image.layers[0]);

    let mut wrong = Image::new(&[alpine()]);
    let path = first(&wrong);
    let mut bytes = alpine();
    bytes[600] ^= 1;
    wrong.parts.insert(path, Answer::of(bytes));
    desk.refuses(wrong, "digest");

    let mut cut = Image::new(&[alpine()]);
    let path = first(&cut);
    let whole = alpine();
    let half = whole[..whole.len() / 2].to_vec();
    cut.parts.insert(path, Answer { length: Some(whole.len() as u64), ..Answer::of(half) });
    desk.refuses(cut, "layer sha256:");

    let mut none = Image::new(&[alpine()]);
    let path = first(&none);
    none.parts.remove(&path);
    desk.refuses(none, "has no blob");

    // An index that names itself, as far as that can be done with digests: one in one.
    let mut cyclic = Image::new(&[alpine()]);
    let inner = cyclic.manifest(&json!({"manifests": [{"digest": format!("sha256:{}", digits(b"x"))}]}));
    cyclic.tag(&json!({"manifests": [{"digest": inner}]}));
    desk.refuses(cyclic, "is no image");

    let mut itself = Image::new(&[alpine()]);
    let digest = format!("sha256:{}", digits(b"itself"));
    let index = json!({"manifests": [{"digest": digest}]});
    itself.parts.insert(format!("/v2/shop/web/manifests/{digest}"), Answer::of(index.to_string()));
    itself.tag(&index);
    desk.refuses(itself, "digest");

    let mut large = Image::new(&[alpine()]);
    let config = json!({"digest": format!("sha256:{}", digits(b"c")), "size": 4_u64 << 30});
    large.tag(&json!({"config": config, "layers": []}));
    desk.refuses(large, "a configuration of 4294967296 bytes");
}

#[test]
fn what_a_hostile_layer_has_leads_nowhere_and_hides_nothing() {
    let desk = Desk::new();
    let hostile = layer(&[
        ("../../etc/os-release", T::Regular, "", "ID=debian\nVERSION_ID=12\n"),
        ("etc/loop", T::Symlink, "loop", ""),
        ("a", T::Symlink, "b", ""),
        ("b", T::Symlink, "a", ""),
        ("a/os-release", T::Regular, "", "ID=debian\n"),
        ("passwd", T::Link, "../../../etc/passwd", ""),
        ("self", T::Link, "self", ""),
        ("requirements.txt", T::Symlink, "/etc/shadow", ""),
    ]);
    let mut many = tar::Builder::new(Vec::new());
    for number in 0..100_000 {
        entry(&mut many, &format!("f/{number}"), T::Regular, "", b"");
    }
    let many = many.into_inner().unwrap();
    let (packed, mark) = (zstd::encode_all(&many[..], 1).unwrap(), format!("sha256:{}", digits(&many)));
    let layers = [(&alpine()[..], String::new()), (&hostile[..], String::new()), (&packed[..], mark)];
    let said = desk.scan(&Image::with_marks(&layers).serve(), &[]);
    assert_eq!(said.code, Some(0), "{}", said.errors);
    assert!(said.out.contains("CVE-2023-42363") && said.out.contains("alpine:3.18.4"), "{}", said.out);
    assert!(said.errors.contains("leads out of the root"), "{}", said.errors);
}

#[test]
fn a_layer_that_grows_without_end_is_given_up_and_the_others_are_read() {
    let desk = Desk::new();
    let mut head = tar::Header::new_gnu();
    head.set_path("zeros").unwrap();
    head.set_size(1 << 40);
    head.set_cksum();
    let mut bomb = zstd::Encoder::new(Vec::new(), 1).unwrap();
    bomb.write_all(head.as_bytes()).unwrap();
    let zeros = vec![0; 1 << 20];
    for _ in 0..300 {
        bomb.write_all(&zeros).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    let mark = format!("sha256:{}", digits(b"never known"));
    let layers = [(&bomb[..], mark), (&alpine()[..], String::new())];
    let said = desk.scan(&Image::with_marks(&layers).serve(), &[]);
    assert_eq!(said.code, Some(1), "what is in it may be the worst");
    assert!(said.errors.contains("made to fill memory or disks"), "{}", said.errors);
    assert!(said.out.contains("CVE-2023-42363"), "{}", said.out);
}
