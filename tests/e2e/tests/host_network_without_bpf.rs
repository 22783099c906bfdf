//! Connections on the last tier, without any BPF program: packets of every pod wait in a queue of its own, and the first one
//! of a connection is judged there, over IPv4 and IPv6.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::Pod;
use nv_scene::{CLIENT_GROUP, Scene};
use serde_json::{Value, json};

/// How soon it must be in the REST API.
const SOON: Duration = Duration::from_secs(10);
/// A port of the web server that nobody has used before.
const UNSEEN: u16 = 81;
/// By family, ports whose first packet has to be told: the same violation over the other family is the same record.
const TOLD: [u16; 2] = [UNSEEN, 82];

fn address(pod: &Pod, six: bool) -> Result<IpAddr> {
    if six { pod.ipv6() } else { pod.ipv4() }.context("the pod has no such address")
}

fn target(pod: &Pod, six: bool, port: u16) -> Result<String> {
    Ok(std::net::SocketAddr::new(address(pod, six)?, port).to_string())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

async fn connects(scene: &Scene, target: &str) -> Result<bool> {
    Ok(scene.run(&["/bin/attacker", "connect", target]).await?.exit_code == 0)
}

/// Waits for the violation by the client at that address and port, with what was done.
async fn told(scene: &Scene, server: IpAddr, port: u16, protocol: u64, action: &str) -> Result<()> {
    let mechanism = if action == "deny" { "nfqueue" } else { "" };
    let find = |answer: &Value| {
        let list = answer.get("violations")?.as_array()?;
        list.iter()
            .any(|record| {
                let number = |key| record.get(key).and_then(Value::as_u64);
                text(record, "server_ip") == server.to_string()
                    && number("server_port") == Some(port.into())
                    && number("ip_proto") == Some(protocol)
                    && text(record, "policy_action") == action
                    && text(record, "mechanism") == mechanism
                    && text(record, "client_service") == CLIENT_GROUP
            })
            .then_some(())
    };
    let found = scene.api.wait_for("/v1/log/violation", SOON, find).await;
    found.map(drop).with_context(|| format!("{protocol} to {server} port {port} is not told with {action}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_never_seen_is_told_in_monitor_and_blocked_in_protect_in_both_families() -> Result<()> {
    let scene = Scene::start_on_tier("no-bpf-net", 4).await?;
    let shown = scene.api.get("/v1/enforcer").await?;
    let capabilities = shown.pointer("/enforcers/0/capabilities").cloned().unwrap_or_default();
    ensure!(capabilities.get("network") == Some(&json!("nfqueue")), "{capabilities}");
    let lost = capabilities.get("lost").cloned().unwrap_or_default().to_string();
    ensure!(lost.contains("Connections of the host's own programs"), "{lost}");

    // Discover: what is seen is learned.
    scene.operate().await?;
    scene.wait_learned().await?;

    scene.set_network_mode("Monitor").await?;
    for (six, port) in [false, true].into_iter().zip(TOLD) {
        let web = address(&scene.web, six)?;
        ensure!(
            connects(&scene, &target(&scene.web, six, UNSEEN)?).await?,
            "Monitor stops a connection to {web}"
        );
        connects(&scene, &target(&scene.web, six, port)?).await?;
        told(&scene, web, port, 6, "violate").await?;
    }

    scene.set_network_mode("Protect").await?;
    for (six, port) in [false, true].into_iter().zip(TOLD) {
        let web = address(&scene.web, six)?;
        ensure!(!connects(&scene, &target(&scene.web, six, UNSEEN)?).await?, "a connection to {web} passes");
        connects(&scene, &target(&scene.web, six, port)?).await?;
        told(&scene, web, port, 6, "deny").await?;
        ensure!(connects(&scene, &target(&scene.web, six, 80)?).await?, "the page at {web} is blocked");
        let echo = target(&scene.echo, six, 7)?;
        let sent = scene.run(&["/bin/attacker", "exchange", &echo, "3"]).await?;
        ensure!(sent.exit_code != 0, "datagrams to {echo} pass");
        if !six {
            told(&scene, address(&scene.echo, six)?, 7, 17, "deny").await?;
        }
        let talk = scene.run(&["/bin/attacker", "talk", &echo, "20"]).await?;
        ensure!(talk.exit_code == 0, "{echo}: {}", talk.stderr);
    }
    let seen = scene.api.get("/v1/conversation").await?;
    let list = seen.get("conversations").and_then(Value::as_array).context("no conversations")?;
    let speaks_http = |one: &Value| one.get("applications").is_some_and(|known| *known == json!(["HTTP"]));
    ensure!(list.iter().any(speaks_http), "what a connection speaks is not known: {list:?}");

    // Back in Monitor it passes, and a connection that is open outlives the change.
    let echo = target(&scene.echo, true, 7)?;
    let talk = async { scene.run(&["/bin/attacker", "talk", &echo, "2500"]).await };
    let (talk, changed) = tokio::join!(talk, scene.set_network_mode("Monitor"));
    changed?;
    ensure!(talk?.exit_code == 0, "an allowed connection ends with a change of mode");
    ensure!(connects(&scene, &target(&scene.web, true, UNSEEN)?).await?, "Monitor stops a connection");
    scene.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_in_quarantine_talks_to_nobody_also_while_the_inspector_is_gone() -> Result<()> {
    let scene = Scene::start_on_tier("no-bpf-cut", 4).await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let id = scene.client.container().id.clone();
    let quarantine = async |on: bool| {
        let config = json!({"config": {"quarantine": on}});
        scene.api.patch(&format!("/v1/workload/{id}"), &config).await
    };
    // A connection that was open before, and goes on for eight seconds if nobody cuts it.
    let echo = target(&scene.echo, false, 7)?;
    let talk = async { scene.run(&["/bin/attacker", "talk", &echo, "4000"]).await };
    let cut = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        quarantine(true).await
    };
    let (talk, cut) = tokio::join!(talk, cut);
    cut?;
    ensure!(talk?.exit_code != 0, "an open connection went on through the quarantine");
    for six in [false, true] {
        ensure!(!connects(&scene, &target(&scene.web, six, 80)?).await?, "a new connection went out");
    }
    let inspector =
        nv_product::descendants(scene.product.children().first().copied().context("no launcher")?)
            .into_iter()
            .find(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).any(|word| word == b"inspector")
            })
            .and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed()))
            .context("no inspector")?;
    rustix::process::kill_process(inspector, rustix::process::Signal::KILL)?;
    let web = target(&scene.web, false, 80)?;
    ensure!(!connects(&scene, &web).await?, "the quarantine ends with the inspector");

    quarantine(false).await?;
    for _ in 0..100 {
        if connects(&scene, &web).await? {
            return scene.stop().await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the workload is still cut off after the end of the quarantine")
}
