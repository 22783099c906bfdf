//! Whose signatures of images count.

use std::sync::Arc;

use nv_identity::access::Scope;
use nv_identity::permission::{Category, Operation};
use nv_model::signature::{MAX_PEM_BYTES, MAX_ROOTS, MAX_VERIFIERS, RootOfTrust, Verifier, VerifierType};
use nv_role_controller::registry::{BookError, Held};
use nv_signature::{check_certificates, check_public_key};

use super::user::short;
use crate::answer::{Empty, Json};
use crate::call::Call;
use crate::dto::signature::{
    SigstoreRootInput, SigstoreRootOfTrust, SigstoreRootsOfTrust, SigstoreVerifier, SigstoreVerifierPatch,
    SigstoreVerifiers,
};
use crate::error::{ApiError, Code};
use crate::route::Route;

const ROOTS: &str = "/v1/scan/sigstore/root_of_trust";
const ROOT: &str = "/v1/scan/sigstore/root_of_trust/:root_name";
const VERIFIERS: &str = "/v1/scan/sigstore/root_of_trust/:root_name/verifier";
const VERIFIER: &str = "/v1/scan/sigstore/root_of_trust/:root_name/verifier/:verifier_name";

pub(crate) fn routes() -> Vec<Route> {
    use Category::RegScan;
    vec![
        Route::get(ROOTS, RegScan, "List roots of trust", roots),
        Route::post(ROOTS, RegScan, "Create a root of trust", create_root),
        Route::get(ROOT, RegScan, "Show a root of trust", get_root),
        Route::patch(ROOT, RegScan, "Change a root of trust", change_root),
        Route::delete(ROOT, RegScan, "Delete a root of trust", delete_root),
        Route::get(VERIFIERS, RegScan, "List verifiers of a root of trust", verifiers),
        Route::post(VERIFIERS, RegScan, "Create a verifier", create_verifier),
        Route::get(VERIFIER, RegScan, "Show a verifier", get_verifier),
        Route::patch(VERIFIER, RegScan, "Change a verifier", change_verifier),
        Route::delete(VERIFIER, RegScan, "Delete a verifier", delete_verifier),
    ]
}

/// What the book refuses, with the contract's code.
pub(super) fn refused(error: &BookError) -> ApiError {
    match error {
        BookError::Exists => ApiError::new(Code::Duplicate, error.to_string()),
        BookError::Conflict => {
            ApiError::new(Code::WriteFailed, error.to_string()).with_status(axum::http::StatusCode::CONFLICT)
        }
        BookError::Store(error) => crate::accounts::store_failed(error),
        other => ApiError::new(Code::Server, other.to_string()),
    }
}

/// A name of an object: 1 to 256 of letters, digits and `.-_:/`, without `/` where it is part of a path.
pub(super) fn name_of(raw: &str) -> Result<String, ApiError> {
    let good = (1..=256).contains(&raw.len())
        && raw.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if good {
        Ok(raw.to_owned())
    } else {
        Err(ApiError::format(
            "Invalid characters in name: 1 to 256 of letters, digits, . _ and - are expected",
        ))
    }
}

fn with_verifiers(call: &Call) -> bool {
    call.query.switch("with_verifiers")
}

async fn roots(call: Call) -> Result<Json<SigstoreRootsOfTrust>, ApiError> {
    let all = with_verifiers(&call);
    let book = call.app.controller.registries().book();
    let seen = book.roots.values().filter(|_| call.sees_all());
    Ok(Json(SigstoreRootsOfTrust {
        roots_of_trust: seen.map(|held| SigstoreRootOfTrust::of(&held.value, all)).collect(),
    }))
}

fn find(call: &Call, operation: Operation) -> Result<Arc<Held<RootOfTrust>>, ApiError> {
    call.need(operation, Scope::Cluster)?;
    let name = call.parameter("root_name");
    let book = call.app.controller.registries().book();
    book.roots.get(name).cloned().ok_or_else(|| ApiError::not_found("root of trust", name))
}

async fn get_root(call: Call) -> Result<Json<SigstoreRootOfTrust>, ApiError> {
    let held = find(&call, Operation::Read)?;
    Ok(Json(SigstoreRootOfTrust::of(&held.value, with_verifiers(&call))))
}

/// Puts what is given into a root.
fn fill(root: &mut RootOfTrust, given: SigstoreRootInput) -> Result<(), ApiError> {
    let set = |field: &mut String, what: &str, value: Option<String>| match value {
        Some(value) if value.len() > MAX_PEM_BYTES => {
            Err(ApiError::format(format!("{what} is longer than {MAX_PEM_BYTES} bytes")))
        }
        Some(value) => {
            *field = value;
            Ok(())
        }
        None => Ok(()),
    };
    set(&mut root.rekor_public_key, "rekor_public_key", given.rekor_public_key)?;
    set(&mut root.root_cert, "root_cert", given.root_cert)?;
    set(&mut root.sct_public_key, "sct_public_key", given.sct_public_key)?;
    if let Some(comment) = given.comment {
        root.comment = short("comment", comment)?;
    }
    root.is_private = given.is_private.unwrap_or(root.is_private);
    root.rootless_keypairs_only = given.rootless_keypairs_only.unwrap_or(root.rootless_keypairs_only);
    // Keys alone need no root, private or not; the public instance has its own keys.
    root.is_private &= !root.rootless_keypairs_only;
    if !root.is_private {
        root.rekor_public_key.clear();
        root.root_cert.clear();
        root.sct_public_key.clear();
        return Ok(());
    }
    let wrong =
        |what: &str, error: nv_signature::SignatureError| ApiError::format(format!("{what}: {error}"));
    check_certificates(&root.root_cert).map_err(|error| wrong("root_cert", error))?;
    for (what, pem) in
        [("rekor_public_key", &root.rekor_public_key), ("sct_public_key", &root.sct_public_key)]
    {
        if !pem.is_empty() {
            check_public_key(pem).map_err(|error| wrong(what, error))?;
        }
    }
    Ok(())
}

async fn create_root(call: Call, body: SigstoreRootInput) -> Result<Empty, ApiError> {
    call.need(Operation::Write, Scope::Cluster)?;
    let mut root = RootOfTrust { name: name_of(&body.name)?, ..RootOfTrust::default() };
    fill(&mut root, body)?;
    let registries = call.app.controller.registries();
    if registries.book().roots.len() >= MAX_ROOTS {
        return Err(ApiError::new(Code::NotAllowed, format!("there are {MAX_ROOTS} roots of trust already")));
    }
    registries.put_root(&root, None).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn store(call: &Call, held: &Held<RootOfTrust>, root: &RootOfTrust) -> Result<Empty, ApiError> {
    let registries = call.app.controller.registries();
    registries.put_root(root, Some(held.modified)).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn change_root(call: Call, body: SigstoreRootInput) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    let mut root = held.value.clone();
    fill(&mut root, body)?;
    let keyless = |verifier: &Verifier| verifier.verifier_type == VerifierType::Keyless;
    if root.rootless_keypairs_only && root.verifiers.iter().any(keyless) {
        return Err(ApiError::format(
            "only keypair verifiers are allowed for this root, and it has another one",
        ));
    }
    store(&call, &held, &root).await
}

async fn delete_root(call: Call) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    call.app.controller.registries().delete_root(&held).await.map_err(|error| refused(&error))?;
    Ok(Empty)
}

async fn verifiers(call: Call) -> Result<Json<SigstoreVerifiers>, ApiError> {
    let held = find(&call, Operation::Read)?;
    Ok(Json(SigstoreVerifiers {
        verifiers: held.value.verifiers.iter().map(SigstoreVerifier::from).collect(),
    }))
}

/// A verifier of what is given, checked.
fn verifier(root: &RootOfTrust, given: SigstoreVerifier) -> Result<Verifier, ApiError> {
    let comment = short("comment", given.comment)?;
    let name = name_of(&given.name)?;
    match given.verifier_type.as_str() {
        "keypair" => {
            check_public_key(&given.public_key)
                .map_err(|error| ApiError::format(format!("Invalid verifier in request: {error}")))?;
            let public_key = given.public_key;
            Ok(Verifier { name, public_key, comment, ..Verifier::default() })
        }
        "keyless" if root.rootless_keypairs_only => {
            Err(ApiError::format("only keypair verifiers are allowed for this root"))
        }
        "keyless" if given.cert_issuer.is_empty() || given.cert_subject.is_empty() => {
            Err(ApiError::format("Invalid verifier in request: cert_issuer and cert_subject are needed"))
        }
        "keyless" => Ok(Verifier {
            name,
            verifier_type: VerifierType::Keyless,
            cert_issuer: short("cert_issuer", given.cert_issuer)?,
            cert_subject: short("cert_subject", given.cert_subject)?,
            comment,
            ..Verifier::default()
        }),
        _ => Err(ApiError::format("verifier_type is neither keypair nor keyless")),
    }
}

async fn create_verifier(call: Call, body: SigstoreVerifier) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    let mut root = held.value.clone();
    let new = verifier(&root, body)?;
    if root.verifiers.iter().any(|known| known.name == new.name) {
        return Err(ApiError::new(Code::Duplicate, "a verifier of this name exists already"));
    }
    if root.verifiers.len() >= MAX_VERIFIERS {
        return Err(ApiError::new(Code::NotAllowed, format!("there are {MAX_VERIFIERS} verifiers already")));
    }
    root.verifiers.push(new);
    store(&call, &held, &root).await
}

fn place(call: &Call, root: &RootOfTrust) -> Result<usize, ApiError> {
    let name = call.parameter("verifier_name");
    let place = root.verifiers.iter().position(|verifier| verifier.name == name);
    place.ok_or_else(|| ApiError::not_found("verifier", name))
}

async fn get_verifier(call: Call) -> Result<Json<SigstoreVerifier>, ApiError> {
    let held = find(&call, Operation::Read)?;
    let place = place(&call, &held.value)?;
    let found = held.value.verifiers.get(place).map(SigstoreVerifier::from);
    found.map(Json).ok_or_else(|| ApiError::not_found("verifier", call.parameter("verifier_name")))
}

async fn change_verifier(call: Call, body: SigstoreVerifierPatch) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    let mut root = held.value.clone();
    let place = place(&call, &root)?;
    if let Some(known) = root.verifiers.get(place) {
        let old = SigstoreVerifier::from(known);
        let new = SigstoreVerifier {
            name: old.name,
            verifier_type: body.verifier_type.unwrap_or(old.verifier_type),
            public_key: body.public_key.unwrap_or(old.public_key),
            cert_issuer: body.cert_issuer.unwrap_or(old.cert_issuer),
            cert_subject: body.cert_subject.unwrap_or(old.cert_subject),
            comment: body.comment.unwrap_or(old.comment),
        };
        let changed = verifier(&root, new)?;
        if let Some(slot) = root.verifiers.get_mut(place) {
            *slot = changed;
        }
    }
    store(&call, &held, &root).await
}

async fn delete_verifier(call: Call) -> Result<Empty, ApiError> {
    let held = find(&call, Operation::Write)?;
    let mut root = held.value.clone();
    let place = place(&call, &root)?;
    root.verifiers.remove(place);
    store(&call, &held, &root).await
}
