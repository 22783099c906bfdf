//! A rule set in ModSecurity's language on live requests: what its rules find is told with rule, message and variable, over
//! IPv4 and IPv6, what reaches the score is cut in Protect and nothing else is, and no value of a request is told.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Output, Pod};
use nv_scene::{Scene, WEB_GROUP};
use serde_json::{Value, json};

/// As the Core Rule Set does it: rules add to a score, and one decides by it.
const RULES: &str = r#"
SecDefaultAction "phase:2,log,pass"
SecAction "id:900110,phase:1,nolog,pass,t:none,setvar:tx.threshold=5,setvar:tx.score=0"
SecRule ARGS|ARGS_NAMES "@rx (?i)union[\s(]+select" "id:942100,phase:2,pass,t:none,t:urlDecodeUni,\
    severity:CRITICAL,msg:'SQL injection',logdata:'found %{MATCHED_VAR}',setvar:tx.score=+5"
SecRule REQUEST_HEADERS:User-Agent "@pm probe scanner" "id:913100,phase:1,pass,t:none,t:lowercase,\
    severity:NOTICE,msg:'Scanner of %{MATCHED_VAR}',setvar:tx.score=+2"
SecRule ARGS:redirect "@beginsWith http:" "id:931100,phase:2,pass,t:none,severity:ERROR,msg:'Redirect',setvar:tx.score=+3"
SecRule TX:score "@ge %{tx.threshold}" "id:949110,phase:2,deny,status:403,t:none,msg:'Score %{tx.score}'"
"#;

fn address(pod: &Pod, six: bool) -> Result<IpAddr> {
    if six { pod.ipv6() } else { pod.ipv4() }.context("the pod has no such address")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

async fn get(scene: &Scene, six: bool, path: &str, agent: &str) -> Result<Output> {
    let server = address(&scene.web, six)?;
    let host = if six { format!("[{server}]") } else { server.to_string() };
    let (url, agent) = (format!("http://{host}{path}"), format!("User-Agent: {agent}"));
    scene.run(&["/bin/timeout", "5", "/bin/wget", "-q", "-O", "-", "--header", &agent, &url]).await
}

const ORDINARY: (&str, &str) = ("/index.html?q=rust", "browser");
const ATTACK: (&str, &str) = ("/index.html?id=7%20UNION%20SELECT%20s3cr3t", "browser");
/// Below the score.
const SUSPECT: (&str, &str) = ("/index.html", "my-probe-s3cr3t");

fn told<'a>(answer: &'a Value, rule: &str, action: &str, server: IpAddr) -> Option<&'a Value> {
    let threats = answer.get("threats").and_then(Value::as_array).into_iter().flatten();
    let mut told = threats.filter(|record| {
        text(record, "name") == format!("WAF.crs.{rule}")
            && text(record, "action") == action
            && text(record, "server_ip") == server.to_string()
    });
    told.next()
}

async fn wait_told(scene: &Scene, rule: &str, action: &str, server: IpAddr) -> Result<Value> {
    scene
        .api
        .wait_for("/v1/log/threat", Duration::from_secs(30), |answer| {
            told(answer, rule, action, server).cloned()
        })
        .await
        .map(|(record, _)| record)
        .with_context(|| format!("rule {rule} at {server} is not told with {action}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_judged_by_a_groups_rule_set_told_with_rule_and_variable_and_cut_by_the_score_in_protect()
-> Result<()> {
    let scene = Scene::start("rulesets").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let set = scene.api.upload("/v1/waf/sensor/crs/rule_set", RULES.as_bytes().to_vec()).await?;
    ensure!(set.pointer("/rule_set/rules") == Some(&json!(5)), "{set}");
    ensure!(set.pointer("/rule_set/refused_count") == Some(&json!(0)), "{set}");
    let used = json!({"config": {"name": WEB_GROUP, "status": true, "replace": [{"name": "crs", "action": "deny"}]}});
    scene.api.patch(&format!("/v1/waf/group/{WEB_GROUP}"), &used).await?;

    scene.set_mode("Monitor").await?;
    scene.wait_inspected().await?;
    // The inspector makes them ready beside its work.
    let begin = Instant::now();
    let server = address(&scene.web, false)?;
    while told(&scene.api.get("/v1/log/threat").await?, "949110", "alert", server).is_none() {
        ensure!(begin.elapsed() < Duration::from_secs(180), "the rule set is not made ready");
        get(&scene, false, ATTACK.0, ATTACK.1).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        for (path, agent) in [ATTACK, SUSPECT, ORDINARY] {
            let output = get(&scene, six, path, agent).await?;
            ensure!(output.stdout.contains("shop"), "in Monitor it arrives: {path} {}", output.stderr);
        }
        for (rule, message, severity) in [
            ("942100", "SQL injection (ARGS:id)", "Critical"),
            ("949110", "Score 5 (TX:score)", "Medium"),
            ("913100", "Scanner of * (REQUEST_HEADERS:User-Agent)", "Low"),
        ] {
            let record = wait_told(&scene, rule, "alert", server).await?;
            ensure!(text(&record, "message").eq_ignore_ascii_case(message), "{record}");
            ensure!(text(&record, "severity") == severity, "{record}");
            ensure!(text(&record, "sensor") == "crs" && text(&record, "group") == WEB_GROUP, "{record}");
            ensure!(!text(&record, "message").contains("s3cr3t"), "{record}");
        }
    }

    scene.set_mode("Protect").await?;
    scene.wait_queues(3).await?;
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        for (path, agent) in [ORDINARY, SUSPECT] {
            let output = get(&scene, six, path, agent).await?;
            ensure!(output.stdout.contains("shop"), "it is below the score: {path} {}", output.stderr);
        }
        let output = get(&scene, six, ATTACK.0, ATTACK.1).await?;
        ensure!(output.exit_code != 0 && output.stdout.is_empty(), "it arrives: {}", output.stdout);
        wait_told(&scene, "949110", "deny", server).await?;
    }

    // A group that only alerts lets it go on, as does one that uses the sensor no more.
    for replace in [json!([{"name": "crs", "action": "allow"}]), json!([])] {
        let used = json!({"config": {"name": WEB_GROUP, "replace": replace}});
        scene.api.patch(&format!("/v1/waf/group/{WEB_GROUP}"), &used).await?;
        scene.wait_inspected().await?;
        let output = get(&scene, false, ATTACK.0, ATTACK.1).await?;
        ensure!(output.stdout.contains("shop"), "{used}: {}", output.stderr);
    }
    scene.stop().await
}
