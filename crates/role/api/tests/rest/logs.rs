//! Logs and conversations.

use axum::http::{Method, StatusCode};
use nv_model::observation::{ConnectionObservation, Observation};
use nv_model::verdict::Verdict;
use serde_json::json;

use crate::fixture::{Fixture, each};
use crate::node::{Reporter, connected, ran, workload};

async fn attacked() -> (Fixture, String, Reporter) {
    let (fixture, admin) = Fixture::started().await;
    let workloads = vec![workload("web-1", "web", "shop", 10), workload("pay-1", "pay", "bank", 11)];
    let mut reporter = Reporter::link(&fixture.controller, workloads).await;
    fixture
        .until("/v1/group", &admin, |groups| each(&groups["groups"], "name").contains(&"nv.pay.bank"))
        .await;
    reporter.tell(ran("web-1", "nv.web.shop", "/tmp/evil", Verdict::Deny)).await;
    reporter.tell(ran("pay-1", "nv.pay.bank", "/tmp/odd", Verdict::Violate)).await;
    reporter.tell(connected(("web-1", "10.1.0.10"), ("", "198.51.100.1"), 4444, Verdict::Deny)).await;
    fixture.until("/v1/log/violation", &admin, |log| !log["violations"].as_array().unwrap().is_empty()).await;
    fixture.until("/v1/log/incident", &admin, |log| log["incidents"].as_array().unwrap().len() == 2).await;
    (fixture, admin, reporter)
}

#[tokio::test]
async fn incidents_and_violations_are_listed_filtered_and_kept_to_their_namespaces() {
    let (fixture, admin, _reporter) = attacked().await;
    let incidents = fixture.get("/v1/log/incident", &admin).await["incidents"].clone();
    assert_eq!(each(&incidents, "proc_path"), ["/tmp/odd", "/tmp/evil"], "the newest first");
    assert_eq!(
        json!([
            incidents[1]["name"],
            incidents[1]["level"],
            incidents[1]["action"],
            incidents[1]["workload_id"]
        ]),
        json!(["Process.Profile.Violation", "Critical", "deny", "web-1"])
    );
    for (query, want) in [
        ("?f_action=deny", vec!["/tmp/evil"]),
        ("?f_level=Critical", vec!["/tmp/evil"]),
        ("?s_proc_path=asc", vec!["/tmp/evil", "/tmp/odd"]),
        ("?start=1", vec!["/tmp/evil"]),
        ("?limit=1", vec!["/tmp/odd"]),
        ("?f_workload_domain=in,ban|x", vec!["/tmp/odd"]),
        ("?f_since=1", vec!["/tmp/odd", "/tmp/evil"]),
        ("?f_since=99999999999", vec![]),
    ] {
        let list = fixture.get(&format!("/v1/log/incident{query}"), &admin).await["incidents"].clone();
        assert_eq!(each(&list, "proc_path"), want, "{query}");
    }
    let violation = fixture.get("/v1/log/violation", &admin).await["violations"][0].clone();
    assert_eq!(
        json!([
            violation["client_id"],
            violation["server_id"],
            violation["server_port"],
            violation["policy_action"]
        ]),
        json!(["web-1", "external", 4444, "deny"])
    );
    assert!(violation["name"].is_null());
    let counted = fixture.get("/v1/log/violation/workload?s_client=desc", &admin).await;
    assert_eq!(
        (&counted["violation_workloads"][0]["workload"]["id"], &counted["violation_workloads"][0]["count"]),
        (&json!("web-1"), &json!(1))
    );

    let joe = fixture.user(&admin, "joe", "", json!({"reader": ["bank"]})).await;
    let mine = fixture.get("/v1/log/incident", &joe).await["incidents"].clone();
    assert_eq!(each(&mine, "proc_path"), ["/tmp/odd"]);
    assert!(fixture.get("/v1/log/violation", &joe).await["violations"].as_array().unwrap().is_empty());
    assert!(fixture.get("/v1/log/event", &joe).await["events"].as_array().unwrap().is_empty());
    let all = fixture.get("/v1/log/security", &admin).await;
    assert_eq!(
        (all["incidents"].as_array().unwrap().len(), all["violations"].as_array().unwrap().len()),
        (2, 1)
    );
    assert_eq!(fixture.call(Method::GET, "/v1/log/threat/none", &admin, None).await.body["code"], 7);
}

#[tokio::test]
async fn a_violation_says_whether_its_client_opened_the_connection_or_asked_through_proxies() {
    let (fixture, admin, mut reporter) = attacked().await;
    let behind = connected(("", "203.0.113.66"), ("web-1", "10.1.0.10"), 80, Verdict::Violate);
    let Observation::Connection(behind) = behind else { panic!("a connection") };
    reporter
        .tell(Observation::Connection(Box::new(ConnectionObservation { forwarded: true, ..*behind })))
        .await;
    fixture.until("/v1/log/violation", &admin, |log| log["violations"].as_array().unwrap().len() == 2).await;
    let violations = fixture.get("/v1/log/violation", &admin).await["violations"].clone();
    let told = |at: usize| json!([violations[at]["client_ip"], violations[at]["xff"]]);
    assert_eq!(told(0), json!(["203.0.113.66", true]));
    assert_eq!(told(1), json!(["10.1.0.10", false]));
}

#[tokio::test]
async fn conversations_show_both_ends_and_can_be_forgotten() {
    let (fixture, admin, _reporter) = attacked().await;
    let shown = fixture
        .until("/v1/conversation", &admin, |all| !all["conversations"].as_array().unwrap().is_empty())
        .await;
    let talk = &shown["conversations"][0];
    assert_eq!(
        json!([talk["from"], talk["to"], talk["policy_action"], talk["bytes"], talk["ports"]]),
        json!(["web-1", "external", "deny", 1000, ["tcp/4444"]])
    );
    assert_eq!(talk["entries"][0]["server_ip"], "198.51.100.1");
    let mut kinds: Vec<_> = shown["endpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (e["id"].as_str().unwrap(), e["kind"].as_str().unwrap()))
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, [("external", "external"), ("pay-1", "container"), ("web-1", "container")]);
    let verbose = fixture.get("/v1/conversation?verbose=true&f_domain=shop", &admin).await;
    assert_eq!(verbose["conversations"][0]["from"]["service_group"], "nv.web.shop");
    let none = fixture.get("/v1/conversation?f_group=nv.pay.bank", &admin).await;
    assert!(none["conversations"].as_array().unwrap().is_empty());
    let detail = fixture.get("/v1/conversation/web-1/external", &admin).await["conversation"].clone();
    assert_eq!((&detail["to"]["kind"], &detail["entries"][0]["policy_id"]), (&json!("external"), &json!(0)));

    let joe = fixture.user(&admin, "joe", "", json!({"reader": ["bank"]})).await;
    assert!(fixture.get("/v1/conversation", &joe).await["conversations"].as_array().unwrap().is_empty());
    assert_eq!(
        fixture.call(Method::GET, "/v1/conversation/web-1/external", &joe, None).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        fixture.call(Method::DELETE, "/v1/conversation/web-1/external", &admin, None).await.status,
        StatusCode::OK
    );
    assert_eq!(
        fixture.call(Method::GET, "/v1/conversation/web-1/external", &admin, None).await.body["code"],
        7
    );
}
