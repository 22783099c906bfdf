//! A pod on the host's network: no veth is its own, and it is judged and told all the same, at its sockets.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, Pod, PodSpec};
use nv_scene::{CLIENT_GROUP, CLIENT_IMAGE, NAMESPACE, Scene};
use serde_json::{Value, json};

/// Learned group of the pod on the host's network.
const GATE_GROUP: &str = "nv.gate.shop";
/// How soon things are in the REST API.
const SOON: Duration = Duration::from_secs(20);

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The host's end of the lab's network, where the pod's port is too.
fn host_address(scene: &Scene) -> Result<IpAddr> {
    scene.lab.options().subnet.hosts().next().map(IpAddr::from).context("the lab's network is empty")
}

async fn gate(scene: &Scene, port: u16) -> Result<Pod> {
    let port = port.to_string();
    let spec = PodSpec::new("gate-7d9c5b8f6-b4c5d", NAMESPACE).host_network().container(ContainerSpec::new(
        "main",
        CLIENT_IMAGE,
        &["/bin/attacker", "serve", &port],
    ));
    Ok(scene.lab.run_pod(&spec).await?)
}

async fn reaches(scene: &Scene, pod: &Pod, to: &str) -> Result<bool> {
    Ok(scene.lab.exec(pod.container(), &["/bin/attacker", "connect", to]).await?.exit_code == 0)
}

fn host_reaches(address: IpAddr, port: u16) -> bool {
    TcpStream::connect_timeout(&(address, port).into(), Duration::from_secs(1)).is_ok()
}

/// Waits for a denied connection to `port` between these ends.
async fn denied(scene: &Scene, ends: (&str, &str), port: u16) -> Result<Value> {
    let found = |answer: &Value| {
        let told = answer.get("violations")?.as_array()?;
        let is = |record: &&Value| {
            text(record, "policy_action") == "deny"
                && record.get("server_port").and_then(Value::as_u64) == Some(port.into())
                && text(record, "client_name").contains(ends.0)
                && text(record, "server_name").contains(ends.1)
        };
        told.iter().find(is).cloned()
    };
    let (record, _) = scene
        .api
        .wait_for("/v1/log/violation?limit=1000", SOON, found)
        .await
        .with_context(|| format!("no violation of {ends:?} port {port}"))?;
    Ok(record)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_on_the_hosts_network_is_judged_both_ways_and_the_host_is_not() -> Result<()> {
    let scene = Scene::start("own-sockets").await?;
    let host = host_address(&scene)?;
    // The host's own port, and a free one for the pod.
    let hosts = TcpListener::bind((host, 0))?;
    let port = TcpListener::bind((host, 0))?.local_addr()?.port();
    let gate = gate(&scene, port).await?;
    let (to_gate, to_host) = (format!("{host}:{port}"), hosts.local_addr()?.to_string());
    let web = format!("{}:80", scene.web_address()?);

    scene.operate().await?;
    scene.wait_learned().await?;
    let learned = |answer: &Value| {
        let rules = answer.get("rules")?.as_array()?;
        let has = |from: &str, to: &str, ports: &str| {
            rules.iter().any(|rule| {
                text(rule, "from") == from
                    && text(rule, "to") == to
                    && text(rule, "ports").split(',').any(|one| one == ports)
            })
        };
        (has(CLIENT_GROUP, GATE_GROUP, &format!("tcp/{port}")) && has(GATE_GROUP, "nv.web.shop", "tcp/80"))
            .then_some(())
    };
    let mut rounds = 0;
    loop {
        ensure!(reaches(&scene, &scene.client, &to_gate).await? && reaches(&scene, &gate, &web).await?);
        match scene.api.wait_for("/v1/policy/rule", Duration::from_secs(5), learned).await {
            Ok(_) => break,
            Err(error) if rounds >= 4 => return Err(error.context("its connections are not learned")),
            Err(_) => rounds += 1,
        }
    }

    scene.api.set_modes(&["gate.shop"], "Protect").await?;
    scene.set_mode("Protect").await?;
    ensure!(reaches(&scene, &scene.client, &to_gate).await?, "what was learned comes in");
    ensure!(reaches(&scene, &gate, &web).await?, "and goes out");
    let dial = format!("exec nc -w 2 {host} {port} < /dev/null");
    let attempt = scene.lab.exec(scene.web.container(), &["/bin/sh", "-c", &dial]).await?;
    ensure!(attempt.exit_code != 0, "a connection came in without a rule");
    denied(&scene, ("web", "gate"), port).await?;
    ensure!(
        !reaches(&scene, &gate, &format!("{}:81", scene.web_address()?)).await?,
        "one went out without a rule"
    );
    denied(&scene, ("gate", "web"), 81).await?;

    // The host is reported and never stopped: neither its program nor its port.
    ensure!(host_reaches(host, port), "the host was stopped at the pod");
    ensure!(host_reaches([127, 0, 0, 1].into(), port), "and by the loopback");
    ensure!(reaches(&scene, &scene.client, &to_host).await?, "a pod was stopped at the host");

    let quarantine = async |on: bool| {
        let id = &gate.container().id;
        scene.api.patch(&format!("/v1/workload/{id}"), &json!({"config": {"quarantine": on}})).await
    };
    quarantine(true).await?;
    scene.api.wait_enforced().await?;
    ensure!(!reaches(&scene, &scene.client, &to_gate).await?, "something came in through the quarantine");
    ensure!(!host_reaches(host, port) && !host_reaches([127, 0, 0, 1].into(), port), "so did the host");
    ensure!(!reaches(&scene, &gate, &web).await?, "something went out through the quarantine");
    quarantine(false).await?;
    for _ in 0..100 {
        if reaches(&scene, &scene.client, &to_gate).await? {
            return scene.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the workload is still cut off after the end of the quarantine")
}
