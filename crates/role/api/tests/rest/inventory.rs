//! What runs: hosts, components, workloads, namespaces, the system's summary and configuration.

use axum::http::{Method, StatusCode};
use nv_model::node::Usage;
use nv_model::observation::Observation;
use nv_model::time::Timestamp;
use nv_model::vitals::{Drops, Shedding, Vitals};
use serde_json::json;

use crate::fixture::{Fixture, each};
use crate::node::{Reporter, workload};

async fn shop() -> (Fixture, String, Reporter) {
    let (fixture, admin) = Fixture::started().await;
    let mut sandbox = workload("pause-1", "web", "shop", 9);
    sandbox.is_sandbox = true;
    sandbox.pod_name = "web-pod".into();
    let mut web = workload("web-1", "web", "shop", 10);
    web.pod_sandbox = Some(sandbox.id.clone());
    web.pod_name = "web-pod".into();
    let workloads =
        vec![sandbox, web, workload("db-1", "db", "shop", 11), workload("pay-1", "pay", "bank", 12)];
    let reporter = Reporter::link(&fixture.controller, workloads).await;
    fixture
        .until("/v1/group", &admin, |groups| each(&groups["groups"], "name").contains(&"nv.pay.bank"))
        .await;
    fixture.until("/v1/workload", &admin, |list| list["workloads"].as_array().unwrap().len() == 4).await;
    (fixture, admin, reporter)
}

#[tokio::test]
async fn workloads_are_listed_filtered_nested_and_shown_in_both_versions() {
    let (fixture, admin, _reporter) = shop().await;
    let list = |query: &'static str| {
        let (fixture, admin) = (&fixture, &admin);
        async move { fixture.get(&format!("/v1/workload{query}"), admin).await["workloads"].clone() }
    };
    for (query, want) in [
        ("", vec!["db-1", "pause-1", "pay-1", "web-1"]),
        ("?brief=true", vec!["db-1", "pause-1", "pay-1", "web-1"]),
        ("?f_domain=shop", vec!["db-1", "pause-1", "web-1"]),
        ("?s_domain=desc&s_id=asc&limit=2", vec!["db-1", "pause-1"]),
        ("?f_service_group=nv.db.shop", vec!["db-1"]),
        ("?start=1&limit=2", vec!["pause-1", "pay-1"]),
        ("?view=pod", vec!["db-1", "pause-1", "pay-1"]),
    ] {
        assert_eq!(each(&list(query).await, "id"), want, "{query}");
    }
    assert_eq!(each(&list("?view=pod&f_id=pause-1").await[0]["children"], "id"), ["web-1"]);
    let brief = list("?brief=true").await;
    assert!(brief[0]["labels"].is_null() && brief[0]["image"] == "registry/db:1");

    let shown = fixture.get("/v1/workload/db-1", &admin).await["workload"].clone();
    assert_eq!(shown["state"], "discover");
    assert_eq!(shown["service"], "db.shop");
    assert_eq!(shown["interfaces"]["eth0"][0], json!({"ip": "10.1.0.11", "ip_prefix": 24, "gateway": ""}));
    assert!(each_text(&shown["groups"]).contains(&"nv.db.shop"));
    assert_eq!(shown["enforcer_name"], "host-n1");
    let second = fixture.get("/v2/workload/db-1", &admin).await["workload"].clone();
    assert_eq!(
        (&second["brief"]["id"], &second["security"]["policy_mode"]),
        (&json!("db-1"), &json!("Discover"))
    );
    assert_eq!(second["rt_attributes"]["labels"]["app"], "db");
    let v2 = fixture.get("/v2/workload?f_domain=bank", &admin).await["workloads"].clone();
    assert_eq!(v2[0]["brief"]["id"], "pay-1");
    let by_id = fixture.done(Method::POST, "/v2/workload", &admin, json!({"ids": ["db-1"]})).await;
    assert_eq!(by_id["workloads"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.call(Method::GET, "/v1/workload/none", &admin, None).await.body["code"], 7);
}

fn each_text(list: &serde_json::Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_user_of_a_namespace_sees_that_namespace_alone() {
    let (fixture, admin, _reporter) = shop().await;
    let joe = fixture.user(&admin, "joe", "", json!({"reader": ["bank"]})).await;
    assert_eq!(each(&fixture.get("/v1/workload", &joe).await["workloads"], "id"), ["pay-1"]);
    assert_eq!(each(&fixture.get("/v1/domain", &joe).await["domains"], "name"), ["bank"]);
    assert_eq!(
        fixture.call(Method::GET, "/v1/workload/db-1", &joe, None).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        fixture.call(Method::GET, "/v1/group/nv.db.shop", &joe, None).await.status,
        StatusCode::FORBIDDEN
    );
    let groups = fixture.get("/v1/group", &joe).await;
    let names = each(&groups["groups"], "name");
    assert!(names.contains(&"nv.pay.bank") && !names.contains(&"nv.db.shop"), "{names:?}");
    let summary = fixture.get("/v1/system/summary", &joe).await["summary"].clone();
    assert_eq!(
        (&summary["workloads"], &summary["hosts"], &summary["enforcers"]),
        (&json!(1), &json!(0), &json!(0))
    );
}

#[tokio::test]
async fn the_system_is_shown_in_numbers_and_parts() {
    let (fixture, admin, _reporter) = shop().await;
    let summary = fixture.get("/v1/system/summary", &admin).await["summary"].clone();
    assert_eq!(
        json!([
            summary["hosts"],
            summary["controllers"],
            summary["enforcers"],
            summary["running_workloads"],
            summary["running_pods"],
            summary["services"],
            summary["domains"]
        ]),
        json!([1, 1, 1, 3, 1, 3, 2])
    );
    let host = fixture.get("/v1/host", &admin).await["hosts"][0].clone();
    assert_eq!(
        (&host["name"], &host["cpus"], &host["containers"], &host["pods"], &host["state"]),
        (&json!("host-n1"), &json!(2), &json!(3), &json!(1), &json!("discover"))
    );
    assert_eq!(fixture.get("/v1/host/n1", &admin).await["host"]["labels"]["zone"], "a");
    let enforcer = fixture.get("/v1/enforcer", &admin).await["enforcers"][0].clone();
    assert_eq!(
        (&enforcer["connection_state"], &enforcer["host_name"]),
        (&json!("connected"), &json!("host-n1"))
    );
    let controllers = fixture.get("/v1/controller", &admin).await;
    assert_eq!(controllers["controllers"][0]["leader"], true);
    let domains = fixture.get("/v1/domain", &admin).await;
    assert_eq!(domains["domains"][1]["name"], "shop");
    assert_eq!(
        (
            &domains["domains"][1]["running_workloads"],
            &domains["domains"][1]["running_pods"],
            &domains["domains"][1]["services"]
        ),
        (&json!(2), &json!(1), &json!(2))
    );
    assert_eq!(fixture.get("/v1/fed/member", &admin).await["fed_role"], "");
    let applications = fixture.get("/v1/list/application", &admin).await;
    assert!(each_text(&applications["list"]["application"]).contains(&"Redis"));
}

#[tokio::test]
async fn configuration_is_changed_in_both_versions_and_what_has_no_effect_yet_is_refused() {
    let (fixture, admin) = Fixture::started().await;
    let change = json!({"config": {"new_service_policy_mode": "Monitor", "cluster_name": "prod"}, "net_config": {"strict_group_mode": true}});
    fixture.done(Method::PATCH, "/v1/system/config", &admin, change).await;
    let first = fixture.get("/v1/system/config", &admin).await["config"].clone();
    assert_eq!(
        json!([
            first["new_service_policy_mode"],
            first["cluster_name"],
            first["strict_group_mode"],
            first["xff_enabled"]
        ]),
        json!(["Monitor", "prod", true, true])
    );
    let change = json!({"config_v2": {"svc_cfg": {"new_service_profile_baseline": "zero-drift", "new_service_fail_mode": "closed"}, "misc_cfg": {"unused_group_aging": 12}}});
    fixture.done(Method::PATCH, "/v2/system/config", &admin, change).await;
    let second = fixture.get("/v2/system/config", &admin).await["config"].clone();
    assert_eq!(
        second["new_svc"],
        json!({"new_service_policy_mode": "Monitor", "new_service_profile_mode": "Discover", "new_service_profile_baseline": "zero-drift", "new_service_fail_mode": "closed"})
    );
    assert_eq!(second["misc"]["unused_group_aging"], 12);
    for (body, code) in [
        (json!({"config": {"new_service_policy_mode": ""}}), 6),
        (json!({"config": {"unused_group_aging": 200}}), 6),
        (json!({"config": {"syslog_status": true}}), 4),
    ] {
        let refused = fixture.call(Method::PATCH, "/v1/system/config", &admin, Some(body.clone())).await;
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (StatusCode::BAD_REQUEST, &json!(code)),
            "{body}"
        );
    }
    fixture
        .done(Method::PATCH, "/v1/system/config", &admin, json!({"config": {"syslog_status": false}}))
        .await;
    fixture.done(Method::POST, "/v1/eula", &admin, json!({"eula": {"accepted": true}})).await;
    assert_eq!(fixture.get("/v1/eula", "").await["eula"]["accepted"], true);
}

#[tokio::test]
async fn use_of_nodes_and_workloads_is_shown_once_it_was_reported() {
    let (fixture, admin, mut reporter) = shop().await;
    assert_eq!(fixture.call(Method::GET, "/v1/workload/db-1/stats", &admin, None).await.body["code"], 7);
    for workload in [Some("db-1".parse().unwrap()), None] {
        let usage = Usage { cpu: 0.25, memory: 4096, ..Usage::default() };
        reporter.tell(Observation::Usage { workload, usage, at: Timestamp::from_seconds(1) }).await;
    }
    for path in ["/v1/workload/db-1/stats", "/v1/enforcer/n1/stats"] {
        let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
        let answer = loop {
            let answer = fixture.call(Method::GET, path, &admin, None).await;
            if answer.status == StatusCode::OK {
                break answer.body;
            }
            assert!(tokio::time::Instant::now() < limit, "{path} {answer:?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(
            (&answer["stats"]["interval"], &answer["stats"]["span_1"]["memory"]),
            (&json!(5), &json!(4096))
        );
        assert_eq!(answer["stats"]["span_60"]["cpu"], 0.25);
    }
    // A group's workloads use it together.
    let group = fixture.get("/v1/group/nv.db.shop/stats", &admin).await;
    assert_eq!(
        (&group["name"], &group["stats"]["span_1"]["memory"], &group["stats"]["span_60"]["cpu"]),
        (&json!("nv.db.shop"), &json!(4096), &json!(0.25))
    );
    let nobody = fixture.get("/v1/group/external/stats", &admin).await;
    assert_eq!(nobody["stats"]["span_1"]["memory"], 0);
}

#[tokio::test]
async fn how_enforcers_and_controllers_fare_is_shown_and_shedding_is_an_event() {
    let (fixture, admin, mut reporter) = shop().await;
    assert_eq!(fixture.call(Method::GET, "/v1/enforcer/n1/counter", &admin, None).await.body["code"], 7);
    let drops = Drops { exec: 7, ..Drops::default() };
    reporter
        .beat(Vitals {
            drops,
            shedding: Shedding::Activity,
            memory: 3 << 20,
            memory_budget: 1 << 20,
            log_level: "info".into(),
            counters: [("network.denied_packets".to_owned(), 42)].into(),
            ..Vitals::default()
        })
        .await;
    for shedding in [Shedding::Activity, Shedding::Usage, Shedding::Nothing] {
        reporter.tell(Observation::Dropped { kernel: 0, queue: 0, drops, shedding }).await;
    }
    let limit = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let counter = loop {
        let answer = fixture.call(Method::GET, "/v1/enforcer/n1/counter", &admin, None).await;
        if answer.status == StatusCode::OK {
            break answer.body["counter"].clone();
        }
        assert!(tokio::time::Instant::now() < limit, "{answer:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert_eq!(counter["rx_drop_packets"], 42);
    assert_eq!((&counter["drops"]["exec"], &counter["shedding"]), (&json!(7), &json!("activity")));
    assert_eq!(fixture.get("/v1/enforcer/n1/config", &admin).await["config"]["log_level"], "info");

    let events = fixture.get("/v1/log/event", &admin).await;
    let names = each(&events["events"], "name");
    for (name, times) in
        [("Enforcer.Shedding.Start", 1), ("Enforcer.Shedding.Stop", 1), ("Agent.Memory.Pressure", 1)]
    {
        assert_eq!(names.iter().filter(|found| **found == name).count(), times, "{name} {names:?}");
    }

    let own = fixture.controller.id().to_string();
    let counter = fixture.get(&format!("/v1/controller/{own}/counter"), &admin).await["counter"].clone();
    assert!(counter["counters"]["observations"].as_u64() >= Some(3), "{counter}");
    assert_eq!(
        fixture.get(&format!("/v1/controller/{own}/config"), &admin).await["config"]["log_level"],
        "debug"
    );
    assert_eq!(fixture.call(Method::GET, "/v1/controller/other/counter", &admin, None).await.body["code"], 7);
}

#[tokio::test]
async fn a_workload_is_quarantined_and_let_go() {
    let (fixture, admin, _reporter) = shop().await;
    let body = |on: bool| json!({"config": {"quarantine": on}});
    fixture.done(Method::PATCH, "/v1/workload/db-1", &admin, body(true)).await;
    let shown = fixture.get("/v1/workload/db-1", &admin).await["workload"].clone();
    assert_eq!(
        (&shown["state"], &shown["quarantine_reason"]),
        (&json!("quarantined"), &json!("user-configured"))
    );
    assert_eq!(fixture.get("/v1/workload/db-1/config", &admin).await["config"]["quarantine"], true);
    let end = json!({"request": {"unquarantine": {"group": "nv.db.shop"}}});
    fixture.done(Method::POST, "/v1/system/request", &admin, end).await;
    assert_eq!(fixture.get("/v1/workload/db-1", &admin).await["workload"]["state"], "discover");
}

#[tokio::test]
async fn processes_and_their_history_are_asked_of_the_node() {
    let (fixture, admin, _reporter) = shop().await;
    let living = fixture.get("/v1/workload/web-1/process", &admin).await;
    assert_eq!(
        living["processes"],
        json!([{
            "name": "sh", "cmdline": "sh -c run", "user": "root", "status": "Sleeping", "action": "allow", "pid": 100,
            "parent": 1, "group": 100, "session": 100, "root": true, "start_timestamp": 10, "path": "/bin/sh",
            "uid": 0, "euid": 0,
        }])
    );
    let history = fixture.get("/v1/workload/web-1/process_history", &admin).await;
    assert_eq!(each(&history["processes"], "name"), ["sh", "nc"]);
    let ended = &history["processes"][1];
    assert_eq!(
        (&ended["status"], &ended["action"], &ended["root"]),
        (&json!("Exited"), &json!("deny"), &json!(false))
    );
    assert_eq!((&ended["end_timestamp"], &ended["exit_code"]), (&json!(12), &json!(137)));

    // The host's own are without the containers'.
    let of_host = fixture.get("/v1/host/n1/process", &admin).await;
    assert_eq!(each(&of_host["processes"], "name"), ["init"]);
    assert_eq!(
        each(&fixture.get("/v1/host/n1/process_history", &admin).await["processes"], "name"),
        ["init", "cron"]
    );

    let refused = fixture.call(Method::GET, "/v1/host/n9/process", &admin, None).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::NOT_FOUND, &json!(7)));
    let refused = fixture.call(Method::GET, "/v1/workload/db-1/process", &admin, None).await;
    assert_eq!((refused.status, &refused.body["code"]), (StatusCode::NOT_FOUND, &json!(7)));
}

#[tokio::test]
async fn captures_are_begun_and_ended_by_who_may_change_the_workload() {
    let (fixture, admin, _reporter) = shop().await;
    let at = "/v1/sniffer?f_workload=web-1";
    let body = json!({"sniffer": {"filter": "tcp port 80"}});
    let begun = fixture.done(Method::POST, at, &admin, body.clone()).await;
    let id = begun["result"]["id"].as_str().unwrap().to_owned();
    assert_eq!(id, "0a1b2c3dn1", "its number and the enforcer's id");
    assert_eq!(
        fixture.get(&format!("/v1/sniffer/{id}"), &admin).await["sniffer"],
        json!({
            "id": id, "enforcer_id": "n1", "container_id": "web-1", "status": "running", "args": "tcp",
            "file_number": 0, "size": 0, "start_time": 10, "stop_time": 0, "packets": 0, "dropped": 0,
        })
    );
    fixture.done(Method::PATCH, &format!("/v1/sniffer/stop/{id}"), &admin, json!(null)).await;

    let outsider = fixture.user(&admin, "outsider", "", json!({"admin": ["other"]})).await;
    let insider = fixture.user(&admin, "insider", "", json!({"admin": ["shop"]})).await;
    let reader = fixture.user(&admin, "looker", "", json!({"reader": ["shop"]})).await;
    for (who, path, method, status) in [
        (&insider, at, Method::POST, 200),
        (&outsider, at, Method::POST, 403),
        (&reader, at, Method::POST, 403),
        (&reader, &format!("/v1/sniffer/{id}"), Method::GET, 200),
        (&reader, &format!("/v1/sniffer/{id}"), Method::DELETE, 403),
        (&outsider, &format!("/v1/sniffer/{id}"), Method::GET, 403),
        (&admin, "/v1/sniffer/0a1b2c3dn9", Method::GET, 404),
        (&admin, "/v1/sniffer/0a1b2c3en1", Method::GET, 404),
        (&admin, "/v1/sniffer/1", Method::GET, 404),
        (&admin, "/v1/sniffer", Method::POST, 400),
    ] {
        let body = (method == Method::POST).then(|| body.clone());
        let answer = fixture.call(method.clone(), path, who, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}: {answer:?}");
    }
    let strange = json!({"sniffer": {"filter": "port http; id"}});
    let refused = fixture.call(Method::POST, at, &admin, Some(strange)).await;
    assert_eq!(refused.body["code"], 6);
    assert!(refused.body["message"].as_str().unwrap().contains("\";\" at 9"), "{refused:?}");
}

#[tokio::test]
async fn sessions_are_asked_of_the_node_and_cleared_there() {
    let (fixture, admin, _reporter) = shop().await;
    let of_one = fixture.get("/v1/session?f_workload=web-1", &admin).await;
    assert_eq!(
        of_one["sessions"],
        json!([{
            "id": 7, "workload_id": "web-1", "application": "", "ether_type": 2048, "ip_proto": 6,
            "client_ip": "10.0.0.2", "client_port": 40000, "server_ip": "10.0.0.3", "server_port": 5432, "xff_ip": "198.51.100.7",
            "client_pkts": 3, "client_bytes": 300, "server_pkts": 2, "server_bytes": 200, "age": 9, "idle": 1,
            "policy_action": "allow", "policy_id": 10001, "ingress": false,
        }])
    );
    let enforcers = fixture.get("/v1/enforcer", &admin).await;
    let node = format!("f_enforcer={}", enforcers["enforcers"][0]["id"].as_str().unwrap());
    let ids = |answer: &serde_json::Value| {
        answer["sessions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_u64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&fixture.get(&format!("/v1/session?{node}"), &admin).await), [7, 8]);
    assert_eq!(ids(&fixture.get(&format!("/v1/session?{node}&start=1&limit=1"), &admin).await), [8]);
    let cleared = fixture.call(Method::DELETE, &format!("/v1/session?{node}&f_id=8"), &admin, None).await;
    assert_eq!(cleared.status, StatusCode::OK);
    for (method, path, code) in [
        (Method::GET, "/v1/session".to_owned(), 12),
        (Method::GET, "/v1/session?f_enforcer=none".to_owned(), 7),
        (Method::DELETE, format!("/v1/session?{node}&f_id=x"), 6),
    ] {
        let refused = fixture.call(method, &path, &admin, None).await;
        assert_eq!(refused.body["code"], code, "{path}");
    }
}

#[tokio::test]
async fn meters_and_watched_files_are_asked_of_the_node() {
    let (fixture, admin, _reporter) = shop().await;
    let of_one = fixture.get("/v1/meter?f_workload=web-1", &admin).await;
    let flood = json!({
        "type": "syn_flood", "workload_id": "web-1", "peer_ip": "", "cur_count": 900, "span_count": 2700,
        "span": 5, "tap": false, "idle": 0, "upper_limit": 800, "lower_limit": 600,
    });
    assert_eq!(of_one["meters"], json!([flood]));
    let enforcers = fixture.get("/v1/enforcer", &admin).await;
    let node = format!("f_enforcer={}", enforcers["enforcers"][0]["id"].as_str().unwrap());
    for (query, want) in [
        ("", vec!["syn_flood", "ip_src_session_limit"]),
        ("&start=1", vec!["ip_src_session_limit"]),
        ("&limit=1", vec!["syn_flood"]),
        ("&f_type=ip_src_session_limit", vec!["ip_src_session_limit"]),
        ("&f_workload_id=web-1", vec!["syn_flood"]),
    ] {
        let answer = fixture.get(&format!("/v1/meter?{node}{query}"), &admin).await;
        assert_eq!(each(&answer["meters"], "type"), want, "{query}");
    }
    let files = fixture.get("/v1/file_monitor_file?f_workload=web-1", &admin).await;
    assert_eq!(
        files["files"],
        json!([{"path": "/etc/nginx", "mask": 65538, "is_dir": true, "protect": true, "files": ["nginx.conf"], "workload_id": "web-1"}])
    );
    let owner = fixture.user(&admin, "o", "", json!({"admin": ["shop"]})).await;
    for (path, who, code) in [
        ("/v1/meter", &admin, 12),
        ("/v1/meter?f_workload=nobody", &admin, 7),
        ("/v1/file_monitor_file", &admin, 12),
        ("/v1/file_monitor_file?f_enforcer=none", &admin, 7),
        ("/v1/meter?f_workload=web-1", &owner, 25),
        ("/v1/file_monitor_file?f_workload=web-1", &owner, 25),
    ] {
        let refused = fixture.call(Method::GET, path, who, None).await;
        assert_eq!(refused.body["code"], code, "{path}: {refused:?}");
    }
}
