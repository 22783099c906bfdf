//! Where container runtimes listen.

use std::path::{Path, PathBuf};

/// Where Docker's own packages and distributions' have its socket.
pub const DOCKER: &str = "/var/run/docker.sock";
/// Known sockets and the state folders of the runtime behind each, the usual ones first. Docker has a containerd of its
/// own, or uses the machine's. The last is where an operator may mount any runtime's socket to.
const KNOWN: [(&str, &[&str]); 9] = [
    ("/run/containerd/containerd.sock", &["/run/containerd"]),
    ("/run/k3s/containerd/containerd.sock", &["/run/k3s/containerd"]),
    ("/run/k0s/containerd.sock", &["/run/k0s/containerd"]),
    ("/var/snap/microk8s/common/run/containerd.sock", &["/var/snap/microk8s/common/run/containerd"]),
    ("/run/crio/crio.sock", &["/run/containers/storage"]),
    (DOCKER, &["/run/containerd", "/run/docker/containerd/daemon"]),
    ("/run/cri-dockerd.sock", &["/run/containerd", "/run/docker/containerd/daemon"]),
    ("/run/docker/containerd/containerd.sock", &["/run/docker/containerd/daemon"]),
    ("/run/runtime.sock", &["/run/containerd"]),
];

/// The sockets of this machine that exist, below `root` (`/`, or where the host's is mounted). One that appears later
/// is found by asking again.
#[must_use]
pub fn detect(root: &Path) -> Vec<PathBuf> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    KNOWN.iter().map(|(socket, _)| below(socket)).filter(|path| is_socket(path)).collect()
}

/// Where the runtime behind a socket keeps its bundles: the known place, the socket's folder (containerd's rule),
/// and `state` beside it.
#[must_use]
pub fn state_dirs(socket: &Path) -> Vec<PathBuf> {
    let known = KNOWN.iter().filter(|(known, _)| socket.ends_with(known.trim_start_matches('/')));
    let mut found: Vec<PathBuf> = known
        .flat_map(|(known, states)| {
            let root = socket.ancestors().nth(Path::new(known).components().count().saturating_sub(1));
            let root = root.unwrap_or(Path::new("/"));
            states.iter().map(|state| root.join(state.trim_start_matches('/')))
        })
        .collect();
    if let Some(folder) = socket.parent() {
        found.extend([folder.to_path_buf(), folder.join("state")]);
    }
    found.dedup();
    found
}

/// The path of a socket as operators write it: `/run/x.sock` or `unix:///run/x.sock`. `None` for anything else, for
/// instance a TCP address: a runtime's API over TCP is no thing to trust.
#[must_use]
pub fn parse(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    path.starts_with('/').then(|| PathBuf::from(path))
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    path.metadata().is_ok_and(|data| data.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_sockets_that_exist_are_found() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("run/k3s/containerd");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(root.path().join("run/containerd/containerd.sock")).unwrap();
        let _listener = UnixListener::bind(folder.join("containerd.sock")).unwrap();
        assert_eq!(detect(root.path()), [folder.join("containerd.sock")]);
    }

    #[test]
    fn bundles_are_looked_for_where_the_runtime_keeps_them() {
        for (socket, want) in [
            ("/run/containerd/containerd.sock", &["/run/containerd", "/run/containerd/state"][..]),
            (
                "/host/run/crio/crio.sock",
                &["/host/run/containers/storage", "/host/run/crio", "/host/run/crio/state"],
            ),
            (
                "/var/run/docker.sock",
                &["/run/containerd", "/run/docker/containerd/daemon", "/var/run", "/var/run/state"],
            ),
            ("/tmp/lab/c.sock", &["/tmp/lab", "/tmp/lab/state"]),
        ] {
            let want: Vec<PathBuf> = want.iter().map(PathBuf::from).collect();
            assert_eq!(state_dirs(Path::new(socket)), want, "{socket}");
        }
    }

    #[test]
    fn a_socket_is_given_as_a_path_or_a_unix_url() {
        for (text, want) in [
            ("/run/x.sock", Some("/run/x.sock")),
            ("unix:///run/x.sock", Some("/run/x.sock")),
            ("tcp://10.0.0.1:2375", None),
            ("x.sock", None),
        ] {
            assert_eq!(parse(text), want.map(PathBuf::from), "{text}");
        }
    }
}
