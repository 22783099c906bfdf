//! Images that lie in a real containerd and with a real Docker daemon. Needs root, containerd and Docker.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use std::path::Path;

use nv_lab::{Image, Lab, LabOptions};
use nv_role_scanner::{
    ImageChoice, ImageReading, LayerCache, LocalKind, LocalSearch, Remarks, Report, RuntimeImage,
};

/// Looks and reads on a thread of its own, as the reader waits for its requests.
async fn scan(
    socket: &Path,
    kind: LocalKind,
    name: &str,
    cache: &Path,
) -> Result<(Report, String), Vec<String>> {
    let search = LocalSearch { kind, sockets: vec![socket.to_path_buf()] };
    let (name, cache) = (name.to_owned(), cache.to_path_buf());
    let scanned = tokio::task::spawn_blocking(move || {
        let found: RuntimeImage = search.find(&name, &ImageChoice::default())?;
        let cache = LayerCache::open(&cache).unwrap();
        let how = ImageReading { cache: Some(&cache), rules: None, process: None };
        let mut errors = Vec::new();
        let report = found.read(&how, &mut Remarks::new(&mut errors));
        Ok((report, String::from_utf8(errors).unwrap()))
    });
    scanned.await.unwrap()
}

fn packages(report: &Report) -> Vec<(&str, Option<usize>)> {
    report.packages.iter().map(|found| (&*found.package.name, found.layer)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_read_where_it_lies_in_containerd_and_in_docker() {
    let lab = Lab::start(LabOptions::fresh().unwrap()).await.unwrap();
    let docker = lab.start_docker().await.unwrap();
    let image = |name: &str, what: &str| {
        let content = format!("{what}==1.0\n");
        Image::empty(name).file("/app/requirements.txt", content, 0o644).user("65534").command(&["/x"])
    };
    let folder = tempfile::tempdir().unwrap();
    let (containerd, engine, cache) = (lab.socket(), docker.socket(), folder.path().join("cache"));

    // Kubernetes' namespace goes before the one of people.
    lab.import_into("default", &image("docker.io/shop/web:1", "django")).await.unwrap();
    lab.import_into("k8s.io", &image("docker.io/shop/web:1", "flask")).await.unwrap();
    lab.import_into("default", &image("docker.io/library/only:latest", "jinja2")).await.unwrap();
    for (name, want) in [("shop/web:1", "flask"), ("docker.io/shop/web:1", "flask"), ("only", "jinja2")] {
        let (report, said) = scan(containerd, LocalKind::Any, name, &cache).await.unwrap();
        assert_eq!((packages(&report).as_slice(), said.as_str()), (&[(want, Some(0))][..], ""), "{name}");
        let facts = report.image.as_ref().unwrap();
        assert!(facts.digest.starts_with("sha256:") && facts.user == "65534", "{facts:#?}");
        let digest = facts.digest.clone();
        let (again, _) = scan(containerd, LocalKind::Containerd, &digest, &cache).await.unwrap();
        assert_eq!(packages(&again), packages(&report), "by the digest of its manifest");
    }

    // A second layer, without a container that runs.
    docker.import(&image("shop/base:1", "flask")).await.unwrap();
    docker.run(&["create", "--name", "made", "shop/base:1"]).await.unwrap();
    let file = folder.path().join("poetry.lock");
    std::fs::write(&file, "[[package]]\nname = \"django\"\nversion = \"4.2\"\n").unwrap();
    docker.run(&["cp", file.to_str().unwrap(), "made:/app/poetry.lock"]).await.unwrap();
    docker.run(&["commit", "made", "shop/web:2"]).await.unwrap();
    for name in ["shop/web:2", "docker.io/shop/web:2", "shop/web:2"] {
        let (report, said) = scan(&engine, LocalKind::Docker, name, &cache).await.unwrap();
        let mut found = packages(&report);
        found.sort_unstable();
        assert_eq!((found.as_slice(), said.as_str()), (&[("django", Some(1)), ("flask", Some(0))][..], ""));
        let facts = report.image.as_ref().unwrap();
        assert_eq!((facts.names.as_slice(), facts.user.as_str()), (&["shop/web:2".to_owned()][..], "65534"));
    }

    // Docker's image is not in containerd's store, and the other way round; an error says where was looked.
    for (socket, name) in [(containerd, "shop/web:2"), (engine.as_path(), "only"), (containerd, "a b?c")] {
        let tried = scan(socket, LocalKind::Any, name, &cache).await.unwrap_err().join("; ");
        assert!(tried.contains(&format!("{} has no image {name}", socket.display())), "{tried}");
    }
    let nobody = folder.path().join("nobody.sock");
    let tried = scan(&nobody, LocalKind::Any, "only", &cache).await.unwrap_err().join("; ");
    assert!(tried.contains("cannot connect to the container runtime"), "{tried}");

    // What containerd does not have any more is told, with a reason.
    let blobs = lab.options().dir.join("root/io.containerd.content.v1.content/blobs/sha256");
    let (report, _) = scan(containerd, LocalKind::Any, "only", &cache).await.unwrap();
    let layer = report.image.as_ref().unwrap().layers[0].digest.replace("sha256:", "");
    std::fs::remove_file(blobs.join(&layer)).unwrap();
    let (report, said) = scan(containerd, LocalKind::Any, "only", &folder.path().join("new")).await.unwrap();
    assert!(said.contains("discard_unpacked_layers") && said.contains(&layer), "{said}");
    assert!(!report.image.as_ref().unwrap().layers[0].unread.is_empty());
    docker.run(&["rm", "made"]).await.unwrap();
    lab.stop().await.unwrap();
}
