//! A bundle of Sigstore's staging instance, whose log tells no time (Rekor's second version), so that an authority of RFC 3161
//! does.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what a test cannot go on without fails it"
)]

use nv_model::signature::{RootOfTrust, Verifier, VerifierType};
use nv_signature::{Signature, Trust};
use serde_json::{Value, json};

const BUNDLE: &str = include_str!("data/staging-rekor-v2.json");
const WHO: &str = "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main";
const IMAGE: &str = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf";
/// Years after the certificate has ended.
const NOW: i64 = 1_900_000_000;

fn root() -> RootOfTrust {
    RootOfTrust {
        name: "staging".to_owned(),
        is_private: true,
        rekor_public_key: include_str!("data/staging-rekor.pem").to_owned(),
        root_cert: include_str!("data/staging.pem").to_owned(),
        sct_public_key: include_str!("data/staging-ctfe.pem").to_owned(),
        verifiers: vec![Verifier {
            name: "beacon".to_owned(),
            verifier_type: VerifierType::Keyless,
            cert_issuer: "https://token.actions.githubusercontent.com".to_owned(),
            cert_subject: WHO.to_owned(),
            ..Verifier::default()
        }],
        ..RootOfTrust::default()
    }
}

/// Why the bundle does not count.
fn reason(root: &RootOfTrust, bundle: &Value) -> String {
    let signature = Signature::bundle(bundle.to_string().as_bytes()).unwrap();
    let (trust, faults) = Trust::new(std::slice::from_ref(root));
    assert_eq!(faults, Vec::<String>::new());
    let verified = trust.verify(IMAGE, &[signature], NOW);
    assert_eq!(verified.verifiers, Vec::<String>::new());
    verified.reasons[0].clone()
}

#[test]
fn key_log_certificate_and_time_of_a_real_bundle_hold_and_each_change_of_them_is_noticed() {
    let bundle: Value = serde_json::from_str(BUNDLE).unwrap();
    // It tells how something was built, and signs no image: what it says is asked last.
    let all_holds = "it is a statement on https://slsa.dev/provenance/v1";
    assert!(reason(&root(), &bundle).contains(all_holds), "{}", reason(&root(), &bundle));

    let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let changed = |pointer: &str, change: &dyn Fn(&str) -> String| {
        let mut bundle = bundle.clone();
        let field = bundle.pointer_mut(pointer).unwrap();
        *field = json!(change(field.as_str().unwrap()));
        bundle
    };
    let letter = |at: usize| {
        move |text: &str| {
            let other = |letter: char| if letter == 'A' { 'B' } else { 'A' };
            text.chars()
                .enumerate()
                .map(|(place, letter)| if place == at { other(letter) } else { letter })
                .collect()
        }
    };
    for at in [200, 290, 600, 900] {
        let why = reason(&root(), &changed(stamp, &letter(at)));
        assert!(why.contains("its time stamp does not count"), "letter {at}: {why}");
    }
    let mut without = bundle.clone();
    without["verificationMaterial"]["timestampVerificationData"] = Value::Null;
    assert!(reason(&root(), &without).contains("does not prove when it was made"));
    let body = changed("/verificationMaterial/tlogEntries/0/canonicalizedBody", &letter(400));
    assert!(reason(&root(), &body).contains("it is in no transparency log"), "{}", reason(&root(), &body));
    let envelope = "/verificationMaterial/tlogEntries/0/inclusionProof/checkpoint/envelope";
    let state = changed(envelope, &|text| text.replace("7132", "7133"));
    assert!(reason(&root(), &state).contains("another state"), "{}", reason(&root(), &state));

    let certificates = include_str!("data/staging.pem");
    let parts: Vec<&str> = certificates.split_inclusive("-----END CERTIFICATE-----\n").collect();
    let no_clock = RootOfTrust { root_cert: parts[..2].concat(), ..root() };
    let why = reason(&no_clock, &bundle);
    assert!(why.contains("nobody of this root's authorities made it"), "{why}");
}
