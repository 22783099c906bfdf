//! Memory of an enforcer with a hundred containers: enforcer and controller as processes of their own, as on a node of a
//! cluster, and plain containers of a private containerd.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use nv_benches::resident;
use nv_lab::{Image, Lab, LabOptions, PlainSpec};
use nv_product::Client;
use serde_json::Value;
use tokio::process::{Child, Command};

/// Containers, and the most that they may cost.
const CONTAINERS: usize = 100;
const PROMISE: u64 = 100 * 1024 * 1024;
const IMAGE: &str = "docker.io/crowd/one:1";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn say(text: &str) {
    // Nobody reads where standard output is closed.
    drop(writeln!(std::io::stdout(), "{text}"));
}

async fn run() -> Result<bool> {
    let lab = Lab::start(LabOptions::fresh()?).await?;
    let folder = PathBuf::from(format!("/var/tmp/nv-crowd-{}", std::process::id()));
    let bpf = PathBuf::from(format!("/sys/fs/bpf/nv-crowd-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let measured = measure(&lab, &folder, &bpf).await;
    lab.stop().await?;
    std::fs::remove_dir_all(&folder)?;
    if bpf.exists() {
        std::fs::remove_dir_all(&bpf)?;
    }
    let (idle, crowd) = measured?;
    let holds = crowd <= PROMISE;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    say(&format!(
        "resident memory, enforcer alone with {CONTAINERS} containers   <= 100 MiB   {:.0} MiB, {:.0} MiB before them{}",
        mib(crowd),
        mib(idle),
        if holds { "" } else { "  BROKEN" }
    ));
    Ok(holds)
}

/// Memory without containers, and with all of them.
async fn measure(lab: &Lab, folder: &Path, bpf: &Path) -> Result<(u64, u64)> {
    let port = || -> Result<String> {
        Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port().to_string())
    };
    let (rest, grpc) = (port()?, port()?);
    let at = |name: &str| folder.join(name).display().to_string();
    let (token, password) = (at("token"), at("password"));
    let ports = ["--rest-port", &rest, "--grpc-port", &grpc];
    let _controller = role(
        "controller",
        folder,
        &[&ports[..], &["--join-token-file", &token, "--bootstrap-password-file", &password]].concat(),
    )?;
    for _ in 0..600 {
        if Path::new(&token).exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let root = folder.join("controller/root.pem");
    let mut api = Client::new(format!("https://127.0.0.1:{rest}"), &root)?;
    let one_time = std::fs::read_to_string(&password)?;
    api.login("admin", one_time.trim(), Some("A-Hundred-1")).await?;
    let (socket, state) = (lab.socket().display().to_string(), lab.state_dir().display().to_string());
    let bpf = bpf.display().to_string();
    let own = ["--join-token-file", &token, "--bpf-dir", &bpf];
    let runtime = ["--containerd-socket", &socket, "--runtime-state-dir", &state];
    let enforcer = role("enforcer", folder, &[&["run"], &ports[..], &own, &runtime].concat())?;
    let pid = enforcer.id().context("the enforcer does not run")?;
    api.wait_linked().await?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let idle = resident(pid);

    let image = Image::busybox(IMAGE)?.command(&["/bin/sleep", "1000000"]);
    lab.import_into("default", &image).await?;
    for number in 0..CONTAINERS {
        lab.run_plain(&PlainSpec::new(&format!("crowd-{number}"), IMAGE, &[])).await?;
    }
    api.wait_for("/v1/workload", Duration::from_secs(60), |answer| {
        let list = answer.get("workloads").and_then(Value::as_array)?;
        (list.len() >= CONTAINERS).then_some(())
    })
    .await
    .context("not every container was told")?;
    // A few rounds of use, ports and signs of life.
    tokio::time::sleep(Duration::from_secs(15)).await;
    Ok((idle, resident(pid)))
}

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
        .with_context(|| binary.display().to_string())
}
