//! The roles as processes of their own: the enforcer joins by token, the manager serves the console.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_product::Client;
use tokio::process::{Child, Command};

fn role(name: &str, folder: &Path, arguments: &[&str]) -> Result<Child> {
    let binary = nv_product::binary()?.with_file_name(name);
    Command::new(&binary)
        .args(arguments)
        .arg("--state-dir")
        .arg(folder.join(name))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join(format!("{name}.log")))?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{}; run make build", binary.display()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn controller_enforcer_and_manager_work_as_processes_of_their_own() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name).display().to_string();
    let port = || -> Result<String> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
    };
    let (rest, grpc, console) = (port()?, port()?, port()?);
    let (token, password, root) = (at("token"), at("password"), at("controller/root.pem"));
    let bpf = format!("/sys/fs/bpf/nv-roles-{}", std::process::id());
    let ports = ["--rest-port", &rest, "--grpc-port", &grpc, "--console-port", &console];
    let _controller = role(
        "controller",
        folder.path(),
        &[&ports[..], &["--join-token-file", &token, "--bootstrap-password-file", &password]].concat(),
    )?;
    for _ in 0..600 {
        if Path::new(&token).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut client = Client::new(format!("https://127.0.0.1:{rest}"), Path::new(&root))?;
    let one_time = std::fs::read_to_string(&password)?;
    client.login("admin", one_time.trim(), Some("Three-Roles-3")).await?;

    let missing = at("no.sock");
    let enforcer = role(
        "enforcer",
        folder.path(),
        &[
            &["run"],
            &ports[..],
            &["--join-token-file", &token, "--bpf-dir", &bpf, "--containerd-socket", &missing],
        ]
        .concat(),
    )?;
    client.wait_linked().await?;

    let _manager = role("manager", folder.path(), &[&ports[..], &["--controller-ca", &root]].concat())?;
    let own_root = at("manager/manager/ca.pem");
    let mut served = false;
    for _ in 0..200 {
        if Path::new(&own_root).exists()
            && let Ok(client) = Client::new(format!("https://127.0.0.1:{console}"), Path::new(&own_root))
            && client.get("/v1/eula").await.is_ok()
        {
            served = true;
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(enforcer);
    std::fs::remove_dir_all(&bpf).context("the enforcer's folder on the BPF file system")?;
    ensure!(served, "the manager does not lead to the controller");
    Ok(())
}
