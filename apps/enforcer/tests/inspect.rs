//! `enforcer inspect` on a capture that is written out here: what a reader of its lines relies on.
#![expect(clippy::unwrap_used, reason = "what a test cannot go on without fails it")]

use std::process::{Command, Output};

use serde_json::{Value, json};

/// A TCP segment between 10.0.0.1:40000 and 10.0.0.2:80, in a record of a classic capture of raw IPv4.
fn record(second: u32, from_client: bool, flags: u8, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let ((from, source), (to, destination)) = if from_client {
        (([10, 0, 0, 1], 40_000_u16), ([10, 0, 0, 2], 80_u16))
    } else {
        (([10, 0, 0, 2], 80), ([10, 0, 0, 1], 40_000))
    };
    let total = u16::try_from(40 + payload.len()).unwrap();
    let packet = [
        &[0x45, 0][..],
        &total.to_be_bytes(),
        &[0, 1, 0, 0, 64, 6, 0, 0],
        &from,
        &to,
        &source.to_be_bytes(),
        &destination.to_be_bytes(),
        &sequence.to_be_bytes(),
        &[0, 0, 0, 0, 0x50, flags, 0xFF, 0xFF, 0, 0, 0, 0],
        payload,
    ]
    .concat();
    let length = u32::from(total).to_le_bytes();
    [&second.to_le_bytes()[..], &[0; 4], &length, &length, &packet].concat()
}

fn capture() -> Vec<u8> {
    let request = b"GET /?id=1%27+or+%271%27=%271 HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    let answer = b"HTTP/1.1 200 OK\r\nServer: nginx/1.25\r\nContent-Length: 0\r\n\r\n";
    let header: Vec<u8> = [0xA1B2_C3D4_u32, 0x0004_0002, 0, 0, 65_535, 101]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    [
        header,
        record(100, true, 0x02, 0, b""),
        record(100, false, 0x12, 0, b""),
        record(100, true, 0x10, 1, request),
        record(101, false, 0x10, 1, answer),
    ]
    .concat()
}

fn inspect(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_enforcer")).arg("inspect").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_session_a_threat_and_a_sum_are_told_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.pcap");
    std::fs::write(&path, capture()).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no capture, and so left out").unwrap();
    let output = inspect(&["--json", "--pcap", folder.path().to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let [threat, session, total] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(
        (&threat["id"], &threat["threat"], &threat["severity"]),
        (&json!(2022), &json!("SQL.Injection"), &json!("Critical"))
    );
    assert_eq!(
        session,
        &json!({
            "file": path, "proto": "tcp", "app": "HTTP",
            "client": "10.0.0.1", "client_port": 40_000, "server": "10.0.0.2", "server_port": 80,
            "fields": {
                "version": "HTTP/1.1",
                "software": ["nginx"],
                "transactions": [{
                    "method": "GET", "uri": "/?id=1%27+or+%271%27=%271", "host": "shop.example",
                    "status": 200, "server": "nginx/1.25",
                }],
            },
            "bytes": 280, "packets": 4, "midstream": false, "gaps": 0, "lost": 0, "conflicts": 0,
        })
    );
    assert_eq!((&total["packets"], &total["bytes"], &total["sessions"]), (&json!(4), &json!(280), &json!(1)));
    assert!(total["cpu_seconds"].is_number() && total["peak_memory_bytes"].as_u64().unwrap() > 0);
}

#[test]
fn rules_of_sensors_that_hold_are_told_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.pcap");
    std::fs::write(&path, capture()).unwrap();
    let sensors = folder.path().join("sensors.yaml");
    std::fs::write(
        &sensors,
        "sensors:
  - name: sensor.shop
    action: deny
    rules:
      - name: injected
        patterns:
          - {key: pattern, op: regex, value: \"id=1' or '1'\", context: url}
          - {key: pattern, op: '!regex', value: '(?i)^x-signed:', context: header}
      - name: secret
        patterns: [{value: top secret}]
",
    )
    .unwrap();
    let output =
        inspect(&["--json", "--pcap", path.to_str().unwrap(), "--sensors", sensors.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let held: Vec<&Value> = lines.iter().filter(|line| line["sensor"].is_string()).collect();
    assert_eq!(
        held,
        [&json!({
            "file": path, "sensor": "sensor.shop", "rule": "injected", "id": 20_000, "kind": "dlp",
            "action": "deny", "context": "url", "transaction": 0, "from": "client", "proto": "tcp",
            "client": "10.0.0.1", "client_port": 40_000, "server": "10.0.0.2", "server_port": 80,
            "at": 100_000_000_000_u64,
        })]
    );
    assert_eq!(lines.last().unwrap()["matches"], 1);
}

#[test]
fn waf_rules_judge_requests_with_their_answers() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rules) = (folder.path().join("shop.pcap"), folder.path().join("waf.conf"));
    std::fs::write(&path, capture()).unwrap();
    let text = "SecRule ARGS \"@detectSQLi\" \"id:100,phase:2,deny,capture,severity:CRITICAL,msg:'injected',logdata:'%{MATCHED_VAR_NAME}',setvar:'tx.blocking_inbound_anomaly_score=+%{tx.weight}'\"\nSecRule RESPONSE_HEADERS:Server \"@contains nginx\" \"id:101,phase:3,msg:'server told'\"\nSecRule REQUEST_HEADERS:Host \"!@streq shop.example\" \"id:102,phase:1\"\nSecRule RESPONSE_STATUS \"!@eq 200\" \"id:103,phase:4\"\n";
    std::fs::write(&rules, text).unwrap();
    let path = path.to_str().unwrap();
    let output =
        inspect(&["--json", "--pcap", path, "--rules", rules.to_str().unwrap(), "--set", "weight=5"]);
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    let waf = lines.iter().find(|line| line.get("waf").is_some()).unwrap();
    assert_eq!(
        waf["waf"],
        json!([
            { "rule": 100, "message": "injected", "data": "ARGS:id", "severity": "CRITICAL", "variable": "ARGS:id", "phase": 2 },
            { "rule": 101, "message": "server told", "data": "", "severity": null, "variable": "RESPONSE_HEADERS:Server", "phase": 3 },
        ])
    );
    assert_eq!((&waf["denied_by"], &waf["anomaly"]["inbound"]), (&json!(100), &json!(5)));
    assert_eq!((&waf["client"], &waf["server_port"]), (&json!("10.0.0.1"), &json!(80)));
    assert_eq!(lines.last().unwrap()["waf_matches"], json!(2));
}

#[test]
fn sensors_that_are_refused_are_told_with_the_reason_before_anything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.pcap");
    std::fs::write(&path, capture()).unwrap();
    let sensors = folder.path().join("sensors.yaml");
    std::fs::write(&sensors, "sensors: [{name: s, rules: [{name: r, patterns: [{value: '(?=a)b'}]}]}]")
        .unwrap();
    let output = inspect(&["--pcap", path.to_str().unwrap(), "--sensors", sensors.to_str().unwrap()]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let error = String::from_utf8(output.stderr).unwrap();
    for word in ["sensors.yaml", "\"s\"", "\"r\"", "(?=a)b", "looks around", "!regex"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn sessions_are_judged_by_rules_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.pcap");
    std::fs::write(&path, capture()).unwrap();
    let policy = folder.path().join("policy.yaml");
    std::fs::write(
        &policy,
        "rules: [{id: 12, to: shop.example, ports: tcp/80, applications: [HTTP], action: allow}]",
    )
    .unwrap();
    let judge =
        || inspect(&["--json", "--pcap", path.to_str().unwrap(), "--policy", policy.to_str().unwrap()]);
    let first = lines(&judge());
    let session = first.iter().find(|line| line["app"].is_string()).unwrap();
    assert_eq!(
        (&session["verdict"], &session["rule_id"], &session["reason"]),
        (&json!("allow"), &json!(12), &json!("rule 12 speaks of it: HTTP with shop.example"))
    );
    assert_eq!((&first.last().unwrap()["allowed"], &first.last().unwrap()["denied"]), (&json!(1), &json!(0)));
    std::fs::write(&policy, "rules: [{id: 12, applications: [Redis], action: allow}]").unwrap();
    let second = lines(&judge());
    let session = second.iter().find(|line| line["app"].is_string()).unwrap();
    assert_eq!(
        (&session["verdict"], &session["rule_id"], &session["reason"]),
        (&json!("deny"), &json!(0), &json!("no rule speaks of it; rule 12 would, of another application"))
    );
    std::fs::write(&policy, "rules: [{id: 12, to: nobody, action: allow}]").unwrap();
    let refused = judge();
    assert!(!refused.status.success() && String::from_utf8(refused.stderr).unwrap().contains("rule 12: to"));
}

#[test]
fn a_capture_that_breaks_off_is_told_up_to_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcap");
    let mut bytes = capture();
    bytes.truncate(bytes.len() - 5);
    std::fs::write(&path, bytes).unwrap();
    let output = inspect(&["--json", "--pcap", path.to_str().unwrap()]);
    let lines = lines(&output);
    assert_eq!(lines.last().unwrap()["packets"], 3);
    assert!(
        String::from_utf8(output.stderr).unwrap().contains("ends inside the record"),
        "and the break is told"
    );
}

#[test]
fn what_is_no_capture_is_an_error() {
    let output = inspect(&["--pcap", "/proc/self/status"]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("no pcap and no pcapng"));
}
