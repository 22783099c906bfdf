//! DLP and WAF sensors: what is stored, what is refused, and which groups use them.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Fixture, each};

fn rule(name: &str, value: &str) -> Value {
    json!({"name": name, "patterns": [{"key": "pattern", "op": "regex", "value": value, "context": "url"}]})
}

#[tokio::test]
async fn a_sensor_is_made_changed_used_and_only_then_not_deleted() {
    let (fixture, admin) = Fixture::started().await;
    for (kind, first, end) in [("dlp", 20_000, 30_000), ("waf", 40_000, 50_000)] {
        let sensor = format!("/v1/{kind}/sensor");
        let body = json!({"config": {"name": "mine", "comment": "c", "rules": [rule("one", "secret=[0-9]{4}"), rule("two", "token=abc")]}});
        fixture.done(Method::POST, &sensor, &admin, body.clone()).await;
        let again = fixture.call(Method::POST, &sensor, &admin, Some(body)).await;
        assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!(13)));
        let listed = fixture.get(&sensor, &admin).await;
        let names = each(&listed["sensors"], "name");
        assert_eq!(
            (names.len(), names[2], &listed["sensors"][0]["predefine"]),
            (3, "mine", &json!(true)),
            "{names:?}"
        );
        let mine = &listed["sensors"][2];
        let one = mine["rules"][0]["id"].as_u64().unwrap();
        assert!((first..end).contains(&one), "{mine}");
        assert_eq!(
            mine["rules"][0]["patterns"][0],
            json!({"key": "pattern", "op": "regex", "value": "secret=[0-9]{4}", "context": "url"})
        );

        let one_path = format!("{sensor}/mine");
        let change = json!({"config": {"name": "mine", "delete": [{"name": "two"}], "change": [rule("one", "other=[0-9]{4}"), rule("three", "third")]}});
        fixture.done(Method::PATCH, &one_path, &admin, change).await;
        let shown = fixture.get(&one_path, &admin).await;
        assert_eq!(each(&shown["sensor"]["rules"], "name"), ["one", "three"]);
        assert_eq!(shown["sensor"]["rules"][0]["id"], one, "the id stays with the name");
        let rules = fixture.get(&format!("/v1/{kind}/rule/three"), &admin).await;
        assert_eq!(rules["rule"]["sensors"], json!(["mine"]));
        assert!(
            each(&fixture.get(&format!("/v1/{kind}/rule"), &admin).await["rules"], "name").contains(&"three")
        );

        let group = format!("/v1/{kind}/group/containers");
        let used = json!({"config": {"name": "containers", "status": true, "sensors": [{"name": "mine", "action": "deny"}]}});
        fixture.done(Method::PATCH, &group, &admin, used).await;
        let shown = fixture.get(&group, &admin).await;
        let shown = &shown[format!("{kind}_group")];
        assert_eq!(
            (
                &shown["status"],
                &shown["sensors"][0]["name"],
                &shown["sensors"][0]["action"],
                &shown["sensors"][0]["exist"]
            ),
            (&json!(true), &json!("mine"), &json!("deny"), &json!(true))
        );
        assert_eq!(fixture.get(&one_path, &admin).await["sensor"]["groups"], json!(["containers"]));
        let refused = fixture.call(Method::DELETE, &one_path, &admin, None).await;
        assert_eq!((refused.status, &refused.body["code"]), (StatusCode::CONFLICT, &json!(16)));
        assert!(refused.body["message"].as_str().unwrap().contains("containers"));
        let replace = json!({"config": {"name": "containers", "replace": []}});
        fixture.done(Method::PATCH, &group, &admin, replace).await;
        let gone = fixture.call(Method::DELETE, &one_path, &admin, None).await;
        assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
        let listed = fixture.get(&format!("/v1/{kind}/group"), &admin).await;
        assert!(each(&listed[format!("{kind}_groups")], "name").contains(&"containers"));
    }
}

#[tokio::test]
async fn what_cannot_be_run_or_read_is_refused_with_the_reason() {
    let (fixture, admin) = Fixture::started().await;
    let long = "a".repeat(513);
    let many: Vec<Value> = (0..17).map(|n| json!({"op": "regex", "value": format!("needle{n}")})).collect();
    for (name, rules, code, wants) in [
        ("s", vec![rule("r", "(?=a)b")], 6, "looks around"),
        ("s", vec![rule("r", r"(a)\1")], 6, "refers back"),
        ("s", vec![rule("r", "a(b")], 6, "unclosed group"),
        ("s", vec![rule("r", ".*")], 6, "empty text"),
        ("s", vec![rule("r", &long)], 6, "513 bytes"),
        ("s", vec![json!({"name": "r", "patterns": many})], 6, "17 patterns"),
        ("s", vec![json!({"name": "r", "patterns": []})], 6, "0 patterns"),
        (
            "s",
            vec![json!({"name": "r", "patterns": [{"op": "=", "value": "abc"}]})],
            6,
            "neither regex nor !regex",
        ),
        (
            "s",
            vec![json!({"name": "r", "patterns": [{"op": "regex", "value": "abc", "context": "footer"}]})],
            6,
            "footer",
        ),
        ("s", vec![rule("r", "abc"), rule("r", "abd")], 6, "one name"),
        ("a b", vec![], 15, "sensor name"),
        ("fed.s", vec![], 15, "federation"),
        ("sensor.creditcard", vec![], 13, "exists already"),
    ] {
        let body = json!({"config": {"name": name, "rules": rules}});
        let answer = fixture.call(Method::POST, "/v1/dlp/sensor", &admin, Some(body)).await;
        let message = answer.body["message"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.body["code"], code, "{name} {wants}: {answer:?}");
        assert!(message.contains(wants), "{wants}: {message}");
    }
    for (method, path, body, code) in [
        (
            Method::PATCH,
            "/v1/dlp/sensor/sensor.ssn",
            json!({"config": {"name": "sensor.ssn", "comment": "x"}}),
            4,
        ),
        (Method::PATCH, "/v1/dlp/sensor/nobody", json!({"config": {"name": "nobody"}}), 7),
        (Method::PATCH, "/v1/waf/group/nodes", json!({"config": {"name": "nodes"}}), 7),
        (
            Method::PATCH,
            "/v1/waf/group/containers",
            json!({"config": {"sensors": [{"name": "nobody", "action": "deny"}]}}),
            7,
        ),
        (
            Method::PATCH,
            "/v1/waf/group/containers",
            json!({"config": {"sensors": [{"name": "sensor.log4shell", "action": "drop"}]}}),
            6,
        ),
    ] {
        let answer = fixture.call(method, path, &admin, Some(body)).await;
        assert_eq!(answer.body["code"], code, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn sensors_are_read_from_any_namespace_and_written_for_the_cluster_alone() {
    let (fixture, admin) = Fixture::started().await;
    let reader = fixture.user(&admin, "r", "", json!({"reader": ["shop"]})).await;
    let owner = fixture.user(&admin, "o", "", json!({"admin": ["shop"]})).await;
    assert_eq!(each(&fixture.get("/v1/waf/sensor", &reader).await["sensors"], "name").len(), 2);
    let body = json!({"config": {"name": "mine", "rules": []}});
    let refused = fixture.call(Method::POST, "/v1/waf/sensor", &owner, Some(body)).await;
    assert_eq!(refused.body["code"], 25, "{refused:?}");
}

/// Hands in bytes as they are.
async fn upload(fixture: &Fixture, who: &str, path: &str, bytes: &[u8]) -> crate::fixture::Answer {
    let request = axum::http::Request::post(path).header("x-auth-token", who);
    fixture.raw(request.body(axum::body::Body::from(bytes.to_vec())).unwrap()).await
}

#[tokio::test]
async fn a_rule_set_makes_a_sensor_is_shown_with_what_was_left_out_and_goes_with_the_last_sensor_that_has_it()
{
    let (fixture, admin) = Fixture::started().await;
    let rules = "SecRule ARGS \"@rx evil\" \"id:1,phase:2,deny\"\nSecRule ARGS \"@rx (?=a)b\" \"id:2,phase:2,deny\"\n";
    let path = "/v1/waf/sensor/crs/rule_set";
    let answer = upload(&fixture, &admin, path, rules.as_bytes()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let set = &answer.body["rule_set"];
    assert_eq!((&set["rules"], &set["files"], &set["refused_count"]), (&json!(1), &json!(1), &json!(1)));
    assert!(set["refused"][0].as_str().unwrap().contains("rule 2"), "{set}");
    assert_eq!(fixture.get(path, &admin).await["rule_set"], *set);
    let sensor = fixture.get("/v1/waf/sensor/crs", &admin).await;
    assert_eq!(sensor["sensor"]["rule_set"]["digest"], set["digest"]);

    // A group uses it as any other sensor.
    let used = json!({"config": {"name": "containers", "status": true, "sensors": [{"name": "crs", "action": "deny"}]}});
    fixture.done(Method::PATCH, "/v1/waf/group/containers", &admin, used).await;
    assert_eq!(
        upload(&fixture, &admin, "/v1/waf/sensor/second/rule_set", rules.as_bytes()).await.status,
        StatusCode::OK
    );
    let held = || fixture.controller.view().state.rule_sets.len();
    assert_eq!(held(), 1, "both have the same");
    let other = upload(&fixture, &admin, path, b"SecAction \"id:7,phase:1,deny\"").await;
    assert_eq!((other.status, held()), (StatusCode::OK, 2));
    let gone = fixture.call(Method::DELETE, "/v1/waf/sensor/second", &admin, None).await;
    assert_eq!((gone.status, held()), (StatusCode::OK, 1));
    let gone = fixture.call(Method::DELETE, path, &admin, None).await;
    assert_eq!((gone.status, held()), (StatusCode::OK, 0));

    for (name, bytes, code, wants) in [
        ("crs", &b"SecRule ARGS \"@rx (?=a)b\" \"id:2\""[..], 6, "none of its rules"),
        ("crs", b"PK\x03\x04\0\0", 6, "damaged"),
        ("fed.crs", rules.as_bytes(), 15, "federation"),
        ("sensor.log4shell", rules.as_bytes(), 4, "comes with the product"),
    ] {
        let answer = upload(&fixture, &admin, &format!("/v1/waf/sensor/{name}/rule_set"), bytes).await;
        let message = answer.body["message"].as_str().unwrap_or_default();
        assert!(answer.body["code"] == code && message.contains(wants), "{name}: {answer:?}");
    }
}

#[tokio::test]
async fn what_is_exported_is_imported_as_it_was_and_a_wrong_file_changes_nothing() {
    let (fixture, admin) = Fixture::started().await;
    for kind in ["dlp", "waf"] {
        let sensor = format!("/v1/{kind}/sensor");
        for name in ["first", "second"] {
            let body = json!({"config": {"name": name, "comment": "a: \"note\"", "rules": [rule("one", "secret=[0-9]{4}"), rule("two", "a+b: c")]}});
            fixture.done(Method::POST, &sensor, &admin, body).await;
        }
        let before = fixture.get(&sensor, &admin).await;
        let request = axum::http::Request::post(format!("/v1/file/{kind}")).header("x-auth-token", &admin);
        let names = json!({"names": ["first", "second", if kind == "dlp" { "sensor.ssn" } else { "sensor.log4shell" }]});
        let request = request.body(axum::body::Body::from(names.to_string())).unwrap();
        let answer = fixture.app.clone().answer(request, "192.0.2.7".parse().unwrap()).await;
        assert!(
            answer.headers()["content-disposition"].to_str().unwrap().starts_with("Attachment; filename=cfg")
        );
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let file = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(file.contains("neuvector.com/v1") && !file.contains("sensor.ssn"), "{file}");
        for name in ["first", "second"] {
            let gone = fixture.call(Method::DELETE, &format!("{sensor}/{name}"), &admin, None).await;
            assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
        }
        let path = format!("/v1/file/{kind}/config");
        for _again in 0..2 {
            let done = fixture.import(&admin, &path, "text/plain", &file).await;
            assert_eq!(
                (done.status, &done.body["data"]["status"]),
                (StatusCode::OK, &json!("done")),
                "{done:?}"
            );
            assert_eq!(fixture.get(&sensor, &admin).await, before);
        }
        for (wrong, wants) in [
            (file.replace("neuvector.com/v1", "neuvector.com/v2"), "Invalid security rule"),
            (file.replace("secret=[0-9]{4}", "(?=x)y"), "looks around"),
            (
                file.replace("name: second", "name: sensor.ssn")
                    .replace("name: first", "name: sensor.log4shell"),
                "cannot be imported",
            ),
            ("a: [".to_owned(), "no YAML"),
        ] {
            let refused = fixture.import(&admin, &path, "text/plain", &wrong).await;
            let message = refused.body["message"].as_str().unwrap_or_default();
            assert!(refused.body["code"] == 18 && message.contains(wants), "{kind} {wants}: {refused:?}");
            assert_eq!(fixture.get(&sensor, &admin).await, before);
        }
        let stale = axum::http::Request::post(&path)
            .header("x-auth-token", &admin)
            .header("X-Transaction-ID", "nobody");
        let stale = fixture.raw(stale.body(axum::body::Body::empty()).unwrap()).await;
        assert_eq!(stale.status, StatusCode::GONE);
    }
}
