//! Every route against every kind of caller.

use axum::http::{Method, StatusCode};
use nv_identity::permission::{Category, Operation};
use nv_role_api::routes::table;
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// Who of admin, reader, ciops, no role, admin of a namespace, reader of a namespace may call; the contract's table.
fn may(category: Category, operation: Operation) -> [bool; 6] {
    use Category as C;
    let read = operation == Operation::Read;
    match category {
        C::Anonymous | C::AnyUser => [true; 6],
        C::CiScan => [!read, false, !read, false, false, false],
        C::NvResource | C::AdmControl | C::Authentication | C::Vulnerability | C::Debug => {
            [true, read, false, false, false, false]
        }
        C::Fed => [read, read, false, false, false, false],
        C::SystemConfig | C::PasswordProfile => [true, read, false, false, read, read],
        C::AuditEvents | C::SecurityEvents | C::Events => [read, read, false, false, read, read],
        C::RtScan
        | C::RegScan
        | C::Infra
        | C::Workload
        | C::Group
        | C::RtPolicies
        | C::Compliance
        | C::Authorization => [true, read, false, false, true, read],
    }
}

#[tokio::test]
async fn every_route_lets_in_exactly_who_holds_its_permission() {
    let (fixture, admin) = Fixture::started().await;
    let who = [
        ("admin", admin.clone()),
        ("reader", fixture.user(&admin, "r", "reader", json!({})).await),
        ("ciops", fixture.user(&admin, "c", "ciops", json!({})).await),
        ("no role", fixture.user(&admin, "n", "", json!({})).await),
        ("admin of a namespace", fixture.user(&admin, "na", "", json!({"admin": ["shop"]})).await),
        ("reader of a namespace", fixture.user(&admin, "nr", "", json!({"reader": ["shop"]})).await),
    ];
    let mut routes: Vec<_> = table().routes().to_vec();
    assert!(routes.len() > 80);
    // Whoever logs out is no one afterwards, and a stream has no end.
    routes.retain(|route| !(route.path == "/v1/auth" && route.method == Method::DELETE));
    routes.retain(|route| route.path != "/v1/stream");
    for route in &routes {
        let path: String = route
            .path
            .split('/')
            .map(|part| if part.starts_with(':') { "none" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let what = format!("{} {path}", route.method);
        let body = route.request.is_some().then(|| json!({}));
        let stranger = fixture.call(route.method.clone(), &path, "", body.clone()).await;
        let guess = fixture.call(route.method.clone(), &path, "no-such-token", body.clone()).await;
        if route.category != Category::Anonymous {
            assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{what}");
            assert_eq!(guess.status, StatusCode::UNAUTHORIZED, "{what}");
        }
        for ((name, token), allowed) in who.iter().zip(may(route.category, route.operation)) {
            let answer = fixture.call(route.method.clone(), &path, token, body.clone()).await;
            let by_object = matches!(
                (answer.status.as_u16(), answer.body["code"].as_u64()),
                (400 | 404 | 409, _) | (403, Some(25))
            );
            if !allowed {
                assert_eq!(
                    (answer.status, &answer.body["code"]),
                    (StatusCode::FORBIDDEN, &json!(25)),
                    "{what} as {name}"
                );
            } else if route.category != Category::Anonymous {
                let fine = answer.status.is_success() || by_object;
                assert!(fine, "{what} as {name}: {answer:?}");
                if route.method == Method::GET
                    && !route.path.contains(':')
                    && ["admin", "reader"].contains(name)
                {
                    let expected = if route.path == "/v1/selfapikey" {
                        StatusCode::FORBIDDEN
                    } else if route.path == "/v1/scan/platform/platform" {
                        // It was never scanned.
                        StatusCode::NOT_FOUND
                    } else if [
                        "/v1/log/violation/workload",
                        "/v1/file_monitor_file",
                        "/v1/meter",
                        "/v1/session",
                        "/v1/session/summary",
                        "/v1/sniffer",
                    ]
                    .contains(&route.path)
                    {
                        StatusCode::BAD_REQUEST
                    } else {
                        StatusCode::OK
                    };
                    assert_eq!(answer.status, expected, "{what} as {name}: {answer:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_refused_call_leaves_an_event_and_a_write_leaves_one_without_secrets() {
    let (fixture, admin) = Fixture::started().await;
    let reader = fixture.user(&admin, "r", "reader", json!({})).await;
    fixture.call(Method::POST, "/v1/group", &reader, Some(json!({"config": {"name": "g"}}))).await;
    let log = fixture.get("/v1/log/event?f_name=User.Resource.Access.Denied", &admin).await;
    assert_eq!(log["events"][0]["user"], "r");
    assert_eq!(log["events"][0]["rest_request"], "/v1/group");
    let log = fixture.get("/v1/log/event?f_name=RESTful.Write", &admin).await;
    let event = &log["events"][0];
    assert_eq!(
        (&event["user"], &event["rest_method"], &event["user_addr"]),
        (&json!("admin"), &json!("POST"), &json!("192.0.2.7"))
    );
    let body: Value = serde_json::from_str(event["rest_body"].as_str().unwrap()).unwrap();
    assert_eq!(body["user"]["fullname"], "r");
    assert!(!log.to_string().contains(crate::fixture::PASSWORD));
    let logins = fixture.get("/v1/log/event?f_name=User.Login", &admin).await;
    assert_eq!(logins["events"][0]["user"], "r");
}
