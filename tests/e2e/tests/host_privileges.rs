//! Who holds which privilege: the agent what reading takes, the keeper what the kernel takes, and nobody more.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nv_product::{Options, Product};

/// `CAP_DAC_READ_SEARCH` and `CAP_SYS_PTRACE`.
const READING: u64 = 1 << 2 | 1 << 19;
/// The same, and `CAP_NET_ADMIN`, `CAP_NET_RAW`, `CAP_SYS_ADMIN`, `CAP_SYS_RESOURCE`, `CAP_PERFMON`, `CAP_BPF`.
const KEEPING: u64 = READING | 1 << 12 | 1 << 13 | 1 << 21 | 1 << 24 | 1 << 38 | 1 << 39;

/// `/proc/<pid>/task/<thread>/status` of every thread, as key and value.
fn threads(pid: u32) -> Result<Vec<BTreeMap<String, String>>> {
    let folder = format!("/proc/{pid}/task");
    std::fs::read_dir(&folder)
        .with_context(|| folder.clone())?
        .map(|thread| {
            let status = std::fs::read_to_string(thread?.path().join("status"))?;
            let fields = status.lines().filter_map(|line| line.split_once(':'));
            Ok(fields.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
        })
        .collect()
}

fn holds(pid: u32, what: &str, may: u64, seccomp: &str) -> Result<()> {
    for status in threads(pid)? {
        let set = |key: &str| -> Result<u64> {
            Ok(u64::from_str_radix(status.get(key).map_or("", String::as_str), 16)?)
        };
        // A machine may hold less than the product asks for.
        for key in ["CapPrm", "CapEff", "CapBnd"] {
            ensure!(set(key)? & !may == 0, "{what} holds more than it may in {key}: {status:?}");
        }
        ensure!(set("CapInh")? == 0 && set("CapAmb")? == 0, "{what}: {status:?}");
        ensure!(status.get("NoNewPrivs").is_some_and(|on| on == "1"), "{what}: {status:?}");
        ensure!(status.get("Seccomp").is_some_and(|mode| mode == seccomp), "{what}: {status:?}");
    }
    Ok(())
}

/// The launcher's second child, once it has given everything away.
async fn inspector(launcher: u32) -> Result<u32> {
    for _ in 0..100 {
        if let Some(pid) = nv_product::children(launcher).get(1).copied()
            && threads(pid)?.iter().all(|status| status.get("Seccomp").is_some_and(|mode| mode == "2"))
        {
            return Ok(pid);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("no inspector")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agent_and_keeper_hold_only_what_they_use() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut product = Product::start(Options {
        binary: nv_product::binary()?,
        state_dir: folder.path().join("state"),
        bpf_dir: format!("/sys/fs/bpf/nv-privileges-{}", std::process::id()).into(),
        containerd_socket: Some(folder.path().join("no.sock")),
        arguments: Vec::new(),
        user: None,
    })
    .await?;
    let api = product.login("Privileges-1").await?;
    api.wait_linked().await?;
    let agent = product.pid().context("no product")?;
    let launcher = product.children().first().copied().context("no launcher")?;
    let keeper = nv_product::children(launcher).first().copied().context("no keeper")?;
    // What the keeper found with its privileges is what root finds.
    let enforcer = api.get("/v1/enforcer").await?;
    let found = enforcer.pointer("/enforcers/0/capabilities").context("no capabilities")?;
    let root = std::process::Command::new(nv_product::binary()?).args(["capabilities", "--json"]).output()?;
    let root: serde_json::Value = serde_json::from_slice(&root.stdout)?;
    for which in ["tier", "process", "network", "file"] {
        ensure!(found.get(which).is_some() && found.get(which) == root.get(which), "{which}: {found} {root}");
    }
    holds(agent, "the agent", READING, "2")?;
    holds(keeper, "the keeper", KEEPING, "0")?;
    let others = threads(launcher)?
        .into_iter()
        .filter(|status| status.get("Name").is_none_or(|name| name != "stand-in"));
    ensure!(
        others.count() == 1,
        "the launcher starts processes, answers in their place, and does nothing else"
    );
    // Who reads packets holds nothing at all, and is nobody.
    let inspector = inspector(launcher).await?;
    holds(inspector, "the inspector", 0, "2")?;
    for (what, pid) in [("the launcher", launcher), ("the keeper", keeper), ("the inspector", inspector)] {
        let environment = std::fs::read(format!("/proc/{pid}/environ"))?;
        ensure!(environment.is_empty(), "{what} has the environment of whoever started the product");
    }
    // Whom the interrupt at a terminal goes to: the agent, which ends the others when it has put everything away.
    let group = |pid: u32| {
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("no process")?;
        anyhow::Ok(rustix::process::getpgid(Some(pid))?)
    };
    for pid in [launcher, keeper, inspector] {
        ensure!(group(pid)? != group(agent)?, "an interrupt of the agent at a terminal is one of its keeper");
    }
    for status in threads(inspector)? {
        for key in ["Uid", "Gid"] {
            let ids = status.get(key).map(|ids| ids.split_whitespace().collect::<Vec<_>>());
            ensure!(ids.as_deref() == Some(&["65534"; 4][..]), "{status:?}");
        }
        ensure!(status.get("Groups").is_some_and(String::is_empty), "{status:?}");
    }

    // A debugger of the same user without privileges of its own cannot look into it.
    ensure!(
        std::fs::metadata(format!("/proc/{agent}/environ")).is_ok_and(|found| {
            use std::os::unix::fs::MetadataExt as _;
            found.uid() == 0
        }),
        "the agent can be dumped"
    );
    product.stop().await?;
    product.remove_kernel_state()
}
