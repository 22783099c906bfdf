//! A kernel from Debian's packages, the newest that the machine's package lists name.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

/// Modules that the tests need where they are not built in, in the order of loading.
const MODULES: [&str; 12] = [
    "overlay",
    "llc",
    "stp",
    "bridge",
    "veth",
    "dummy",
    "garp",
    "mrp",
    "8021q",
    "sch_ingress",
    "cls_bpf",
    "cls_u32",
];

/// Those of connection tracking, of a Kubernetes node's translation of addresses, and of nftables with its queues, in the
/// order of loading.
const TRACKING: [&str; 23] = [
    "nf_defrag_ipv4",
    "nf_defrag_ipv6",
    "libcrc32c",
    "nf_conntrack",
    "nf_nat",
    "x_tables",
    "ip_tables",
    "ip6_tables",
    "iptable_nat",
    "ip6table_nat",
    "xt_nat",
    "xt_tcpudp",
    "xt_MASQUERADE",
    "nfnetlink",
    "nf_tables",
    "nfnetlink_queue",
    "nft_queue",
    "nft_ct",
    "nf_reject_ipv4",
    "nf_reject_ipv6",
    "nft_reject",
    "nft_reject_ipv4",
    "nft_reject_ipv6",
];

/// An unpacked kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its release, as `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    /// Modules, uncompressed: name and content.
    pub(crate) modules: Vec<(String, Vec<u8>)>,
}

impl Kernel {
    /// The kernel that a package without content leads to (`linux-image-cloud-amd64`), downloaded unless it is here. `suite` is
    /// one of Debian's that the machine does not install from.
    pub(crate) fn newest(cache: &Path, package: &str, suite: Option<&str>) -> Result<Self> {
        fs::create_dir_all(cache)?;
        let apt = Apt::of(cache, suite)?;
        let name = match apt.named(package) {
            Ok(name) => name,
            // A machine on which nothing was installed yet has no package lists.
            Err(_) => {
                run(apt.command("apt-get").args(["update", "-q"]))?;
                apt.named(package)?
            }
        };
        let folder = cache.join(&name);
        if !folder.is_dir() {
            let unpacked = cache.join(format!("{name}.part"));
            if unpacked.exists() {
                fs::remove_dir_all(&unpacked)?;
            }
            println!("downloading {name}");
            run(apt.command("apt-get").args(["download", &name]).current_dir(cache))?;
            let archive =
                file_in(cache, |file| file.starts_with(&format!("{name}_")) && file.ends_with(".deb"))?;
            run(Command::new("dpkg").arg("-x").arg(&archive).arg(&unpacked))?;
            fs::remove_file(archive)?;
            fs::rename(unpacked, &folder)?;
        }
        let image = file_in(&folder.join("boot"), |file| file.starts_with("vmlinuz-"))?;
        let release = image
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("vmlinuz-"))
            .context("the kernel's file has no release")?
            .to_owned();
        let mut modules = Vec::new();
        for module in MODULES.iter().chain(&TRACKING) {
            let root = folder.join("lib/modules").join(&release).join("kernel");
            match find(&root, module)? {
                Some(path) => modules.push(((*module).to_owned(), content(&path)?)),
                // Built in, or not known to this series.
                None => println!("{release} has no module {module}"),
            }
        }
        ensure!(modules.iter().any(|(name, _)| name == "overlay"), "{release} has no overlay module");
        Ok(Self { release, image, modules })
    }
}

/// Whether a module belongs to connection tracking and what builds on it, which not every node has.
pub(crate) fn is_tracking(module: &str) -> bool {
    TRACKING.contains(&module)
}

/// APT with the machine's own sources, or with a configuration, lists and caches of its own for another suite.
struct Apt(Option<PathBuf>);

impl Apt {
    fn of(cache: &Path, suite: Option<&str>) -> Result<Self> {
        let Some(suite) = suite else { return Ok(Self(None)) };
        let folder = std::path::absolute(cache)?.join(format!("apt-{suite}"));
        for part in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let source = |archive: &str, suite: &str| {
            let keys = "/usr/share/keyrings/debian-archive-keyring.gpg";
            format!("deb [signed-by={keys}] http://deb.debian.org/{archive} {suite} main\n")
        };
        let sources = source("debian", suite) + &source("debian-security", &format!("{suite}-security"));
        fs::write(folder.join("sources.list"), sources)?;
        let at = folder.display();
        let configuration = format!(
            "Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"/dev/null\";\n\
             Dir::State::lists \"{at}/lists\";\nDir::Cache \"{at}/cache\";\nAPT::Sandbox::User \"root\";\n"
        );
        let file = folder.join("apt.conf");
        fs::write(&file, configuration)?;
        Ok(Self(Some(file)))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        if let Some(configuration) = &self.0 {
            command.env("APT_CONFIG", configuration);
        }
        command
    }

    /// The kernel that a package without content depends on.
    fn named(&self, package: &str) -> Result<String> {
        let depends = run(self.command("apt-cache").args(["depends", package]))?;
        let name = depends
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .find(|name| name.starts_with("linux-image-"));
        name.map(str::to_owned).with_context(|| format!("{package} names no kernel"))
    }
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn file_in(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) {
            return Ok(entry.path());
        }
    }
    bail!("{} has no such file", folder.display())
}

fn find(folder: &Path, module: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), module)? {
                return Ok(Some(found));
            }
        } else if name == format!("{module}.ko") || name == format!("{module}.ko.xz") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn content(path: &Path) -> Result<Vec<u8>> {
    if path.extension().is_some_and(|extension| extension == "xz") {
        let output = Command::new("xz").arg("-dc").arg(path).output().context("xz")?;
        ensure!(output.status.success(), "xz cannot unpack {}", path.display());
        return Ok(output.stdout);
    }
    Ok(fs::read(path)?)
}
