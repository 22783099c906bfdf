//! Signatures beside an image, against Debian's `docker-registry`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot go on without fails it"
)]

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nv_lab::Registry;
use nv_role_scanner::{ImageChoice, RegistryImages, RegistryOptions, Remarks, SignatureFacts, read_trust};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const NOW: u64 = 1_767_312_000;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";

struct Key(EcdsaKeyPair);

impl Key {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    fn pem(&self) -> String {
        let info = BASE64_STANDARD.encode(self.0.public_key().as_der().unwrap().as_ref());
        format!("-----BEGIN PUBLIC KEY-----\n{info}\n-----END PUBLIC KEY-----\n")
    }

    fn sign(&self, message: &[u8]) -> String {
        BASE64_STANDARD.encode(self.0.sign(&SystemRandom::new(), message).unwrap())
    }

    /// As cosign signs before its third version: an image of its own under a tag made of the digest.
    async fn sign_by_tag(&self, registry: &Registry, name: &str, digest: &str) {
        let payload = json!({"critical": {"identity": {"docker-reference": name},
            "image": {"docker-manifest-digest": digest}, "type": "cosign container image signature"}})
        .to_string();
        let kind = "application/vnd.dev.cosign.simplesigning.v1+json";
        let mut layer = registry.push_blob(name, kind, payload.as_bytes()).await.unwrap();
        layer["annotations"] = json!({"dev.cosignproject.cosign/signature": self.sign(payload.as_bytes())});
        let config =
            registry.push_blob(name, "application/vnd.oci.image.config.v1+json", b"{}").await.unwrap();
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]})
                .to_string();
        let tag = format!("{}.sig", digest.replace(':', "-"));
        registry.push_manifest(name, &tag, MANIFEST, manifest.as_bytes()).await.unwrap();
    }

    /// As it signs since: a bundle that refers to the image, listed under the tag that stands in for a registry's own list.
    async fn sign_by_referrer(&self, registry: &Registry, name: &str, digest: &str) {
        let digits = digest.strip_prefix("sha256:").unwrap();
        let statement = json!({"_type": "https://in-toto.io/Statement/v1",
            "subject": [{"digest": {"sha256": digits}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1", "predicate": {}})
        .to_string();
        let signed = format!("DSSEv1 28 application/vnd.in-toto+json {} {statement}", statement.len());
        let bundle = json!({"mediaType": BUNDLE,
            "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
            "dsseEnvelope": {"payload": BASE64_STANDARD.encode(&statement),
                "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": self.sign(signed.as_bytes())}]}})
        .to_string();
        let layer = registry.push_blob(name, BUNDLE, bundle.as_bytes()).await.unwrap();
        let empty = "application/vnd.oci.empty.v1+json";
        let config = registry.push_blob(name, empty, b"{}").await.unwrap();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST, "artifactType": BUNDLE,
            "config": config, "layers": [layer],
            "subject": {"mediaType": MANIFEST, "digest": digest, "size": 1}})
        .to_string();
        let own = sha256(manifest.as_bytes());
        registry.push_manifest(name, &own, MANIFEST, manifest.as_bytes()).await.unwrap();
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
            {"mediaType": MANIFEST, "digest": own, "size": manifest.len(), "artifactType": empty}]})
        .to_string();
        let tag = digest.replace(':', "-");
        registry.push_manifest(name, &tag, INDEX, index.as_bytes()).await.unwrap();
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// Who signed, when these keys count.
async fn signed(registry: &Registry, name: &str, keys: &[(&str, &Key)]) -> SignatureFacts {
    let folder = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (name, key) in keys {
        let path = folder.path().join(name);
        std::fs::write(&path, key.pem()).unwrap();
        files.push(path);
    }
    let (url, name) = (registry.url(), name.to_owned());
    tokio::task::spawn_blocking(move || {
        let mut errors = Vec::new();
        let mut remarks = Remarks::new(&mut errors);
        let trust = read_trust(&files, &[], &mut remarks).unwrap().unwrap();
        let images =
            RegistryImages::new(RegistryOptions { url, ..RegistryOptions::default() }, &name).unwrap();
        let image = images.image(&ImageChoice::default()).unwrap();
        let facts = images.signed(&image, &trust, NOW).unwrap();
        assert_eq!(String::from_utf8(errors).unwrap(), "");
        facts
    })
    .await
    .unwrap()
}

const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_beside_an_image_counts_for_the_key_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), false).await.unwrap();
    let (old, new, nobody) = (Key::new(), Key::new(), Key::new());
    let manifest = registry.push_image("shop/web", "1", CONFIG, &[]).await.unwrap();
    let unsigned = signed(&registry, "shop/web:1", &[("old.pub", &old)]).await;
    assert_eq!(unsigned.verifiers, Vec::<String>::new());
    assert_eq!(unsigned.reasons, [format!("{} has no signature", sha256(&manifest))]);

    old.sign_by_tag(&registry, "shop/web", &sha256(&manifest)).await;
    new.sign_by_referrer(&registry, "shop/web", &sha256(&manifest)).await;
    let keys = [("old.pub", &old), ("new.pub", &new), ("nobody.pub", &nobody)];
    let found = signed(&registry, "shop/web:1", &keys).await;
    assert_eq!(found.verifiers, ["key/new.pub", "key/old.pub"]);
    assert_eq!(found.reasons.len(), 2, "one a signature: {:?}", found.reasons);
    assert!(found.reasons.iter().all(|reason| reason.starts_with("key/nobody.pub: ")), "{:?}", found.reasons);

    // What was pushed under the same name later is another image: the signature is not its.
    let other = CONFIG.to_vec().into_iter().chain(*b" ").collect::<Vec<u8>>();
    registry.push_image("shop/web", "1", &other, &[]).await.unwrap();
    assert_eq!(signed(&registry, "shop/web:1", &keys).await.verifiers, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_signature_of_an_index_is_one_of_the_images_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start(folder.path(), false).await.unwrap();
    let key = Key::new();
    let manifest = registry.push_image("shop/web", "of-amd64", CONFIG, &[]).await.unwrap();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [
        {"mediaType": MANIFEST, "digest": sha256(&manifest), "size": manifest.len(),
            "platform": {"os": "linux", "architecture": "amd64"}}]})
    .to_string();
    registry.push_manifest("shop/web", "1", INDEX, index.as_bytes()).await.unwrap();
    key.sign_by_tag(&registry, "shop/web", &sha256(index.as_bytes())).await;
    assert_eq!(signed(&registry, "shop/web:1", &[("key", &key)]).await.verifiers, ["key/key"]);
}
