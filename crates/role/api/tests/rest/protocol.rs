//! The protocol around the handlers.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode, header};
use serde_json::json;

use crate::fixture::Fixture;

#[tokio::test]
async fn paths_lead_to_their_route_or_say_what_is_wrong() {
    let (fixture, admin) = Fixture::started().await;
    for (method, path, status, location) in [
        (Method::GET, "/v1/group/", 301, Some("/v1/group")),
        (Method::GET, "/v1//group?brief=true", 301, Some("/v1/group?brief=true")),
        (Method::GET, "/V1/Group/Web", 301, Some("/v1/group/Web")),
        (Method::PATCH, "/v1/system/config/", 307, Some("/v1/system/config")),
        (Method::GET, "/v1/nothing", 404, None),
        (Method::GET, "/", 404, None),
        (Method::PUT, "/v1/group", 405, None),
    ] {
        let answer = fixture.call(method.clone(), path, &admin, None).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        let held = answer.headers.get(header::LOCATION).map(|l| l.to_str().unwrap());
        assert_eq!(held, location, "{method} {path}");
    }
    let wrong = fixture.call(Method::PUT, "/v1/group", "", None).await;
    assert_eq!(
        (&wrong.body["code"], wrong.headers[header::ALLOW].to_str().unwrap()),
        (&json!(2), "GET, POST, OPTIONS")
    );
    let options = fixture.call(Method::OPTIONS, "/v1/group", "", None).await;
    assert_eq!(
        (options.status, options.headers[header::ALLOW].to_str().unwrap()),
        (StatusCode::OK, "GET, POST, OPTIONS")
    );
    let missing = fixture.call(Method::GET, "/v1/nothing", "", None).await;
    assert_eq!(missing.body, json!({"code": 1, "error": "URL not found", "message": "URL not found"}));
    let fine = fixture.call(Method::GET, "/v1/group", &admin, None).await;
    assert_eq!(fine.headers[header::CONTENT_TYPE], "application/json");
    assert_eq!(fine.headers[header::CACHE_CONTROL], "no-cache");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_with_what_is_wrong() {
    let (fixture, admin) = Fixture::started().await;
    let post = |body: Body| {
        Request::builder()
            .method(Method::POST)
            .uri("/v1/group")
            .header("X-Auth-Token", &admin)
            .body(body)
            .unwrap()
    };
    for (body, word) in [
        ("{", "not JSON"),
        ("", "no body"),
        ("[]", "object"),
        (r#"{"config": {"name": 7}}"#, "name"),
        (r#"{"config": {"name": "g", "criteria": [{"key": "a", "op": "?", "value": "b"}]}}"#, "operator"),
        (r#"{"other": 1}"#, "config"),
    ] {
        let answer = fixture.raw(post(Body::from(body))).await;
        assert_eq!((answer.status, &answer.body["code"]), (StatusCode::BAD_REQUEST, &json!(6)), "{body}");
        assert!(answer.body["message"].as_str().unwrap().contains(word), "{body}: {answer:?}");
    }
    let large = fixture.raw(post(Body::from("x".repeat(5 << 20)))).await;
    assert_eq!((large.status, &large.body["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!(6)));
    // Without a length the limit still holds.
    let chunks =
        futures::stream::iter((0..6).map(|_| Ok::<_, std::convert::Infallible>("y".repeat(1 << 20))));
    let large = fixture.raw(post(Body::from_stream(chunks))).await;
    assert_eq!(large.status, StatusCode::PAYLOAD_TOO_LARGE);
    // Who is not known cannot make us read that much.
    let login = Request::builder()
        .method(Method::POST)
        .uri("/v1/auth")
        .body(Body::from("z".repeat(100_000)))
        .unwrap();
    assert_eq!(fixture.raw(login).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn keys_are_read_in_any_case_and_unknown_ones_are_ignored() {
    let (fixture, admin) = Fixture::started().await;
    let body = json!({"Config": {"NAME": "g", "Comment": "note", "criteria": [{"Key": "service", "OP": "=", "value": "web"}], "more": 1}});
    fixture.done(Method::POST, "/v1/group", &admin, body).await;
    let shown = fixture.get("/v1/group/g", &admin).await;
    assert_eq!(
        (&shown["group"]["comment"], &shown["group"]["criteria"][0]["value"]),
        (&json!("note"), &json!("web"))
    );
    fixture
        .done(Method::PATCH, "/v1/group/g", &admin, json!({"config": {"name": "g", "criteria": null}}))
        .await;
    let shown = fixture.get("/v1/group/g", &admin).await;
    assert_eq!(shown["group"]["criteria"].as_array().unwrap().len(), 1, "null changes nothing");
    assert_eq!(shown["group"]["comment"], "note");
}

#[tokio::test]
async fn probes_answer_without_a_session() {
    let fixture = Fixture::fresh().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(fixture.get(path, "").await["status"], "ok");
    }
    assert_eq!(fixture.get("/v1/eula", "").await["eula"]["accepted"], false);
}
