//! File rules on real pods: who may open is learned, others are kept out, and what happens to watched files is told.

use std::time::Duration;

use anyhow::{Result, ensure};
use nv_scene::{CLIENT_GROUP, SECRET, Scene, TOOL};
use serde_json::{Value, json};

/// How soon a deed must be in the REST API.
const SOON: Duration = Duration::from_secs(5);

fn text<'a>(record: &'a Value, key: &str) -> &'a str {
    record.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The newest incident about this file with this action and words in its message.
fn incident(answer: &Value, path: &str, action: &str, words: &str) -> Option<Value> {
    let list = answer.get("incidents")?.as_array()?;
    let of = |record: &&Value| {
        record.pointer("/file_name/0").and_then(Value::as_str) == Some(path)
            && text(record, "action") == action
            && text(record, "message").contains(words)
    };
    list.iter().find(of).cloned()
}

async fn told(scene: &Scene, path: &str, action: &str, words: &str) -> Result<Value> {
    let found = |answer: &Value| incident(answer, path, action, words);
    Ok(scene.api.wait_for("/v1/log/incident", SOON, found).await?.0)
}

async fn can(scene: &Scene, command: &[&str]) -> Result<bool> {
    Ok(scene.run(command).await?.exit_code == 0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocked_file_is_for_those_who_were_seen_to_need_it() -> Result<()> {
    let scene = Scene::start("files").await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    let profile = format!("/v1/file_monitor/{CLIENT_GROUP}");
    let rules = json!({"config": {"add_filters": [
        {"filter": SECRET, "behavior": "block_access"},
        {"filter": "/srv/vault/*", "recursive": true, "behavior": "block_access"},
    ]}});
    scene.api.patch(&profile, &rules).await?;

    // In Discover whoever opens it becomes one of its applications.
    let learned = |answer: &Value| {
        let applications = answer.pointer("/profile/filters/0/applications")?.as_array()?;
        applications.iter().any(|path| path == TOOL).then_some(())
    };
    for _ in 0..5 {
        ensure!(can(&scene, &[TOOL, "read", SECRET]).await?);
        if scene.api.wait_for(&profile, Duration::from_secs(2), learned).await.is_ok() {
            break;
        }
    }
    scene.api.wait_for(&profile, SOON, learned).await?;

    // What is kept now is looked up where it is kept.
    let watched = |answer: &Value| {
        let files = answer.get("files")?.as_array()?;
        let protects = |path: &str, is_dir: bool| {
            let is_it = |file: &Value| {
                text(file, "path") == path
                    && file.get("protect") == Some(&json!(true))
                    && file.get("is_dir") == Some(&json!(is_dir))
            };
            files.iter().any(is_it)
        };
        (protects(SECRET, false) && protects("/srv/vault", true)).then_some(())
    };
    let path = format!("/v1/file_monitor_file?f_workload={}", scene.client.container().id);
    scene.api.wait_for(&path, SOON, watched).await?;

    scene.set_mode("Protect").await?;
    ensure!(can(&scene, &[TOOL, "read", SECRET]).await?, "a learned application is kept out");
    ensure!(!can(&scene, &["/bin/attacker", "read", SECRET]).await?, "the file was read");
    let record = told(&scene, SECRET, "deny", "kept from being opened").await?;
    ensure!(text(&record, "name") == "Container.FileAccess.Violation", "{record}");
    ensure!(text(&record, "level") == "Critical", "{record}");
    ensure!(text(&record, "proc_path") == "/bin/attacker", "{record}");
    ensure!(text(&record, "workload_id") == scene.client.container().id, "{record}");
    ensure!((text(&record, "file_path"), text(&record, "group")) == (SECRET, CLIENT_GROUP), "{record}");

    // A copy of the application's name is not the application, and another name of the file is the file.
    ensure!(can(&scene, &["/bin/attacker", "link", SECRET, "/tmp/other-name"]).await?);
    ensure!(!can(&scene, &["/bin/attacker", "read", "/tmp/other-name"]).await?, "read by another name");
    ensure!(!can(&scene, &["/bin/attacker", "read", "/proc/self/root/etc/shadow"]).await?);
    ensure!(!can(&scene, &["/bin/attacker", "read", "/srv/vault/key"]).await?, "read below a folder");

    // What takes a protected file's name is protected by all of its names soon.
    ensure!(can(&scene, &["/bin/attacker", "write", "/tmp/copy"]).await?);
    ensure!(can(&scene, &["/bin/attacker", "rename", "/tmp/copy", SECRET]).await?);
    ensure!(can(&scene, &["/bin/attacker", "link", SECRET, "/tmp/replaced"]).await?);
    let end = std::time::Instant::now() + SOON;
    while can(&scene, &["/bin/attacker", "read", "/tmp/replaced"]).await? {
        ensure!(std::time::Instant::now() < end, "a file that took the name is read by another one");
    }

    // What this mechanism cannot stop is told.
    ensure!(can(&scene, &["/bin/attacker", "rename", "/srv/vault/key", "/srv/vault/moved"]).await?);
    told(&scene, "/srv/vault/key", "violate", "was renamed").await?;
    ensure!(can(&scene, &["/bin/attacker", "delete", SECRET]).await?);
    told(&scene, SECRET, "violate", "was deleted").await?;

    // The built-in list holds without any rule.
    ensure!(can(&scene, &["/bin/attacker", "write", "/etc/passwd"]).await?);
    let record = told(&scene, "/etc/passwd", "violate", "was modified").await?;
    ensure!(text(&record, "level") == "Warning", "{record}");
    scene.stop().await
}
