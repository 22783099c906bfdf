//! Images on disk to reports: layers over one another, archives of each kind, and parts that are damaged.

#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use nv_role_scanner::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tar::EntryType;

/// An entry of a layer: path, content, what it links to.
type Entry<'a> = (&'a str, EntryType, &'a str, &'a [u8]);

const fn file<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    (path, EntryType::Regular, "", content)
}

fn layer(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, kind, link, content) in entries {
        let mut head = tar::Header::new_gnu();
        head.set_entry_type(*kind);
        head.set_size(content.len() as u64);
        head.set_mode(if path.ends_with("su") { 0o4755 } else { 0o644 });
        if link.is_empty() {
            builder.append_data(&mut head, path, *content).unwrap();
        } else {
            builder.append_link(&mut head, path, link).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn digits(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn put(root: &Path, path: &str, bytes: &[u8]) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Writes a blob and says what names it.
fn blob(root: &Path, bytes: &[u8]) -> Value {
    put(root, &format!("blobs/sha256/{}", digits(bytes)), bytes);
    json!({"digest": format!("sha256:{}", digits(bytes)), "size": bytes.len()})
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let marks: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", digits(layer))).collect();
    let history: Vec<Value> = (0..layers.len()).map(|n| json!({"created_by": format!("RUN {n}")})).collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"diff_ids": marks}, "history": history,
        "config": {"User": "app", "Env": ["A=b", "TOKEN=h7Gk2pQz9wLm"], "Labels": {"x": "y"}}})
    .to_string()
    .into_bytes()
}

/// An OCI layout with one image.
fn layout(root: &Path, layers: &[Vec<u8>]) -> PathBuf {
    let config = blob(root, &config(layers));
    let layers: Vec<Value> = layers.iter().map(|layer| blob(root, &gzip(layer))).collect();
    let manifest = blob(root, json!({"config": config, "layers": layers}).to_string().as_bytes());
    put(root, "index.json", json!({"manifests": [manifest]}).to_string().as_bytes());
    root.to_owned()
}

fn read(path: &Path, cache: Option<&LayerCache>) -> (Report, String) {
    let mut errors = Vec::new();
    let mut remarks = Remarks::new(&mut errors);
    let (store, image) = open_image(path, &ImageChoice::default(), &mut remarks).unwrap();
    let rules = SecretRules::built_in().unwrap();
    let how = ImageReading { cache, rules: Some(&rules), process: None };
    let report = read_image(&store, &image, &how, &mut remarks);
    (report, String::from_utf8(errors).unwrap())
}

fn seen(report: &Report) -> Vec<(&str, &str, Option<usize>)> {
    report.packages.iter().map(|found| (&*found.file, &*found.package.name, found.layer)).collect()
}

const RELEASE: &[u8] = b"ID=alpine\nVERSION_ID=3.20.3\n";
const FLASK: &[u8] = b"flask==2.0.1\n";

fn layers() -> Vec<Vec<u8>> {
    vec![
        layer(&[
            file("etc/os-release", RELEASE),
            file("bin/su", b"x"),
            file("a/requirements.txt", FLASK),
            file("b/requirements.txt", FLASK),
            file("c/requirements.txt", FLASK),
            file("d/requirements.txt", FLASK),
            file("e/requirements.txt", FLASK),
            file("kept/requirements.txt", FLASK),
        ]),
        layer(&[
            file("a/.wh.requirements.txt", b""),
            file("b/.wh..wh..opq", b""),
            file("b/pinned", b"django==4.2\n"),
            ("b/requirements.txt", EntryType::Link, "b/pinned", b""),
            ("c", EntryType::Symlink, "elsewhere", b""),
            file("d/requirements.txt", b""),
            (".wh.e", EntryType::Regular, "", b""),
            ("f/requirements.txt", EntryType::Link, "kept/requirements.txt", b""),
        ]),
    ]
}

#[test]
fn layers_lie_over_one_another_and_hard_links_give_files_further_names() {
    let folder = tempfile::tempdir().unwrap();
    let (report, errors) = read(&layout(folder.path(), &layers()), None);
    assert_eq!(errors, "");
    assert_eq!(
        seen(&report),
        [
            ("b/requirements.txt", "django", Some(1)),
            ("f/requirements.txt", "flask", Some(1)),
            ("kept/requirements.txt", "flask", Some(0)),
        ]
    );
    assert_eq!(report.distribution.as_ref().unwrap().version, "3.20.3");
    assert_eq!(report.set_ids, [SetId { file: "bin/su".to_owned(), mode: 0o4755, layer: Some(0) }]);
    let secrets: Vec<_> = report.secrets.iter().map(|s| (&*s.file, &*s.evidence)).collect();
    assert_eq!(secrets, [("env TOKEN", "h7Gk****")]);
    let image = report.image.unwrap();
    assert_eq!(image.environment, ["A=b", "TOKEN=****"]);
    assert_eq!((&*image.platform, &*image.user, &*image.labels["x"]), ("linux/amd64", "app", "y"));
    let of_layers: Vec<_> =
        image.layers.iter().map(|layer| (&*layer.command, layer.packages.len())).collect();
    assert_eq!(of_layers, [("RUN 0", 6), ("RUN 1", 1)]);
}

#[test]
fn an_image_is_the_same_as_a_folder_an_archive_and_an_archive_of_docker() {
    let folder = tempfile::tempdir().unwrap();
    let root = layout(&folder.path().join("layout"), &layers());
    let (want, _) = read(&root, None);
    let archive = folder.path().join("layout.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all(".", &root).unwrap();
    builder.finish().unwrap();
    let (found, errors) = read(&archive, None);
    assert_eq!((seen(&found), &*errors), (seen(&want), ""));

    let docker = folder.path().join("docker.tar");
    let config = config(&layers());
    let manifest =
        json!([{"Config": "c.json", "RepoTags": ["app:1"], "Layers": ["0/layer.tar", "1/layer.tar"]}]);
    let layers = layers();
    let parts = layer(&[
        file("c.json", &config),
        file("manifest.json", manifest.to_string().as_bytes()),
        file("real.tar", &layers[0]),
        ("0/layer.tar", EntryType::Symlink, "../real.tar", b""),
        file("1/layer.tar", &layers[1]),
    ]);
    fs::write(&docker, &parts).unwrap();
    let (found, errors) = read(&docker, None);
    assert_eq!((seen(&found), &*errors), (seen(&want), ""));
    assert_eq!(found.subject, "app:1");

    let packed = folder.path().join("docker.tar.gz");
    fs::write(&packed, gzip(&parts)).unwrap();
    let mut errors = Vec::new();
    let refused = open_image(&packed, &ImageChoice::default(), &mut Remarks::new(&mut errors));
    assert!(refused.is_err());
}

#[test]
fn a_layer_that_is_kept_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let root = layout(&folder.path().join("layout"), &layers());
    let cache = LayerCache::open(&folder.path().join("cache")).unwrap();
    let (first, _) = read(&root, Some(&cache));
    for layer in layers() {
        fs::remove_file(root.join("blobs/sha256").join(digits(&gzip(&layer)))).unwrap();
    }
    let (second, errors) = read(&root, Some(&cache));
    assert_eq!(errors, "");
    assert_eq!(first, second);
    let (none, errors) = read(&root, None);
    assert!(none.packages.is_empty() && errors.contains("it is missing"), "{errors}");
}

#[test]
fn damaged_layers_and_indexes_are_told_and_hide_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let root = layout(folder.path(), &layers());
    let index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0].clone();
    // An index in itself cannot have its own digest; one that is reached by a wrong digest is refused for that.
    let inner = blob(&root, json!({"manifests": [manifest.clone()]}).to_string().as_bytes());
    let mut deep = inner.clone();
    for _ in 0..6 {
        deep = blob(&root, json!({"manifests": [deep]}).to_string().as_bytes());
    }
    let missing = json!({"digest": format!("sha256:{}", "0".repeat(64))});
    let strange = json!({"digest": "md5:../../etc/passwd"});
    let attestation = json!({"digest": "x", "platform": {"os": "unknown", "architecture": "unknown"}});
    let all = json!({"manifests": [deep, missing, strange, attestation, inner]});
    put(&root, "index.json", all.to_string().as_bytes());
    let upper = root.join("blobs/sha256").join(digits(&gzip(&layers()[1])));
    let whole = fs::read(&upper).unwrap();
    fs::write(&upper, &whole[..whole.len() / 2]).unwrap();
    let (report, errors) = read(&root, None);
    for told in ["nested deeper", "is missing", "no digest that can be checked", "damaged after"] {
        assert!(errors.contains(told), "{told}: {errors}");
    }
    assert!(!report.packages.is_empty());
    let unread: Vec<bool> =
        report.image.unwrap().layers.iter().map(|layer| !layer.unread.is_empty()).collect();
    assert_eq!(unread, [false, true]);
    fs::write(&upper, gzip(&layers()[0])).unwrap();
    let (_, errors) = read(&root, None);
    assert!(errors.contains("its digest is sha256:"), "{errors}");
}

#[test]
fn of_several_images_one_must_be_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = layout(folder.path(), &layers());
    let mut index: Value = serde_json::from_slice(&fs::read(root.join("index.json")).unwrap()).unwrap();
    let mut second = index["manifests"][0].clone();
    second["annotations"] = json!({"org.opencontainers.image.ref.name": "app:2"});
    index["manifests"].as_array_mut().unwrap().push(second);
    put(&root, "index.json", index.to_string().as_bytes());
    let open = |name: Option<&str>| {
        let mut errors = Vec::new();
        let choice = ImageChoice { name: name.map(str::to_owned), platform: None };
        open_image(&root, &choice, &mut Remarks::new(&mut errors)).map(|(_, image)| image)
    };
    let Err(error) = open(None) else { panic!("one of two was taken") };
    assert!(error.to_string().contains("app:2"), "{error}");
    assert_eq!(open(Some("app:2")).unwrap().names, ["app:2"]);
    assert!(open(Some("app:3")).is_err());
}

#[test]
fn the_benchmark_is_judged_by_what_the_image_says_and_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (report, _) = read(&layout(folder.path(), &layers()), None);
    let facts = report.image.as_ref().unwrap();
    let warned: Vec<&str> = facts
        .checks
        .iter()
        .filter(|check| check.level == nv_compliance::Level::Warn)
        .map(|check| check.item.number)
        .collect();
    assert_eq!((facts.user.as_str(), facts.checks.len()), ("app", 5));
    assert_eq!(warned, ["I.4.6", "I.4.8", "I.4.10"]);
    assert_eq!(facts.history.len(), layers().len());
}
