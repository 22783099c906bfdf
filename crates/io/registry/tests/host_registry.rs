//! Against Debian's `docker-registry`, and against a server with troubles of its own.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod trouble;

use nv_lab::Registry as Lab;
use nv_registry::{Credentials, Digest, Options, Pages, Reference, Registry, RegistryError, Repository};
use sha2::{Digest as _, Sha256};

/// Names in one list.
async fn all(mut pages: Pages<'_>) -> Vec<String> {
    let mut names = Vec::new();
    while let Some(page) = pages.next().await.unwrap() {
        names.extend(page);
    }
    names
}

fn digest(bytes: &[u8]) -> Digest {
    let sum = Sha256::digest(bytes);
    let hex: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}").parse().unwrap()
}

fn reader() -> Option<Credentials> {
    let (user, password) = Lab::USER;
    Some(Credentials::Password { user: user.into(), password: password.to_owned().into() })
}

fn registry(url: &str, credentials: Option<Credentials>) -> Registry {
    Registry::new(Options { url: url.to_owned(), credentials, ..Options::default() }).unwrap()
}

async fn whole(
    registry: &Registry,
    name: &str,
    wanted: &Digest,
    size: usize,
) -> Result<Vec<u8>, RegistryError> {
    let repository: Repository = name.parse().unwrap();
    let mut blob = registry.blob(&repository, wanted, size.try_into().unwrap()).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = blob.next().await? {
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}

/// An image of one layer; its manifest.
async fn push_image(lab: &Lab, name: &str, tag: &str, layer: &[u8]) -> Vec<u8> {
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;
    lab.push_image(name, tag, config, &[layer]).await.unwrap()
}

#[tokio::test]
async fn what_a_closed_registry_has_is_listed_and_read_with_its_digests() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path(), true).await.unwrap();
    let layer: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let manifest = push_image(&lab, "shop/web", "1.0", &layer).await;
    push_image(&lab, "shop/web", "latest", &layer).await;
    push_image(&lab, "tools", "1", b"tools").await;

    let registry = registry(&lab.url(), reader());
    registry.check().await.unwrap();
    assert_eq!(all(registry.repositories().unwrap()).await, ["shop/web", "tools"]);
    let web: Repository = "shop/web".parse().unwrap();
    let mut tags = all(registry.tags(&web).unwrap()).await;
    // This registry has them in no order.
    tags.sort();
    assert_eq!(tags, ["1.0", "latest"]);

    let by_tag = registry.manifest(&web, &"1.0".parse().unwrap()).await.unwrap();
    assert_eq!((&by_tag.bytes, &by_tag.digest), (&manifest, &digest(&manifest)));
    assert_eq!(by_tag.media_type, "application/vnd.oci.image.manifest.v1+json");
    let by_digest = registry.manifest(&web, &Reference::Digest(by_tag.digest.clone())).await.unwrap();
    assert_eq!(by_digest, by_tag);
    assert_eq!(whole(&registry, "shop/web", &digest(&layer), layer.len()).await.unwrap(), layer);
}

#[tokio::test]
async fn a_closed_registry_says_whom_it_does_not_let_in_and_what_it_does_not_have() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path(), true).await.unwrap();
    let wrong = Credentials::Password { user: "reader".into(), password: "wrong".to_owned().into() };
    for credentials in [None, Some(wrong), Some(Credentials::Token("token".to_owned().into()))] {
        let error = registry(&lab.url(), credentials).check().await.unwrap_err();
        assert!(matches!(error, RegistryError::Denied { status: 401, .. }), "{error}");
    }
    let registry = registry(&lab.url(), reader());
    let none: Repository = "no/such".parse().unwrap();
    let error = registry.manifest(&none, &"1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, RegistryError::NotFound { .. }), "{error}");
    assert!(error.to_string().contains("manifest no/such:1"), "{error}");
}

#[tokio::test]
async fn a_changed_blob_and_one_longer_than_its_manifest_says_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::start(folder.path(), false).await.unwrap();
    let layer = b"a layer that somebody changes in the registry's own folder";
    push_image(&lab, "shop/web", "1", layer).await;
    let registry = registry(&lab.url(), None);
    let error = whole(&registry, "shop/web", &digest(layer), layer.len() - 1).await.unwrap_err();
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");

    let digest_of_layer = digest(layer);
    let hex = digest_of_layer.as_str().strip_prefix("sha256:").unwrap();
    let data = folder
        .path()
        .join("data/docker/registry/v2/blobs/sha256")
        .join(hex.get(..2).unwrap())
        .join(hex)
        .join("data");
    let mut bytes = std::fs::read(&data).unwrap();
    bytes[3] ^= 1;
    std::fs::write(&data, bytes).unwrap();
    let error = whole(&registry, "shop/web", &digest(layer), layer.len()).await.unwrap_err();
    assert!(matches!(error, RegistryError::Digest { what: "a blob", .. }), "{error}");
}

#[tokio::test]
async fn a_token_is_fetched_once_and_again_when_it_has_ended() {
    let server = trouble::Server::start().await;
    let one = registry(&server.url("tokens"), reader());
    let name: Repository = "a".parse().unwrap();
    for _ in 0..3 {
        assert_eq!(all(one.tags(&name).unwrap()).await, ["1"]);
    }
    assert_eq!(server.tokens(), 1, "one token serves one repository");
    server.forget_tokens();
    assert_eq!(all(one.tags(&name).unwrap()).await, ["1"]);
    assert_eq!(server.tokens(), 2);
    let nobody = registry(&server.url("tokens"), None);
    let error = nobody.check().await.unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_when_it_says_and_a_broken_blob_from_where_it_broke() {
    let server = trouble::Server::start().await;
    let registry = registry(&server.url("busy"), None);
    let name: Repository = "a".parse().unwrap();
    assert_eq!(all(registry.tags(&name).unwrap()).await, ["1"], "429 and 503 pass");
    let blob = trouble::blob();
    assert_eq!(whole(&registry, "a", &digest(&blob), blob.len()).await.unwrap(), blob);
    assert_eq!(server.ranges(), ["bytes=1000-", "bytes=2000-"]);
}

#[tokio::test]
async fn a_registry_that_does_not_keep_to_the_rules_is_told_apart() {
    let server = trouble::Server::start().await;
    let name: Repository = "a".parse().unwrap();
    let error = |kind: &str| {
        let (registry, name) = (registry(&server.url(kind), None), name.clone());
        async move {
            let mut pages = registry.tags(&name).unwrap();
            loop {
                match pages.next().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("the list ended"),
                    Err(error) => break error,
                }
            }
        }
    };
    let endless = error("endless").await;
    assert!(endless.to_string().contains("does not end"), "{endless}");
    let elsewhere = error("elsewhere").await;
    assert!(elsewhere.to_string().contains("not one of this registry"), "{elsewhere}");
    let huge = error("huge").await;
    assert!(matches!(huge, RegistryError::TooLarge { .. }), "{huge}");
    let strange = error("strange").await;
    assert!(matches!(strange, RegistryError::Malformed { .. }), "{strange}");
    let patient = error("patient").await;
    assert!(patient.to_string().contains("asks to wait 3600 s"), "{patient}");
    let refused = error("refused").await;
    assert!(
        refused.to_string().contains("400") && refused.to_string().contains("NAME_INVALID no"),
        "{refused}"
    );
}

#[test]
fn an_address_that_is_none_is_refused_before_anything_is_sent() {
    for url in ["", "registry.example", "ftp://r", "http://", "https://user:pass@r", "https://r/?a=b"] {
        let error = Registry::new(Options { url: url.into(), ..Options::default() }).unwrap_err();
        assert!(matches!(error, RegistryError::Address { .. }), "{url}: {error}");
    }
}
