//! Signatures made here as cosign and Sigstore make them, and one of Sigstore's public instance.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot go on without fails it"
)]

mod sign;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use nv_model::signature::{RootOfTrust, Verifier, VerifierType};
use nv_signature::{Signature, Trust, Verified};
use serde_json::json;
use sign::{
    Authority, IMAGE, Key, Log, THEN, bundle, dsse, envelope_bytes, hashedrekord, payload, simple, statement,
    text,
};

/// A certificate's signer in these tests.
const WHO: (&str, &str) = ("release@shop.example", "https://login.example");
const OTHER: &str = "sha256:0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

fn keypair(name: &str, pem: &str) -> Verifier {
    Verifier { name: name.to_owned(), public_key: pem.to_owned(), ..Verifier::default() }
}

fn keyless(name: &str, subject: &str, issuer: &str) -> Verifier {
    Verifier {
        name: name.to_owned(),
        verifier_type: VerifierType::Keyless,
        cert_issuer: issuer.to_owned(),
        cert_subject: subject.to_owned(),
        ..Verifier::default()
    }
}

/// A root with keys alone.
fn keys_only(verifiers: Vec<Verifier>) -> RootOfTrust {
    RootOfTrust { name: "team".into(), rootless_keypairs_only: true, verifiers, ..RootOfTrust::default() }
}

fn verify(root: &RootOfTrust, image: &str, signatures: &[Signature], now: i64) -> Verified {
    let (trust, faults) = Trust::new(std::slice::from_ref(root));
    assert_eq!(faults, Vec::<String>::new());
    trust.verify(image, signatures, now)
}

fn pem(info: &[u8]) -> String {
    format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", text(info))
}

#[test]
fn a_signature_counts_for_the_verifier_whose_key_made_it_and_for_no_other() {
    let (own, other) = (Key::new(), Key::new());
    let signed = simple(&payload(IMAGE), &own.sign(&payload(IMAGE)), &[]);
    let root = keys_only(vec![keypair("release", &own.pem()), keypair("nightly", &other.pem())]);
    let verified = verify(&root, IMAGE, std::slice::from_ref(&signed), THEN);
    assert_eq!(verified.verifiers, ["team/release"]);
    assert_eq!(verified.reasons, ["team/nightly: signature 1: it was not made with this key"]);

    let of_another = verify(&root, OTHER, &[signed], THEN);
    assert_eq!(of_another.verifiers, Vec::<String>::new());
    assert!(of_another.reasons[0].contains("it does not speak of this image"), "{:?}", of_another.reasons);
}

#[test]
fn rsa_and_ed25519_keys_sign_as_well_as_ecdsa() {
    let message = payload(IMAGE);
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let mut by_rsa = vec![0; rsa.public_modulus_len()];
    rsa.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &message, &mut by_rsa).unwrap();
    let edwards = Ed25519KeyPair::generate().unwrap();
    let by_edwards = edwards.sign(&message);
    for (info, signature) in [
        (rsa.public_key().as_der().unwrap().as_ref().to_vec(), by_rsa),
        (edwards.public_key().as_der().unwrap().as_ref().to_vec(), by_edwards.as_ref().to_vec()),
    ] {
        let root = keys_only(vec![keypair("release", &pem(&info))]);
        let good = verify(&root, IMAGE, &[simple(&message, &signature, &[])], THEN);
        assert_eq!(good.verifiers, ["team/release"]);
        let mut changed = signature;
        changed[9] ^= 1;
        let bad = verify(&root, IMAGE, &[simple(&message, &changed, &[])], THEN);
        assert_eq!(bad.verifiers, Vec::<String>::new());
    }
}

#[test]
fn a_root_with_a_log_wants_its_entry_of_this_very_signature() {
    let (own, log, other_log) = (Key::new(), Log(Key::new()), Log(Key::new()));
    let message = payload(IMAGE);
    let signature = own.sign(&message);
    let root = RootOfTrust {
        name: "shop".into(),
        is_private: true,
        rekor_public_key: log.0.pem(),
        verifiers: vec![keypair("release", &own.pem())],
        ..RootOfTrust::default()
    };
    let with = |log: &Log, body: serde_json::Value| {
        let logged = log.put(&body, THEN);
        simple(&message, &signature, &[("bundle", log.annotation(&logged))])
    };
    let own_entry = || hashedrekord(&message, &signature, &own.pem());
    assert_eq!(verify(&root, IMAGE, &[with(&log, own_entry())], THEN).verifiers, ["shop/release"]);
    for (signed, reason) in [
        (simple(&message, &signature, &[]), "it brings no entry"),
        (with(&other_log, own_entry()), "of another log"),
        (with(&log, hashedrekord(b"other", &signature, &own.pem())), "of another message"),
        (with(&log, hashedrekord(&message, &own.sign(&message), &own.pem())), "of another signature or key"),
        (with(&log, hashedrekord(&message, &signature, &Key::new().pem())), "of another signature or key"),
    ] {
        let verified = verify(&root, IMAGE, &[signed], THEN);
        assert_eq!(verified.verifiers, Vec::<String>::new(), "{reason}");
        assert!(verified.reasons[0].contains(reason), "{reason}: {:?}", verified.reasons);
    }
}

/// A root with everything, and a signature of it by a certificate in the older form.
fn private(authority: &Authority, log: &Log) -> RootOfTrust {
    RootOfTrust {
        name: "shop".into(),
        is_private: true,
        rekor_public_key: log.0.pem(),
        root_cert: authority.pem(),
        sct_public_key: authority.ct.pem(),
        verifiers: vec![keyless("people", WHO.0, WHO.1)],
        ..RootOfTrust::default()
    }
}

#[test]
fn a_certificate_that_ended_long_ago_counts_when_the_log_says_that_it_was_used_before() {
    let (authority, log, own) = (Authority::new(), Log(Key::new()), Key::new());
    let certified = authority.certify(&own, WHO.0, WHO.1);
    let message = payload(IMAGE);
    let signature = own.sign(&message);
    let signed = |time: i64, certificate: &str| {
        let logged = log.put(&hashedrekord(&message, &signature, certificate), time);
        let more = [("bundle", log.annotation(&logged)), ("certificate", certificate.to_owned())];
        simple(&message, &signature, &more)
    };
    let root = private(&authority, &log);
    let years_later = THEN + 200_000_000;
    assert_eq!(verify(&root, IMAGE, &[signed(THEN, &certified.pem)], years_later).verifiers, ["shop/people"]);
    let stranger = Authority::new().certify(&own, WHO.0, WHO.1);
    let someone = authority.certify(&own, "guest@shop.example", WHO.1);
    for (signed, reason) in [
        (signed(THEN + 1_000_000, &certified.pem), "not valid when it was used"),
        (signed(THEN, &certified.without_proof), "in no log of certificates of this root"),
        (signed(THEN, &stranger.pem), "no chain of valid authorities"),
        (signed(THEN, &someone.pem), "it is by guest@shop.example of https://login.example"),
        (simple(&message, &signature, &[]), "it has no certificate"),
        (simple(&message, &signature, &[("certificate", certified.pem.clone())]), "it brings no entry"),
    ] {
        let verified = verify(&root, IMAGE, &[signed], THEN);
        assert_eq!(verified.verifiers, Vec::<String>::new(), "{reason}");
        assert!(verified.reasons[0].contains(reason), "{reason}: {:?}", verified.reasons);
    }
}

#[test]
fn a_private_root_without_a_log_judges_the_certificate_by_now() {
    let (authority, own) = (Authority::new(), Key::new());
    let certified = authority.certify(&own, WHO.0, WHO.1);
    let root = RootOfTrust {
        rekor_public_key: String::new(),
        sct_public_key: String::new(),
        ..private(&authority, &Log(Key::new()))
    };
    let signature = own.sign(&payload(IMAGE));
    let signed = simple(&payload(IMAGE), &signature, &[("certificate", certified.without_proof)]);
    assert_eq!(verify(&root, IMAGE, std::slice::from_ref(&signed), THEN).verifiers, ["shop/people"]);
    assert_eq!(verify(&root, IMAGE, &[signed], THEN + 1_000_000).verifiers, Vec::<String>::new());
}

#[test]
fn a_bundle_is_verified_by_key_and_by_certificate_and_other_statements_sign_nothing() {
    let (authority, log, own) = (Authority::new(), Log(Key::new()), Key::new());
    let certified = authority.certify(&own, WHO.0, WHO.1);
    let message = statement(IMAGE);
    let signature = own.sign(&envelope_bytes(&message));
    let mut root = private(&authority, &log);
    root.verifiers.push(keypair("release", &own.pem()));

    let by_certificate = log.put(&dsse(&message, &signature, &certified.pem), THEN);
    let material = json!({"certificate": {"rawBytes": text(&certified.der)},
        "tlogEntries": [log.entry(&by_certificate, true)]});
    let keyless = Signature::bundle(&bundle(&message, &signature, &material)).unwrap();
    assert_eq!(verify(&root, IMAGE, &[keyless], THEN).verifiers, ["shop/people"]);

    // Without the promise the log does not vouch for the time: enough for a key, not for a certificate.
    let by_key = log.put(&dsse(&message, &signature, &own.pem()), THEN);
    let material = json!({"publicKey": {"hint": ""}, "tlogEntries": [log.entry(&by_key, false)]});
    let keyed = Signature::bundle(&bundle(&message, &signature, &material)).unwrap();
    assert_eq!(verify(&root, IMAGE, &[keyed], THEN).verifiers, ["shop/release"]);
    let material = json!({"certificate": {"rawBytes": text(&certified.der)},
        "tlogEntries": [log.entry(&by_certificate, false)]});
    let timeless = Signature::bundle(&bundle(&message, &signature, &material)).unwrap();
    let verified = verify(&root, IMAGE, &[timeless], THEN);
    assert_eq!(verified.verifiers, Vec::<String>::new());
    assert!(verified.reasons[0].contains("does not prove when it was made"), "{:?}", verified.reasons);

    let built = String::from_utf8(message.clone()).unwrap().replace("cosign/sign/v1", "provenance/v1");
    let signature = own.sign(&envelope_bytes(built.as_bytes()));
    let root = keys_only(vec![keypair("release", &own.pem())]);
    let material = json!({"publicKey": {"hint": ""}, "tlogEntries": []});
    let provenance = Signature::bundle(&bundle(built.as_bytes(), &signature, &material)).unwrap();
    let verified = verify(&root, IMAGE, &[provenance], THEN);
    assert_eq!(verified.verifiers, Vec::<String>::new());
    assert!(verified.reasons[0].contains("it is a statement on"), "{:?}", verified.reasons);
}

/// A bundle that a workflow of GitHub had made by Sigstore's public instance in 2025, as its publisher has it on offer: a
/// statement on how a package was published, so that everything about it is good but that it signs no image.
#[test]
fn a_bundle_of_the_public_instance_is_traced_to_its_roots() {
    let json = include_bytes!("data/public-good-v0.3.json");
    let subject =
        "https://github.com/prefix-dev/sigstore-example/.github/workflows/action.yaml@refs/heads/main";
    let issuer = "https://token.actions.githubusercontent.com";
    let root = RootOfTrust {
        name: "public".into(),
        verifiers: vec![keyless("workflow", subject, issuer), keyless("other", "x@y.example", issuer)],
        ..RootOfTrust::default()
    };
    let signature = Signature::bundle(json).unwrap();
    let verified = verify(&root, IMAGE, &[signature], THEN);
    assert_eq!(verified.verifiers, Vec::<String>::new());
    assert!(
        verified.reasons[0].starts_with("public/workflow: signature 1: it does not speak of this image"),
        "{:?}",
        verified.reasons
    );
    assert!(
        verified.reasons[1].starts_with("public/other: signature 1: it is by https://github.com/"),
        "{:?}",
        verified.reasons
    );

    // Whatever is changed in it is noticed before that.
    let text = String::from_utf8(json.to_vec()).unwrap();
    let bundle: serde_json::Value = serde_json::from_str(&text).unwrap();
    for place in [
        "/verificationMaterial/tlogEntries/0/canonicalizedBody",
        "/verificationMaterial/tlogEntries/0/inclusionPromise/signedEntryTimestamp",
        "/verificationMaterial/tlogEntries/0/inclusionProof/hashes/0",
        "/dsseEnvelope/payload",
        "/dsseEnvelope/signatures/0/sig",
        "/verificationMaterial/certificate/rawBytes",
    ] {
        let mut changed = bundle.clone();
        let value = changed.pointer_mut(place).unwrap();
        let mut other = value.as_str().unwrap().to_owned();
        let at = other.len() / 2;
        let letter = if other.as_bytes()[at] == b'A' { "B" } else { "A" };
        other.replace_range(at..=at, letter);
        *value = json!(other);
        let reasons = match Signature::bundle(changed.to_string().as_bytes()) {
            Ok(signature) => verify(&root, IMAGE, &[signature], THEN).reasons,
            Err(error) => vec![error.to_string()],
        };
        assert!(!reasons[0].contains("speak of this image"), "{place}: {reasons:?}");
    }
}

#[test]
fn what_is_configured_wrongly_is_told_and_hides_no_other() {
    let own = Key::new();
    let root = keys_only(vec![keypair("broken", "no key"), keypair("good", &own.pem())]);
    let (trust, faults) = Trust::new(&[root]);
    assert_eq!(faults.len(), 1);
    assert!(faults[0].starts_with("team/broken: no public key in PEM"), "{faults:?}");
    let signed = simple(&payload(IMAGE), &own.sign(&payload(IMAGE)), &[]);
    assert_eq!(trust.verify(IMAGE, &[signed], THEN).verifiers, ["team/good"]);
}
