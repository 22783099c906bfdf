//! The OpenAPI document that is checked in is the one of the handlers.

use std::path::Path;

#[test]
fn the_checked_in_document_is_the_one_of_the_handlers() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../openapi/openapi.json");
    let made = nv_role_api::openapi_json().unwrap();
    // The way to renew it, as the change of an interface is to be seen in a diff.
    if std::env::var_os("NV_WRITE_OPENAPI").is_some() {
        std::fs::write(&path, &made).unwrap();
    }
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == made,
        "openapi/openapi.json is not that of the handlers; renew it with NV_WRITE_OPENAPI=1 cargo test -p nv-role-api --test openapi"
    );
}

#[test]
fn every_route_is_in_the_document_with_its_category_and_every_reference_leads_somewhere() {
    let document: serde_json::Value = serde_json::from_str(&nv_role_api::openapi_json().unwrap()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    for route in nv_role_api::routes::table().routes() {
        let path: Vec<String> = route
            .path
            .split('/')
            .map(|part| part.strip_prefix(':').map_or_else(|| part.to_owned(), |name| format!("{{{name}}}")))
            .collect();
        let operation = &document["paths"][path.join("/")][route.method.as_str().to_ascii_lowercase()];
        assert!(operation.is_object(), "{} {}", route.method, route.path);
        assert_eq!(
            operation["requestBody"].is_object(),
            route.request.is_some(),
            "{} {}",
            route.method,
            route.path
        );
    }
    let text = document.to_string();
    for reference in text.split("\"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(document["components"]["schemas"][name].is_object(), "schema {name} is missing");
    }
}
