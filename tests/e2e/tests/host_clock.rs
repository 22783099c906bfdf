//! Somebody sets the wall clock, by more than a day, forward and back, while the product runs. Nobody sets a machine's clock
//! in a test: the product's processes alone get another answer, by a library that is loaded before the C library.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nv_scene::{CLIENT_GROUP, Scene};
use serde_json::Value;

/// Adds the seconds in a file to what the C library says of the wall clock.
const LIBRARY: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

static int (*real)(clockid_t, struct timespec *);
static const volatile long long *set;

__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int file = open(getenv("SET_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *there = mmap(0, sizeof(long long), PROT_READ, MAP_SHARED, file, 0);
    if (there != MAP_FAILED) set = there;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = real(clock, now);
    if (!failed && clock == CLOCK_REALTIME && set) now->tv_sec += *set;
    return failed;
}
"#;

/// How long it is looked at what comes of it: longer than anything that the product does by a clock every few seconds.
const LOOK: Duration = Duration::from_secs(7);
const HOUR: i64 = 3600;

/// The clock of the processes that are started by [`Self::binary`].
struct WallClock(tempfile::TempDir);

impl WallClock {
    fn new() -> Result<Self> {
        let clock = Self(tempfile::tempdir()?);
        let at = |name: &str| clock.0.path().join(name).display().to_string();
        clock.set(0)?;
        std::fs::write(at("library.c"), LIBRARY)?;
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o", &at("library.so"), &at("library.c"), "-ldl"])
            .output()
            .context("cc")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD={} SET_CLOCK={}\nexec {} \"$@\"\n",
            at("library.so"),
            at("seconds"),
            nv_product::binary()?.display()
        );
        std::fs::write(clock.binary(), script)?;
        std::fs::set_permissions(clock.binary(), std::fs::Permissions::from_mode(0o755))?;
        Ok(clock)
    }
    fn binary(&self) -> PathBuf {
        self.0.path().join("neuvector")
    }
    /// So many seconds from the machine's.
    fn set(&self, seconds: i64) -> Result<()> {
        use std::os::unix::fs::FileExt as _;
        let path = self.0.path().join("seconds");
        let file = std::fs::OpenOptions::new().create(true).write(true).truncate(false).open(path)?;
        file.write_all_at(&seconds.to_ne_bytes(), 0)?;
        Ok(())
    }
}

/// What stays as it is: processes, rules, programs in the profile, what was said of nodes, users and groups.
async fn standing(scene: &Scene) -> Result<Vec<String>> {
    let list = |answer: &Value, list: &str, key: &str| {
        let entries = answer.pointer(list).and_then(Value::as_array).cloned().unwrap_or_default();
        let mut keys: Vec<String> =
            entries.iter().filter_map(|entry| Some(entry.get(key)?.as_str()?.to_owned())).collect();
        keys.sort_unstable();
        format!("{list}: {}", keys.join(" "))
    };
    // Readers of files come and go.
    let stays = |pid: &u32| {
        let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split('\0').any(|word| ["launcher", "keeper", "inspector"].contains(&word))
    };
    let processes = scene.product.pid().map(nv_product::descendants).unwrap_or_default();
    let mut processes: Vec<u32> = processes.into_iter().filter(stays).collect();
    processes.sort_unstable();
    let api = &scene.api;
    let rules = api.get("/v1/policy/rule").await?;
    let rules = rules.get("rules").and_then(Value::as_array).map_or(0, Vec::len);
    let profile = api.get(&format!("/v1/process_profile/{CLIENT_GROUP}")).await?;
    Ok(vec![
        format!("processes: {processes:?}"),
        format!("rules: {rules}"),
        list(&profile, "/process_profile/process_list", "path"),
        list(&api.get("/v1/enforcer").await?, "/enforcers", "connection_state"),
        list(&api.get("/v1/group").await?, "/groups", "name"),
        list(&api.get("/v1/log/event?limit=1000").await?, "/events", "name"),
    ])
}

/// A denied program is stopped, and told as it is now by the clock that is set.
async fn is_judged(scene: &Scene, path: &str, seconds: i64) -> Result<()> {
    scene.run(&["/bin/cp", "/bin/attacker", path]).await?;
    let out = format!("{path}-ran");
    drop(scene.run(&[path, "write", &out]).await);
    ensure!(!scene.has_file(&out), "a denied program ran: {path}");
    let told = |answer: &Value| {
        let list = answer.get("incidents")?.as_array()?;
        let of = |one: &&Value| one.get("proc_path").is_some_and(|told| told == path);
        list.iter().find(of)?.get("reported_timestamp")?.as_i64()
    };
    let (told, _) = scene.api.wait_for("/v1/log/incident?limit=1000", Duration::from_secs(5), told).await?;
    let now = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())?;
    ensure!((now + seconds - told).abs() < 120, "{path} is dated {told}, and it is {}", now + seconds);
    Ok(())
}

/// No connection is older than the test, or idle for longer.
async fn ages_are_sane(scene: &Scene) -> Result<()> {
    let path = format!("/v1/session?f_workload={}", scene.client.container().id);
    let answer = scene.api.get(&path).await?;
    let sessions = answer.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default();
    ensure!(!sessions.is_empty(), "no connection is listed");
    for session in sessions {
        for key in ["age", "idle"] {
            let seconds = session.get(key).and_then(Value::as_i64).unwrap_or(0);
            ensure!((0..HOUR).contains(&seconds), "{key}: {session}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_sets_the_wall_clock_ends_no_session_rule_or_process_and_hides_nothing() -> Result<()> {
    let clock = WallClock::new()?;
    let scene = Scene::start_with("clock", clock.binary()).await?;
    scene.operate().await?;
    scene.wait_learned().await?;
    scene.set_mode("Protect").await?;
    is_judged(&scene, "/tmp/before", 0).await?;
    let before = standing(&scene).await?;
    let echo = format!("{}:7", scene.echo_address()?);
    for (name, seconds) in [("/tmp/forward", 30 * HOUR), ("/tmp/back", -7 * HOUR)] {
        // A connection goes on meanwhile, and for longer: a word takes two milliseconds at least.
        let words = ["/bin/attacker", "talk", &echo, "5000"];
        let set = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            clock.set(seconds)?;
            tokio::time::sleep(LOOK).await;
            ages_are_sane(&scene).await?;
            is_judged(&scene, name, seconds).await
        };
        let (talked, set) = tokio::join!(scene.run(&words), set);
        set.with_context(|| format!("{seconds} seconds from now"))?;
        ensure!(talked?.exit_code == 0, "{seconds} seconds from now: a connection is hurt");
        scene.operate().await.with_context(|| format!("{seconds} seconds from now"))?;
        let now = standing(&scene).await?;
        ensure!(now == before, "{seconds} seconds from now: {now:#?}, before {before:#?}");
    }
    scene.stop().await
}
