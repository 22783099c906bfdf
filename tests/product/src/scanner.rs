use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context as _, Result, ensure};
use futures::future::BoxFuture;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::{Product, binary};

/// The scanner's program, beside the product's.
///
/// # Errors
/// When it was not built.
pub fn scanner_program() -> Result<PathBuf> {
    let path = binary()?.with_file_name("scanner");
    ensure!(path.is_file(), "{} is not there; run make build", path.display());
    Ok(path)
}

/// Builds a database of Debian's advisories, in the form of the tracker's `data/DSA/list`, and gives its file.
///
/// # Errors
/// With what the scanner said when it builds none.
pub fn build_database<'a>(
    folder: &'a Path,
    version: &'a str,
    advisories: &'a str,
) -> BoxFuture<'a, Result<PathBuf>> {
    Box::pin(async move {
        let feeds = folder.join(format!("feeds-{version}"));
        let list = feeds.join("debian-dsa/data/DSA/list");
        std::fs::create_dir_all(list.parent().context("a parent")?)?;
        std::fs::write(&list, advisories)?;
        let out = folder.join(format!("cvedb-{version}"));
        let built = Command::new(scanner_program()?)
            .args(["db", "build", "--version", version, "--feeds"])
            .arg(&feeds)
            .arg("--out")
            .arg(&out)
            .output()
            .await?;
        ensure!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        Ok(out)
    })
}

/// A scanner of its own, which a product's controller gives tasks; dropping it kills it.
#[derive(Debug)]
pub struct Scanner {
    name: String,
    child: Child,
}

impl Scanner {
    /// Starts one that takes `tasks` at a time. Its files are `NAME` and `NAME.log` in `folder`; `token` is what the
    /// product's `--scanner-token-file` names.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn start(
        product: &Product,
        token: &Path,
        folder: &Path,
        name: &str,
        database: &Path,
        tasks: u32,
    ) -> Result<Self> {
        let child = Command::new(scanner_program()?)
            .args(["run", "--advertise", name, "--tasks", &tasks.to_string()])
            .args(["--controller-port", &product.grpc_port().to_string()])
            .arg("--join-token-file")
            .arg(token)
            .arg("--state-dir")
            .arg(folder.join(name))
            .arg("--db")
            .arg(database)
            // Images of the same runtime are its own, too.
            .args(product.runtime_socket().iter().flat_map(|socket| [Path::new("--runtime-socket"), *socket]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join(format!("{name}.log")))?)
            .kill_on_drop(true)
            .spawn()
            .context("start a scanner")?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// How lists of scanners call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lets it stand still (SIGSTOP), with whatever it has in its hands.
    ///
    /// # Errors
    /// When it does not run.
    pub fn hold(&self) -> Result<()> {
        let pid = self.child.id().context("the scanner does not run")?;
        let pid = Pid::from_raw(i32::try_from(pid)?).context("a pid")?;
        Ok(kill_process(pid, Signal::STOP)?)
    }

    /// Kills it (SIGKILL).
    ///
    /// # Errors
    /// When it does not run.
    pub async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// Hands the product's controller a database, as an updater does, and gives what that program said.
///
/// # Errors
/// When the binary cannot be started.
pub fn update_database<'a>(
    product: &'a Product,
    token: &'a Path,
    folder: &'a Path,
    database: &'a Path,
) -> BoxFuture<'a, Result<Output>> {
    Box::pin(async move {
        let update = Command::new(scanner_program()?)
            .args(["update", "--controller-port", &product.grpc_port().to_string()])
            .arg("--join-token-file")
            .arg(token)
            .arg("--state-dir")
            .arg(folder.join("updater"))
            .arg("--db")
            .arg(database)
            .output();
        Ok(update.await?)
    })
}
