//! Groups with their policy as a file: what is exported comes back, and a wrong file changes nothing.

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use nv_model::rule::RuleId;
use nv_policy::state::State;
use serde_json::{Value, json};

use crate::fixture::Fixture;

const PATH: &str = "/v1/file/group/config";

/// A learned group, one of users and one of addresses, with every kind of policy.
async fn policy(fixture: &Fixture, admin: &str) {
    let service = json!({"config": {"name": "web", "domain": "shop", "policy_mode": "Protect", "profile_mode": "Monitor",
        "baseline_profile": "zero-drift", "fail_mode": "closed", "not_scored": true}});
    fixture.done(Method::POST, "/v1/service", admin, service).await;
    for group in [
        json!({"name": "fronts", "comment": "a: \"note\"", "monitor_metric": true, "group_sess_cur": 7,
            "criteria": [{"key": "image", "op": "contains", "value": "nginx"}, {"key": "tier", "op": "!=", "value": "db"}]}),
        json!({"name": "partners", "criteria": [{"key": "address", "op": "=", "value": "198.51.100.0/24"}]}),
    ] {
        fixture.done(Method::POST, "/v1/group", admin, json!({"config": group})).await;
    }
    let rule = |from: &str, to: &str, ports: &str, action: &str| {
        json!({"id": 0, "from": from, "to": to, "ports": ports,
        "action": action, "applications": ["HTTP", "SSL"], "comment": "why", "disable": action == "deny"})
    };
    for inserted in [
        rule("partners", "fronts", "tcp/443", "allow"),
        rule("fronts", "nv.web.shop", "tcp/8080", "deny"),
        rule("nv.web.shop", "external", "any", "allow"),
        rule("Host:n1", "fronts", "any", "allow"),
    ] {
        let body = json!({"insert": {"after": 0, "rules": [inserted]}});
        fixture.done(Method::PATCH, "/v1/policy/rule", admin, body).await;
    }
    let lines = json!([{"name": "nginx", "path": "/usr/sbin/nginx", "action": "allow", "allow_update": true},
        {"name": "curl", "path": "/usr/bin/*", "action": "deny", "arguments": "* -o *", "parent": "/bin/sh", "uid": 33}]);
    for group in ["nv.web.shop", "fronts"] {
        let body = json!({"process_profile_config": {"group": group, "process_change_list": lines, "hash_enabled": group != "fronts"}});
        fixture.done(Method::PATCH, &format!("/v1/process_profile/{group}"), admin, body).await;
        let body = json!({"config": {"add_filters": [
            {"filter": "/etc/nginx/*.conf", "recursive": true, "behavior": "block_access", "applications": ["/usr/sbin/nginx"]},
            {"filter": "/srv/*", "recursive": false, "behavior": "monitor_change"}]}});
        fixture.done(Method::PATCH, &format!("/v1/file_monitor/{group}"), admin, body).await;
    }
    let sensors =
        json!({"config": {"name": "fronts", "sensors": [{"name": "sensor.log4shell", "action": "deny"}]}});
    fixture.done(Method::PATCH, "/v1/waf/group/fronts", admin, sensors).await;
    let off = json!({"config": {"name": "fronts", "status": false}});
    fixture.done(Method::PATCH, "/v1/dlp/group/fronts", admin, off).await;
}

/// All that is said, without numbers that are given out.
fn said(fixture: &Fixture) -> State {
    let mut state = (*fixture.controller.view().state).clone();
    for rule in &mut state.rules {
        (rule.id, rule.created, rule.modified) = (RuleId(0), Default::default(), Default::default());
    }
    for line in state.profiles.values_mut().flat_map(|profile| &mut profile.rules) {
        line.uuid.clear();
    }
    state
}

async fn export(fixture: &Fixture, who: &str, body: Value) -> String {
    let answer = fixture.call(Method::POST, "/v1/file/group", who, Some(body.clone())).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let disposition = answer.headers["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, "Attachment; filename=cfgGroupsExport.yaml");
    let same = fixture.call(Method::GET, "/v1/file/group", who, Some(body)).await;
    assert_eq!(same.body, answer.body);
    answer.body.as_str().unwrap().to_owned()
}

async fn forget(fixture: &Fixture, admin: &str) {
    fixture.call(Method::DELETE, "/v1/policy/rule", admin, None).await;
    for group in ["nv.web.shop", "fronts", "partners"] {
        let gone = fixture.call(Method::DELETE, &format!("/v1/group/{group}"), admin, None).await;
        assert_eq!(gone.status, StatusCode::OK, "{gone:?}");
    }
}

#[tokio::test]
async fn groups_that_are_exported_and_deleted_come_back_with_all_that_held_for_them() {
    let (fixture, admin) = Fixture::started().await;
    policy(&fixture, &admin).await;
    // A rule about one host is about nothing elsewhere.
    let mut before = said(&fixture);
    before.rules.retain(|rule| !rule.from.as_str().starts_with("Host:"));
    let file = export(&fixture, &admin, json!({"groups": ["fronts", "nv.web.shop"]})).await;
    for part in ["kind: NvSecurityRule", "kind: NvClusterSecurityRule", "namespace: shop", "policymode: N/A"]
    {
        assert!(file.contains(part), "{part}: {file}");
    }
    assert!(!file.contains("Host:"), "{file}");
    forget(&fixture, &admin).await;
    let form = format!("--x\r\nContent-Disposition: form-data; name=\"f\"\r\n\r\n{file}\r\n--x--\r\n");
    for (kind, file) in [("text/plain", file.clone()), ("multipart/form-data; boundary=x", form)] {
        let done = fixture.import(&admin, PATH, kind, &file).await;
        assert_eq!((done.status, &done.body["data"]["status"]), (StatusCode::OK, &json!("done")), "{done:?}");
        let after = said(&fixture);
        assert_eq!(after.groups, before.groups, "{kind}");
        assert_eq!(after.rules, before.rules, "{kind}");
        assert_eq!(after, before, "{kind}");
    }
    let last = fixture.get(PATH, &admin).await;
    assert_eq!((&last["data"]["status"], &last["data"]["percentage"]), (&json!("done"), &json!(100)));

    let body = json!({"groups": ["nv.web.shop", "nodes"], "policy_mode": "Monitor", "profile_mode": "Discover", "use_name_referral": true});
    let file = export(&fixture, &admin, body).await;
    assert!(file.contains("policymode: Monitor") && file.contains("mode: Discover"), "{file}");
    assert!(file.contains("name_referral: true") && !file.contains("Protect"), "{file}");
    assert_eq!(fixture.import(&admin, PATH, "text/plain", &file).await.status, StatusCode::OK);
    let group = fixture.get("/v1/group/nv.web.shop", &admin).await["group"].clone();
    assert_eq!((&group["policy_mode"], &group["fail_mode"]), (&json!("Monitor"), &json!("closed")));
}

/// As the product that this one takes the place of writes it.
const FOREIGN: &str = "apiVersion: v1
items:
- apiVersion: neuvector.com/v1
  kind: NvSecurityRule
  metadata:
    creationTimestamp: null
    name: nv.api.prod
    namespace: prod
  spec:
    dlp:
      settings: []
      status: true
    egress:
    - action: allow
      applications:
      - any
      name: external-egress-0
      ports: any
      priority: 0
      selector:
        comment: \"\"
        name: external
        original_name: \"\"
    file: []
    ingress:
    - action: allow
      applications: null
      name: nv.api.prod-ingress-0
      ports: tcp/80
      priority: 0
      selector:
        comment: \"\"
        criteria:
        - key: service
          op: =
          value: gate.prod
        - key: domain
          op: =
          value: prod
        name: nv.gate.prod.prod
        original_name: \"\"
    process:
    - action: allow
      allow_update: false
      name: api
      path: /app/api
    process_profile:
      baseline: zero-drift
    target:
      policymode: Monitor
      selector:
        comment: \"\"
        criteria:
        - key: service
          op: =
          value: api
        - key: domain
          op: =
          value: prod
        grp_band_width: 0
        grp_sess_cur: 0
        grp_sess_rate: 0
        mon_metric: false
        name: nv.api.prod
        original_name: \"\"
    waf:
      settings: []
      status: true
kind: List
metadata: null
";

#[tokio::test]
async fn a_file_of_the_contract_is_taken_and_a_wrong_one_says_where_and_changes_nothing() {
    let (fixture, admin) = Fixture::started().await;
    let before = said(&fixture);
    for (from, to, wants) in [
        ("path: /app/api", "path: /app/../api", "line 43, group nv.api.prod, spec.process"),
        ("ports: tcp/80", "ports: tcp/http", "line 26, group nv.api.prod, spec.ingress"),
        (
            "op: =\n          value: api\n",
            "op: like\n          value: api\n",
            "line 54, group nv.api.prod, criteria",
        ),
        ("policymode: Monitor", "policymode: Watch", "line 50, group nv.api.prod, spec.target"),
        ("allow_update: false", "allow_updat: false", "allow_updat"),
        ("kind: NvSecurityRule", "kind: NvSecurity", "line 3: \"neuvector.com/v1\" \"NvSecurity\""),
        (
            "name: nv.api.prod\n        original",
            "name: nv.api.test\n        original",
            "named as learned ones are",
        ),
        ("settings: []", "settings: [{name: nobody, action: deny}]", "dlp sensor nobody does not exist"),
        ("name: external\n", "name: nobody\n", "spec.egress: rule 2: group nobody does not exist"),
        ("baseline: zero-drift", "baseline: none", "line 48, group nv.api.prod, spec.process_profile"),
        ("action: allow\n      allow_update", "action: may\n      allow_update", "neither allow nor deny"),
        ("items:", "items: [", "no YAML"),
    ] {
        assert!(FOREIGN.contains(from), "{from}");
        let refused = fixture.import(&admin, PATH, "text/plain", &FOREIGN.replacen(from, to, 1)).await;
        let message = refused.body["message"].as_str().unwrap_or_default();
        assert!(refused.body["code"] == 18 && message.contains(wants), "{wants}: {refused:?}");
        assert_eq!(refused.body["import_task_data"]["data"]["status"], *message);
        assert_eq!(said(&fixture), before, "{wants}");
    }
    let done = fixture.import(&admin, PATH, "text/plain", FOREIGN).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let group = fixture.get("/v1/group/nv.api.prod", &admin).await["group"].clone();
    assert_eq!(
        json!([group["domain"], group["policy_mode"], group["profile_mode"], group["baseline_profile"]]),
        json!(["prod", "Monitor", "Monitor", "zero-drift"])
    );
    let rules: Vec<_> = group["policy_rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| json!([rule["from"], rule["to"], rule["ports"]]))
        .collect();
    assert_eq!(
        rules,
        [json!(["nv.gate.prod.prod", "nv.api.prod", "tcp/80"]), json!(["nv.api.prod", "external", "any"])]
    );
}

#[tokio::test]
async fn groups_of_a_namespace_are_exported_by_who_reads_it_and_imported_by_who_writes_all() {
    let (fixture, admin) = Fixture::started().await;
    policy(&fixture, &admin).await;
    let owner = fixture.user(&admin, "o", "", json!({"admin": ["shop"]})).await;
    let stranger = fixture.user(&admin, "s", "", json!({"admin": ["bank"]})).await;
    let file = export(&fixture, &owner, json!({"groups": ["nv.web.shop"]})).await;
    let body = json!({"groups": ["nv.web.shop"]});
    let refused = fixture.call(Method::POST, "/v1/file/group", &stranger, Some(body)).await;
    assert_eq!(refused.body["code"], 25, "{refused:?}");
    let request = Request::post(PATH).header("x-auth-token", &owner).body(Body::from(file)).unwrap();
    assert_eq!(fixture.raw(request).await.body["code"], 25);
}
