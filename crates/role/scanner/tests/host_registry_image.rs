//! An image in a registry to a report, against Debian's `docker-registry`.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use nv_lab::Registry;
use nv_role_scanner::{
    Credentials, ImageChoice, ImageReading, LayerCache, RegistryImages, RegistryOptions, Remarks, Report,
    ScannerError, read_image,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};

fn layer(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut head = tar::Header::new_gnu();
        head.set_size(content.len().try_into().unwrap());
        head.set_mode(0o644);
        builder.append_data(&mut head, path, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    let digits: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let marks: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": marks}})
        .to_string()
        .into()
}

fn images(url: &str, name: &str) -> Result<RegistryImages, ScannerError> {
    let (user, password) = Registry::USER;
    let credentials = Credentials::Password { user: user.into(), password: password.to_owned().into() };
    RegistryImages::new(
        RegistryOptions { url: url.to_owned(), credentials: Some(credentials), ..RegistryOptions::default() },
        name,
    )
}

/// Scans on a thread of its own, as the reader waits for its requests.
async fn scan(
    url: &str,
    name: &str,
    cache: Option<&std::path::Path>,
) -> (Result<Report, ScannerError>, String) {
    let (url, name, cache) = (url.to_owned(), name.to_owned(), cache.map(std::path::Path::to_owned));
    tokio::task::spawn_blocking(move || {
        let mut errors = Vec::new();
        let mut remarks = Remarks::new(&mut errors);
        let report = images(&url, &name).and_then(|images| {
            let image = images.image(&ImageChoice::default())?;
            let cache = cache.as_deref().map(LayerCache::open).transpose().unwrap();
            let how = ImageReading { cache: cache.as_ref(), rules: None, process: None };
            Ok(read_image(&images, &image, &how, &mut remarks))
        });
        (report, String::from_utf8(errors).unwrap())
    })
    .await
    .unwrap()
}

fn packages(report: &Report) -> Vec<(&str, &str)> {
    report.packages.iter().map(|found| (&*found.package.name, &*found.package.version)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_a_registry_is_read_and_its_layers_never_twice() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), true).await.unwrap();
    let layers = [
        layer(&[("app/requirements.txt", "flask==2.0.1\n")]),
        layer(&[("more/requirements.txt", "django==4.2\n")]),
    ];
    let parts: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    let manifest = registry.push_image("shop/web", "1.0", &config(&layers), &parts).await.unwrap();

    let cache = tempfile::tempdir().unwrap();
    let (report, remarks) = scan(&registry.url(), "shop/web:1.0", Some(cache.path())).await;
    let report = report.unwrap();
    assert_eq!(remarks, "");
    assert_eq!(packages(&report), [("flask", "2.0.1"), ("django", "4.2")]);
    let facts = report.image.as_ref().unwrap();
    assert_eq!((facts.digest.as_str(), facts.platform.as_str()), (digest(&manifest).as_str(), "linux/amd64"));
    assert!(report.subject.ends_with("/shop/web:1.0"), "{}", report.subject);

    // The layers are gone from the registry: what is known of them is enough, by tag and by digest.
    for one in &layers {
        let digest = digest(one);
        let digits = digest.strip_prefix("sha256:").unwrap();
        let blob = folder.path().join("data/docker/registry/v2/blobs/sha256");
        std::fs::remove_dir_all(blob.join(digits.get(..2).unwrap()).join(digits)).unwrap();
    }
    let by_digest = format!("shop/web@{}", digest(&manifest));
    for name in ["shop/web:1.0", by_digest.as_str()] {
        let (again, remarks) = scan(&registry.url(), name, Some(cache.path())).await;
        assert_eq!((packages(&again.unwrap()), remarks.as_str()), (packages(&report), ""));
    }
    let (without, remarks) = scan(&registry.url(), "shop/web:1.0", None).await;
    assert_eq!(packages(&without.unwrap()), []);
    assert_eq!(remarks.matches("has no blob").count(), 2, "{remarks}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_image_and_what_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), true).await.unwrap();
    registry.push_image("shop/web", "1.0", b"{}", &[]).await.unwrap();
    for (name, message) in [
        ("shop/web:2", "has no manifest shop/web:2"),
        ("Shop", "no name of a repository"),
        ("shop/web@sha256:1", "no digest"),
        ("shop/web:", "no tag"),
    ] {
        let (report, _) = scan(&registry.url(), name, None).await;
        let error = nv_telemetry::chain(&report.unwrap_err());
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_was_built_on_is_seen_by_its_layers() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), true).await.unwrap();
    let base = layer(&[("base/requirements.txt", "flask==2.0.1\n")]);
    let both = [base.clone(), layer(&[("app/requirements.txt", "django==4.2\n")])];
    let other = [layer(&[("x/requirements.txt", "jinja2==3\n")])];
    registry.push_image("base", "1", &config(std::slice::from_ref(&base)), &[&base]).await.unwrap();
    let parts: Vec<&[u8]> = both.iter().map(Vec::as_slice).collect();
    registry.push_image("shop/web", "1", &config(&both), &parts).await.unwrap();
    registry.push_image("other", "1", &config(&other), &[&other[0]]).await.unwrap();
    let url = registry.url();
    let scanned = tokio::task::spawn_blocking(move || {
        let images = images(&url, "shop/web:1").unwrap();
        let choice = ImageChoice::default();
        let image = images.image(&choice).unwrap();
        assert_eq!(images.base_layers(&image, "other:1", &choice).unwrap(), None);
        assert!(images.base_layers(&image, "none:1", &choice).is_err());
        let mut errors = Vec::new();
        let mut report =
            read_image(&images, &image, &ImageReading::default(), &mut Remarks::new(&mut errors));
        report.image.as_mut().unwrap().base_layers = images.base_layers(&image, "base:1", &choice).unwrap();
        report
    });
    let report = scanned.await.unwrap();
    let base = report.of_base().unwrap();
    let in_base: Vec<(&str, bool)> =
        report.packages.iter().map(|found| (&*found.package.name, base.contains(&found.package))).collect();
    assert_eq!(in_base, [("django", false), ("flask", true)]);
}
