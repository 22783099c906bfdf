//! Facts about the node itself, from `/etc`, `/proc` and the host's network.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use nv_model::name::NodeId;
use nv_model::node::Node;
use nv_model::workload::InterfaceAddress;

/// Most bytes read of any of these files.
const MAX_FILE: u64 = 64 * 1024;

/// Reads a small text file; empty when it is not there.
pub(crate) fn read_small(path: impl AsRef<Path>) -> String {
    let mut bytes = Vec::new();
    match fs::File::open(path) {
        Ok(file) => match file.take(MAX_FILE).read_to_end(&mut bytes) {
            Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(_) => String::new(),
        },
        Err(_) => String::new(),
    }
}

/// Makes a folder that only its owner may enter.
pub(crate) fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    if !folder.exists() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Host name of this machine.
pub(crate) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Id of this node: `<host name>:<machine id>`, or the kernel's boot id where there is no machine id.
pub(crate) fn node_id() -> Option<NodeId> {
    let machine = ["/etc/machine-id", "/var/lib/dbus/machine-id", "/proc/sys/kernel/random/boot_id"]
        .iter()
        .map(|path| read_small(path).trim().replace('-', ""))
        .find(|id| !id.is_empty())?;
    format!("{}:{machine}", host_name()).parse().ok()
}

/// Everything about the node that does not need its runtime.
pub(crate) fn describe(id: NodeId, interfaces: Vec<InterfaceAddress>) -> Node {
    let uname = rustix::system::uname();
    Node {
        id,
        name: host_name(),
        runtime: String::new(),
        runtime_version: String::new(),
        platform: if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
            "Kubernetes".to_owned()
        } else {
            String::new()
        },
        os: os_name(&read_small("/etc/os-release")),
        kernel: uname.release().to_string_lossy().into_owned(),
        cpus: std::thread::available_parallelism().map_or(0, |count| u32::try_from(count.get()).unwrap_or(0)),
        memory: memory_bytes(&read_small("/proc/meminfo")),
        cgroup_version: if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() { 2 } else { 1 },
        storage_driver: String::new(),
        interfaces,
        labels: Default::default(),
        annotations: Default::default(),
    }
}

/// Addresses of interfaces as a workload or node has them, without the loopback's.
pub(crate) fn addresses(interfaces: &[nv_capture::netns::Interface]) -> Vec<InterfaceAddress> {
    let mut found = Vec::new();
    for interface in interfaces.iter().filter(|interface| !interface.loopback) {
        for address in &interface.addresses {
            let same_family = |gateway: &&std::net::IpAddr| gateway.is_ipv4() == address.addr().is_ipv4();
            found.push(InterfaceAddress {
                interface: interface.name.clone(),
                address: *address,
                gateway: interface.gateways.iter().find(same_family).copied(),
            });
        }
    }
    found
}

fn os_name(os_release: &str) -> String {
    os_release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches('"').to_owned())
        .unwrap_or_default()
}

fn memory_bytes(meminfo: &str) -> i64 {
    meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<i64>().ok())
        .map_or(0, |kib| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_are_read_from_the_kernels_texts() {
        assert_eq!(os_name("ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(memory_bytes("MemTotal:       1024 kB\nMemFree: 1 kB\n"), 1024 * 1024);
        assert_eq!((os_name(""), memory_bytes("nonsense")), (String::new(), 0));
    }
}
