//! One guest: what is in it, its run, and what it said.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::Has;
use crate::initramfs::Initramfs;
use crate::kernel::Kernel;
use crate::programs::{Program, libraries};

/// Longest run of a guest: three times what it takes beside another one, as only one that hangs is to be given up.
const PATIENCE: Duration = Duration::from_secs(1500);
/// Where iptables looks for its extensions, which it loads by name.
const XTABLES: &str = "/usr/lib/x86_64-linux-gnu/xtables";
/// How a guest says what came of a program: mark, name, exit code.
const RESULT: &str = "NV-RESULT";
/// The kernel's first file system cannot be pivoted away from, as containers do it: everything moves to another.
const MOVE: &str = "#!/bin/busybox sh\n\
     export PATH=/bin\n\
     mkdir /n; mount -t tmpfs -o size=90% r /n\n\
     cp -a /bin /etc /lib* /mod /root /sbin /t /usr /n/\n\
     mkdir -p /n/proc /n/sys /n/dev /n/tmp /n/run /n/var/tmp\n\
     exec switch_root /n /sbin/run\n";
/// Its last line.
const END: &str = "NV-END";

/// A guest that can be started.
pub(crate) struct Guest {
    kernel: PathBuf,
    archive: PathBuf,
    has: Has,
    programs: Vec<String>,
    /// The clock counts instructions.
    counting: bool,
}

/// What a guest said.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// To be shown.
    pub(crate) lines: Vec<String>,
    /// What is wrong.
    pub(crate) problems: Vec<String>,
}

impl Guest {
    /// With the enforcer it prints the table of capabilities first; without it, its clock counts instructions.
    pub(crate) fn new(
        kernel: &Kernel,
        has: Has,
        enforcer: Option<&Path>,
        programs: &[&Program],
    ) -> Result<Self> {
        let mut files = Initramfs::default();
        for folder in ["proc", "sys", "dev", "tmp", "run", "var/tmp", "root", "mod", "t", "usr/bin", "sbin"] {
            files.folder(folder);
        }
        let busybox = ["/usr/bin/busybox", "/bin/busybox"].map(Path::new);
        let busybox = busybox.into_iter().find(|path| path.is_file()).context("busybox is not installed")?;
        files.copy(busybox, Some("bin/busybox"))?;
        let applets = Command::new(busybox).arg("--list").output().context("busybox --list")?;
        for applet in String::from_utf8_lossy(&applets.stdout)
            .lines()
            .filter(|name| !["busybox", "ip", "tc"].contains(name))
        {
            files.link(&format!("bin/{applet}"), "busybox");
        }
        // Without connection tracking in the other guest of a series: the programs load there too, and say so.
        let modules: Vec<_> = kernel
            .modules
            .iter()
            .filter(|(name, _)| has != Has::Trampolines || !crate::kernel::is_tracking(name))
            .collect();
        for (name, content) in &modules {
            files.file(&format!("mod/{name}.ko"), 0o644, content);
        }
        files.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n");
        files.file("etc/other", 0o644, b"x\n");
        let mut copied = std::collections::BTreeSet::new();
        let mut with_libraries = |files: &mut Initramfs, path: &Path, to: &str| -> Result<()> {
            for library in libraries(path)? {
                if copied.insert(library.clone()) {
                    files.copy(&library, None)?;
                }
            }
            files.copy(path, Some(to))
        };
        for (program, path) in [("ip", "/sbin/ip"), ("tc", "/sbin/tc"), ("bash", "/bin/bash")] {
            with_libraries(&mut files, Path::new(path), &format!("bin/{program}"))?;
        }
        for family in ["iptables-legacy", "ip6tables-legacy"] {
            let path = Path::new("/usr/sbin").join(family);
            with_libraries(&mut files, &path, &format!("bin/{family}"))?;
        }
        for extension in ["standard", "tcp", "udp", "DNAT", "MASQUERADE"] {
            files.copy(&Path::new(XTABLES).join(format!("libxt_{extension}.so")), None)?;
        }
        let mut script = script(modules.iter().map(|(name, _)| name.as_str()));
        let mut names = Vec::new();
        if let Some(enforcer) = enforcer {
            with_libraries(&mut files, enforcer, "t/enforcer")?;
            script.push_str(&step("capabilities", "/t/enforcer capabilities", 300));
            names.push("capabilities".to_owned());
        }
        for program in programs {
            let path = format!("/t/{}", program.name);
            with_libraries(&mut files, &program.path, &path)?;
            let arguments = program.arguments(has).join(" ");
            script.push_str(&step(&program.name, &format!("{path} {arguments}"), 1200));
            names.push(program.name.clone());
        }
        script.push_str(&format!("echo {END}\npoweroff -f\n"));
        files.file("init", 0o755, MOVE.as_bytes());
        files.file("sbin/run", 0o755, script.as_bytes());
        let archive = std::env::temp_dir().join(format!(
            "nv-guest-{}-{}-{has:?}.cpio",
            std::process::id(),
            kernel.release
        ));
        std::fs::write(&archive, files.finish()).with_context(|| archive.display().to_string())?;
        Ok(Self { kernel: kernel.image.clone(), archive, has, programs: names, counting: enforcer.is_none() })
    }

    /// Starts it, waits for its end and reads its serial port.
    pub(crate) fn run(&self) -> Result<Report> {
        let security = if self.has == Has::Trampolines {
            "lockdown,capability,landlock"
        } else {
            "lockdown,capability,landlock,bpf"
        };
        let mut guest = Command::new("qemu-system-x86_64")
            .args(["-accel", "tcg", "-cpu", "max", "-m", "1536", "-smp", "1", "-display", "none"])
            .args(["-serial", "stdio", "-nodefaults", "-no-reboot", "-kernel"])
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.archive)
            .args(if self.counting { &["-icount", "shift=0,sleep=off"][..] } else { &[] })
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 no_timer_check lsm={security}")])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("qemu-system-x86_64")?;
        let output = guest.stdout.take().context("the guest's serial port")?;
        let (lines, told) = mpsc::channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                line.clear();
                if lines.send(text).is_err() {
                    return;
                }
            }
        });
        let mut said = Vec::new();
        let end = Instant::now() + PATIENCE;
        let ended = loop {
            match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) if line == END => break true,
                Ok(line) => said.push(line),
                Err(_) => break false,
            }
        };
        guest.kill().ok();
        guest.wait().context("the guest's end")?;
        std::fs::remove_file(&self.archive)?;
        Ok(self.read(&said, ended))
    }

    fn read(&self, said: &[String], ended: bool) -> Report {
        let mut report = Report::default();
        if !ended {
            report.problems.push("it did not come to its end".to_owned());
            report.lines.extend(said.iter().rev().take(20).rev().cloned());
        }
        for program in &self.programs {
            let mark = format!("{RESULT} {program} ");
            match said.iter().find_map(|line| line.strip_prefix(&mark)) {
                Some("0") => {}
                Some(code) => report.problems.push(format!("{program} ended with {code}")),
                None => report.problems.push(format!("{program} said nothing")),
            }
        }
        let tier = format!(", tier {}", self.has.tier());
        if !self.counting && !said.iter().any(|line| line.starts_with("kernel ") && line.ends_with(&tier)) {
            report.problems.push(format!("its table of capabilities does not say{tier}"));
        }
        for line in said.iter().filter(|line| !line.starts_with(RESULT)) {
            if line.starts_with("test result: ok. 0 passed") {
                report.problems.push("a program ran no test".to_owned());
            }
            report.lines.push(line.clone());
        }
        report
    }
}

/// Mounts, modules, the loopback.
fn script<'a>(modules: impl Iterator<Item = &'a str>) -> String {
    let mut script = String::from(
        "#!/bin/busybox sh\n\
         export PATH=/bin:/sbin:/t HOME=/root RUST_BACKTRACE=0\n\
         mount -t proc p /proc; mount -t sysfs s /sys; mount -t devtmpfs d /dev\n\
         mount -t securityfs x /sys/kernel/security; mount -t tracefs t /sys/kernel/tracing\n\
         mount -t bpf b /sys/fs/bpf; mount -t cgroup2 c /sys/fs/cgroup\n\
         mount -t tmpfs t /tmp; mount -t tmpfs t /var/tmp; mount -t tmpfs t /run\n\
         ln -s /proc/self/fd /dev/fd\n",
    );
    for module in modules {
        script.push_str(&format!("insmod /mod/{module}.ko || echo \"{module} is not loaded\"\n"));
    }
    script.push_str("ip link set lo up\n");
    script
}

/// Runs one program and says what came of it.
fn step(name: &str, command: &str, seconds: u32) -> String {
    format!("echo \"--- {name}\"\ntimeout {seconds} {command} 2>&1\necho \"{RESULT} {name} $?\"\n")
}
