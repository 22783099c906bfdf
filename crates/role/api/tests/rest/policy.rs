//! Groups, services and their modes, network rules, process profiles.

use axum::http::{Method, StatusCode};
use nv_model::verdict::Verdict;
use serde_json::{Value, json};

use crate::fixture::{Fixture, each};
use crate::node::{Reporter, ran, workload};

async fn two_services() -> (Fixture, String, Reporter) {
    let (fixture, admin) = Fixture::started().await;
    let workloads = vec![workload("web-1", "web", "shop", 10), workload("db-1", "db", "shop", 11)];
    let reporter = Reporter::link(&fixture.controller, workloads).await;
    fixture
        .until("/v1/group", &admin, |groups| {
            let names = each(&groups["groups"], "name");
            names.contains(&"nv.web.shop") && names.contains(&"nv.db.shop")
        })
        .await;
    (fixture, admin, reporter)
}

fn rule(id: u32, from: &str, to: &str, ports: &str) -> Value {
    json!({"id": id, "from": from, "to": to, "ports": ports, "action": "allow", "applications": ["any"], "comment": "", "cfg_type": "user_created"})
}

async fn order(fixture: &Fixture, admin: &str) -> Vec<u64> {
    let rules = fixture.get("/v1/policy/rule", admin).await;
    rules["rules"].as_array().unwrap().iter().map(|rule| rule["id"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn groups_are_made_changed_shown_with_their_members_and_deleted() {
    let (fixture, admin, _reporter) = two_services().await;
    let group =
        json!({"config": {"name": "fronts", "criteria": [{"key": "service", "op": "=", "value": "web*"}]}});
    fixture.done(Method::POST, "/v1/group", &admin, group.clone()).await;
    let again = fixture.call(Method::POST, "/v1/group", &admin, Some(group)).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!(13)));
    let shown = fixture.get("/v1/group/fronts?with_cap=true", &admin).await["group"].clone();
    assert_eq!(
        (&shown["kind"], &shown["cfg_type"], &shown["cap_change_mode"]),
        (&json!("container"), &json!("user_created"), &json!(false))
    );
    assert_eq!(each(&shown["members"], "id"), ["web-1"]);
    let learned = fixture.get("/v1/group/nv.web.shop", &admin).await["group"].clone();
    assert_eq!(
        json!([
            learned["policy_mode"],
            learned["profile_mode"],
            learned["baseline_profile"],
            learned["domain"],
            learned["learned"]
        ]),
        json!(["Discover", "Discover", "basic", "shop", true])
    );

    fixture
        .done(
            Method::PATCH,
            "/v1/policy/rule",
            &admin,
            json!({"insert": {"rules": [rule(0, "fronts", "external", "any")]}}),
        )
        .await;
    let used = fixture.call(Method::DELETE, "/v1/group/fronts", &admin, None).await;
    assert_eq!((used.status, &used.body["code"]), (StatusCode::CONFLICT, &json!(16)), "{used:?}");
    fixture.call(Method::DELETE, "/v1/policy/rule", &admin, None).await;
    assert_eq!(fixture.call(Method::DELETE, "/v1/group/fronts", &admin, None).await.status, StatusCode::OK);
    assert_eq!(fixture.call(Method::GET, "/v1/group/fronts", &admin, None).await.body["code"], 7);
    let reserved = fixture.call(Method::DELETE, "/v1/group/nodes", &admin, None).await;
    assert_eq!(
        (reserved.status, &reserved.body["code"]),
        (StatusCode::BAD_REQUEST, &json!(4)),
        "{reserved:?}"
    );
    assert_eq!(each(&fixture.get("/v1/group?f_kind=external", &admin).await["groups"], "name"), ["external"]);
}

#[tokio::test]
async fn modes_are_set_for_services_nodes_and_all() {
    let (fixture, admin, _reporter) = two_services().await;
    let modes = |name: &'static str| {
        let (fixture, admin) = (&fixture, &admin);
        async move {
            let shown = fixture.get(&format!("/v1/group/{name}"), admin).await["group"].clone();
            json!([shown["policy_mode"], shown["profile_mode"], shown["baseline_profile"]])
        }
    };
    let body = json!({"config": {"services": ["web.shop", "nodes"], "policy_mode": "Protect", "profile_mode": "Monitor"}});
    fixture.done(Method::PATCH, "/v1/service/config", &admin, body).await;
    assert_eq!(modes("nv.web.shop").await, json!(["Protect", "Monitor", "basic"]));
    assert_eq!(modes("nodes").await, json!(["Protect", "Monitor", "basic"]));
    assert_eq!(modes("nv.db.shop").await, json!(["Discover", "Discover", "basic"]));
    let workload = fixture.get("/v1/workload/web-1", &admin).await["workload"].clone();
    assert_eq!((&workload["state"], &workload["policy_mode"]), (&json!("protect"), &json!("Protect")));

    let body = json!({"config": {"services": ["db.shop"], "policy_mode": "Protect", "profile_mode": "Protect", "baseline_profile": "shield"}});
    fixture.done(Method::PATCH, "/v1/service/config/profile", &admin, body).await;
    assert_eq!(modes("nv.db.shop").await, json!(["Discover", "Protect", "zero-drift"]));

    let body = json!({"request": {"policy_mode": "Monitor", "profile_mode": "Monitor", "baseline_profile": "basic"}});
    fixture.done(Method::POST, "/v1/system/request", &admin, body).await;
    for name in ["nv.web.shop", "nv.db.shop", "nodes"] {
        assert_eq!(modes(name).await, json!(["Monitor", "Monitor", "basic"]), "{name}");
    }
    for (body, code) in [
        (json!({"config": {"services": ["web.shop"], "policy_mode": "protect"}}), 6),
        (json!({"config": {"services": ["none.shop"], "policy_mode": "Protect"}}), 7),
        (json!({"config": {"policy_mode": "Protect"}}), 6),
    ] {
        let refused = fixture.call(Method::PATCH, "/v1/service/config", &admin, Some(body.clone())).await;
        assert_eq!(refused.body["code"], code, "{body} {refused:?}");
    }

    let fail = |name: &'static str| {
        let (fixture, admin) = (&fixture, &admin);
        async move { fixture.get(&format!("/v1/group/{name}"), admin).await["group"]["fail_mode"].clone() }
    };
    assert_eq!(fail("nv.db.shop").await, "open");
    let body = json!({"config": {"services": ["db.shop", "nodes"], "fail_mode": "closed"}});
    fixture.done(Method::PATCH, "/v1/service/config", &admin, body).await;
    assert_eq!(
        [fail("nv.db.shop").await, fail("nodes").await, fail("nv.web.shop").await],
        ["closed", "closed", "open"]
    );
    assert_eq!(modes("nv.db.shop").await, json!(["Monitor", "Monitor", "basic"]), "the other modes stay");
    let body = json!({"config": {"services": ["db.shop"], "fail_mode": "shut"}});
    let refused = fixture.call(Method::PATCH, "/v1/service/config", &admin, Some(body)).await;
    assert_eq!(refused.body["code"], 6, "{refused:?}");

    let service = json!({"config": {"name": "new", "domain": "shop", "policy_mode": "Protect"}});
    fixture.done(Method::POST, "/v1/service", &admin, service).await;
    let services = fixture.get("/v1/service", &admin).await;
    assert_eq!(each(&services["services"], "name"), ["db.shop", "new.shop", "web.shop"]);
    assert_eq!(fixture.get("/v1/service/new.shop", &admin).await["service"]["policy_mode"], "Protect");
}

#[tokio::test]
async fn rules_are_inserted_moved_replaced_changed_and_deleted() {
    let (fixture, admin, _reporter) = two_services().await;
    let act = |body: Value| {
        let (fixture, admin) = (&fixture, &admin);
        async move { fixture.call(Method::PATCH, "/v1/policy/rule", admin, Some(body)).await }
    };
    let three = [
        rule(0, "nv.web.shop", "nv.db.shop", "TCP/80,tcp/81"),
        rule(0, "external", "nv.web.shop", "any"),
        rule(7, "nodes", "nv.web.shop", "icmp"),
    ];
    assert_eq!(act(json!({"insert": {"rules": three}})).await.status, StatusCode::OK);
    assert_eq!(order(&fixture, &admin).await, [1, 2, 7]);
    let first = fixture.get("/v1/policy/rule/1", &admin).await["rule"].clone();
    assert_eq!(
        json!([first["ports"], first["applications"], first["learned"], first["cfg_type"]]),
        json!(["tcp/80-81", ["any"], false, "user_created"])
    );

    assert_eq!(
        act(json!({"move": {"id": 7, "after": 0}, "delete": [1]})).await.status,
        StatusCode::OK,
        "move alone is done"
    );
    assert_eq!(order(&fixture, &admin).await, [7, 1, 2]);
    act(json!({"move": {"id": 7, "after": -2}})).await;
    assert_eq!(order(&fixture, &admin).await, [1, 7, 2]);
    assert_eq!(
        act(json!({"insert": {"after": 1, "rules": [rule(0, "nodes", "nodes", "any")]}})).await.status,
        StatusCode::OK
    );
    let held = order(&fixture, &admin).await;
    assert_eq!((held[0], held.len()), (1, 4));
    assert_eq!(act(json!({"delete": [held[1]]})).await.status, StatusCode::OK);
    assert_eq!(order(&fixture, &admin).await, [1, 7, 2]);

    let change = json!({"config": {"id": 7, "action": "deny", "applications": ["redis"], "disable": true}});
    fixture.done(Method::PATCH, "/v1/policy/rule/7", &admin, change).await;
    let seventh = fixture.get("/v1/policy/rule/7", &admin).await["rule"].clone();
    assert_eq!(
        json!([seventh["action"], seventh["applications"], seventh["disable"], seventh["ports"]]),
        json!(["deny", ["Redis"], true, "icmp"])
    );

    let whole = json!({"rules": [{"id": 2}, rule(0, "nodes", "external", "udp/53"), {"id": 1}]});
    assert_eq!(act(whole).await.status, StatusCode::OK);
    let held = order(&fixture, &admin).await;
    assert_eq!((held[0], held[2], held.len()), (2, 1, 3));

    for (body, code) in [
        (json!({}), 6),
        (json!({"insert": {"rules": [rule(0, "none", "nodes", "any")]}}), 6),
        (json!({"insert": {"rules": [rule(1, "nodes", "nodes", "any")]}}), 13),
        (json!({"insert": {"rules": [rule(10_000, "nodes", "nodes", "any")]}}), 6),
        (json!({"insert": {"rules": [rule(0, "nodes", "nodes", "tcp/x")]}}), 6),
        (json!({"move": {"id": 999, "after": 0}}), 7),
        (json!({"delete": [999]}), 7),
    ] {
        let refused = act(body.clone()).await;
        assert_eq!(refused.body["code"], code, "{body} {refused:?}");
    }
    assert_eq!(fixture.call(Method::DELETE, "/v1/policy/rule/2", &admin, None).await.status, StatusCode::OK);
    assert_eq!(fixture.call(Method::GET, "/v1/policy/rule/2", &admin, None).await.body["code"], 7);
    assert_eq!(fixture.call(Method::DELETE, "/v1/policy/rule", &admin, None).await.status, StatusCode::OK);
    assert!(order(&fixture, &admin).await.is_empty());
}

#[tokio::test]
async fn a_profile_shows_what_was_learned_and_takes_changes() {
    let (fixture, admin, mut reporter) = two_services().await;
    reporter.tell(ran("web-1", "nv.web.shop", "/usr/bin/nginx", Verdict::Learn)).await;
    let path = "/v1/process_profile/nv.web.shop";
    let learned = fixture
        .until(path, &admin, |profile| {
            !profile["process_profile"]["process_list"].as_array().unwrap().is_empty()
        })
        .await["process_profile"]
        .clone();
    assert_eq!(
        json!([
            learned["mode"],
            learned["baseline"],
            learned["process_list"][0]["name"],
            learned["process_list"][0]["cfg_type"]
        ]),
        json!(["Discover", "basic", "nginx", "learned"])
    );
    let uuid = learned["process_list"][0]["uuid"].as_str().unwrap();
    let found = fixture.get(&format!("/v1/process_rules/{uuid}"), &admin).await;
    assert_eq!(found["process_rules"][0]["group"], "nv.web.shop");

    let change = json!({"process_profile_config": {"group": "nv.web.shop", "alert_disabled": true,
        "process_change_list": [{"name": "sh", "path": "/bin/sh", "action": "deny"}],
        "process_delete_list": [{"name": "nginx", "path": "/usr/bin/nginx"}]}});
    fixture.done(Method::PATCH, path, &admin, change).await;
    let shown = fixture.get(path, &admin).await["process_profile"].clone();
    assert_eq!(each(&shown["process_list"], "name"), ["sh"]);
    assert_eq!(
        (&shown["alert_disabled"], &shown["process_list"][0]["cfg_type"]),
        (&json!(true), &json!("user_created"))
    );
    let some = json!({"name": "sh", "path": "/bin/sh", "action": "allow", "arguments": "/app/run*", "parent": "/bin/init", "uid": 0});
    let conditional = json!({"process_profile_config": {"process_change_list": [some]}});
    fixture.done(Method::PATCH, path, &admin, conditional).await;
    let shown = fixture.get(path, &admin).await["process_profile"]["process_list"].clone();
    assert_eq!(
        each(&shown, "action"),
        ["deny", "allow"],
        "a line with conditions stands beside the one without"
    );
    assert_eq!(
        json!([shown[1]["arguments"], shown[1]["parent"], shown[1]["uid"], shown[0]["uid"]]),
        json!(["/app/run*", "/bin/init", 0, null])
    );
    for wrong in [json!({"arguments": "a*b"}), json!({"parent": "bin/init"}), json!({"parent": "*"})] {
        let mut line = json!({"name": "sh", "path": "/bin/sh", "action": "deny"});
        line.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let config = json!({"process_profile_config": {"process_change_list": [line]}});
        assert!(
            fixture.call(Method::PATCH, path, &admin, Some(config)).await.status.is_client_error(),
            "{wrong}"
        );
    }
    let deny_all = json!({"process_profile_config": {"process_change_list": [{"name": "*", "path": "*", "action": "deny"}]}});
    assert_eq!(fixture.call(Method::PATCH, path, &admin, Some(deny_all)).await.body["code"], 6);
    let effective =
        fixture.get("/v1/workload/web-1/process_profile", &admin).await["process_profile"].clone();
    assert_eq!(effective["process_list"][0]["group"], "nv.web.shop");
    let profiles = fixture.get("/v1/process_profile", &admin).await;
    assert!(each(&profiles["process_profiles"], "group").contains(&"nodes"));
}

#[tokio::test]
async fn file_rules_are_added_changed_deleted_and_shown_with_the_built_in_list_on_demand() {
    let (fixture, admin, _reporter) = two_services().await;
    let path = "/v1/file_monitor/nv.web.shop";
    let filter = json!({"filter": "/etc/shadow", "recursive": false, "behavior": "block_access", "applications": ["/usr/bin/passwd"]});
    fixture.done(Method::PATCH, path, &admin, json!({"config": {"add_filters": [filter]}})).await;
    let shown = fixture.get(path, &admin).await["profile"].clone();
    assert_eq!(each(&shown["filters"], "filter"), ["/etc/shadow"]);
    assert_eq!(shown["filters"][0]["cfg_type"], "user_created");
    let all = fixture.get(&format!("{path}?predefined"), &admin).await["profile"].clone();
    assert!(each(&all["filters"], "filter").contains(&"/var/lib/dpkg/status"));
    let again =
        fixture.call(Method::PATCH, path, &admin, Some(json!({"config": {"add_filters": [filter]}}))).await;
    assert_eq!((again.status, &again.body["code"]), (StatusCode::BAD_REQUEST, &json!(13)), "{again:?}");
    let changed = json!({"filter": "/etc/shadow", "behavior": "monitor_change"});
    fixture.done(Method::PATCH, path, &admin, json!({"config": {"update_filters": [changed]}})).await;
    let of_workload = fixture.get("/v1/workload/web-1/file_profile", &admin).await["profile"].clone();
    assert_eq!(
        (&of_workload["filters"][0]["behavior"], &of_workload["filters"][0]["group"]),
        (&json!("monitor_change"), &json!("nv.web.shop"))
    );
    fixture
        .done(Method::PATCH, path, &admin, json!({"config": {"delete_filters": [{"filter": "/etc/shadow"}]}}))
        .await;
    assert_eq!(fixture.get(path, &admin).await["profile"]["filters"], json!([]));
    for (config, code) in [
        (json!({"delete_filters": [{"filter": "/etc/shadow"}]}), 7),
        (json!({"add_filters": [{"filter": "/etc/../x", "behavior": "monitor_change"}]}), 6),
        (json!({"add_filters": [{"filter": "/etc/x", "behavior": "forbid"}]}), 6),
        (json!({"add_filters": [{"filter": "/x", "behavior": "block_access", "applications": ["cat"]}]}), 6),
    ] {
        let refused = fixture.call(Method::PATCH, path, &admin, Some(json!({"config": config}))).await;
        assert_eq!(refused.body["code"], code, "{config} {refused:?}");
    }
    let host = fixture
        .call(
            Method::PATCH,
            "/v1/file_monitor/nodes",
            &admin,
            Some(json!({"config": {"add_filters": [filter]}})),
        )
        .await;
    assert_eq!(host.body["code"], 6, "{host:?}");
}
