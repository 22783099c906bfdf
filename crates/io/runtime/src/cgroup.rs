//! From a process or a cgroup to a container.
//!
//! Runtimes make one cgroup a container and name it after its id: `…/<id>` where the cgroup driver is `cgroupfs` (CRI-O:
//! `…/crio-<id>`), `…/cri-containerd-<id>.scope`, `…/crio-<id>.scope`, `…/docker-<id>.scope` or `…/libpod-<id>.scope` where it is
//! systemd. A container may make cgroups below its own, and may even run a runtime inside.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Longest cgroup file of a process that is read: far more lines than there are controllers.
const CGROUP_FILE_BYTES: u64 = 64 * 1024;
/// Digits of a container's id as containerd's CRI, CRI-O and Docker make them.
const ID_DIGITS: usize = 64;
/// Prefixes of the scopes that systemd makes for a container's own processes. `crio-conmon-` is not among them: that
/// scope has the host's helper of the container.
const SCOPES: [&str; 5] = ["cri-containerd-", "crio-", "docker-", "libpod-", "nerdctl-"];
/// CRI-O writes its prefix with the driver `cgroupfs` as well.
const CRIO: &str = "crio-";
/// Folders that [`find`] looks at before it gives up.
const FIND_FOLDERS: usize = 50_000;

/// Path of a process in the cgroup v2 hierarchy, given the text of `/proc/<pid>/cgroup` (cgroups(7)); where there is
/// no v2, its path in the first hierarchy that has more than the root. `None` for text that names none.
#[must_use]
pub fn parse(text: &str) -> Option<&str> {
    let path = |line: &'_ str| -> Option<usize> {
        let (id, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let numeric = !id.is_empty() && id.bytes().all(|digit| digit.is_ascii_digit());
        (numeric && path.starts_with('/')).then_some(id.len() + controllers.len() + 2)
    };
    let lines = || text.lines().filter_map(|line| Some((line, line.get(path(line)?..)?)));
    let unified = lines().find(|(line, _)| line.starts_with("0::")).map(|(_, path)| path);
    let legacy = || lines().map(|(_, path)| path).find(|path| *path != "/");
    unified.or_else(legacy).or_else(|| lines().map(|(_, path)| path).next()).map(outside)
}

/// A path as the host sees it: seen from inside a cgroup namespace, what is outside begins with `/..`.
fn outside(mut path: &str) -> &str {
    while let Some(rest) = path.strip_prefix("/..") {
        path = rest;
    }
    path
}

/// Path of a running process, see [`parse`].
///
/// # Errors
/// What reading `<proc_root>/<pid>/cgroup` gives, for instance that there is no such process.
pub fn of_process(proc_root: &Path, pid: u32) -> io::Result<Option<String>> {
    let mut text = String::new();
    let file = File::open(proc_root.join(pid.to_string()).join("cgroup"))?;
    file.take(CGROUP_FILE_BYTES).read_to_string(&mut text)?;
    Ok(parse(&text).map(str::to_owned))
}

/// The id of a container whose cgroup's last component is this, when it has the form of one (64 hexadecimal digits).
#[must_use]
pub fn container_id(component: &str) -> Option<&str> {
    let id = match component.strip_suffix(".scope") {
        Some(scope) => SCOPES.iter().find_map(|prefix| scope.strip_prefix(prefix))?,
        None => component.strip_prefix(CRIO).unwrap_or(component),
    };
    (id.len() == ID_DIGITS && id.bytes().all(|digit| digit.is_ascii_hexdigit())).then_some(id)
}

/// All containers that a cgroup is in: id and the path of the container's own cgroup, innermost first. More than one
/// where a container runs a runtime itself; the host's runtime knows the outermost only.
pub fn containers(path: &str) -> impl Iterator<Item = (&str, &str)> {
    let ends = path.rmatch_indices('/').map(|(at, _)| at);
    let mut end = path.len();
    ends.filter_map(move |at| {
        let component = path.get(at.saturating_add(1)..end)?;
        let own = path.get(..end)?;
        end = at;
        Some((container_id(component)?, own))
    })
}

/// Path that a runtime makes of `linux.cgroupsPath` in an OCI specification (runc, `docs/systemd.md`): itself, or
/// for `slice:prefix:name` of the systemd driver the nested slices and the scope.
#[must_use]
pub fn from_spec(cgroups_path: &str) -> Option<String> {
    if cgroups_path.starts_with('/') {
        return Some(cgroups_path.to_owned());
    }
    let mut parts = cgroups_path.splitn(3, ':');
    let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice")?;
    let mut path = String::new();
    // `a-b-c.slice` lies in `a.slice/a-b.slice`; `-.slice` is the root.
    for (at, _) in stem.match_indices('-').filter(|(at, _)| *at > 0) {
        path.push('/');
        path.push_str(stem.get(..at)?);
        path.push_str(".slice");
    }
    if stem != "-" {
        path.push('/');
        path.push_str(slice);
    }
    path.push('/');
    if !prefix.is_empty() {
        path.push_str(prefix);
        path.push('-');
    }
    path.push_str(name);
    path.push_str(".scope");
    Some(path)
}

/// Looks for the cgroup of a container below `root`, for runtimes that do not tell a pid. `None` when there is none
/// among the first 50,000 folders.
#[must_use]
pub fn find(root: &Path, id: &str) -> Option<String> {
    let mut open = vec![root.to_path_buf()];
    let mut looked_at = 0_usize;
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            looked_at = looked_at.saturating_add(1);
            if looked_at > FIND_FOLDERS {
                return None;
            }
            let path = entry.path();
            if entry.file_name().to_str().and_then(container_id) == Some(id) {
                return Some(format!("/{}", path.strip_prefix(root).ok()?.to_str()?));
            }
            open.push(path);
        }
    }
    None
}

/// Mount point of the cgroup v2 tree, given the text of `/proc/self/mountinfo` (proc(5)): the mount point is the
/// 5th field, the type follows ` - `.
pub(crate) fn mount_point(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        after.starts_with("cgroup2 ").then(|| before.split(' ').nth(4)).flatten().map(PathBuf::from)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "30096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";

    #[test]
    fn the_v2_path_is_taken_and_a_v1_path_where_there_is_no_v2() {
        for (text, want) in [
            ("9:name=systemd:/a\n0::/b/c\n", Some("/b/c")),
            ("0::/../../kubepods/x\n", Some("/kubepods/x")),
            ("12:cpu,cpuacct:/\n5:memory:/docker/x\n", Some("/docker/x")),
            ("5:memory:/docker/a:b\n", Some("/docker/a:b")),
            ("0::/\n", Some("/")),
            ("", None),
            ("nonsense\n:::\n", None),
        ] {
            assert_eq!(parse(text), want, "{text:?}");
        }
    }

    #[test]
    fn a_container_is_recognised_whatever_made_its_cgroup() {
        for (path, want) in [
            (format!("/kubepods/burstable/pod1/{ID}"), Some(format!("/kubepods/burstable/pod1/{ID}"))),
            (format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"), None),
            (format!("/kubepods.slice/crio-{ID}.scope"), None),
            (format!("/system.slice/docker-{ID}.scope"), None),
            (format!("/docker/{ID}"), None),
            (format!("/kubepods/burstable/pod1/crio-{ID}"), None),
            (
                format!("/machine.slice/libpod-{ID}.scope/container"),
                Some(format!("/machine.slice/libpod-{ID}.scope")),
            ),
            (format!("/kubepods/pod1/{ID}/init.scope"), Some(format!("/kubepods/pod1/{ID}"))),
        ] {
            let own = want.unwrap_or_else(|| path.clone());
            assert_eq!(containers(&path).next(), Some((ID, own.as_str())), "{path}");
        }
        for path in [
            "/",
            "/system.slice/ssh.service",
            "/kubepods/pod3b811db6",
            &format!("/crio-conmon-{ID}.scope"),
            &format!("/crio-conmon-{ID}"),
        ] {
            assert_eq!(containers(path).next(), None, "{path}");
        }
    }

    #[test]
    fn a_container_within_a_container_is_told_before_the_outer_one() {
        let outer = "b".repeat(64);
        let path = format!("/docker/{outer}/kubelet/kubepods/{ID}");
        let found: Vec<_> = containers(&path).map(|(id, _)| id).collect();
        assert_eq!(found, [ID, &outer]);
    }

    #[test]
    fn a_path_of_the_systemd_driver_is_unfolded() {
        for (raw, want) in [
            ("/kubepods/pod1/x", Some("/kubepods/pod1/x")),
            (
                "kubepods-burstable-podab.slice:cri-containerd:x",
                Some(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podab.slice/cri-containerd-x.scope",
                ),
            ),
            ("system.slice:docker:x", Some("/system.slice/docker-x.scope")),
            (":docker:x", Some("/system.slice/docker-x.scope")),
            ("-.slice:crio:x", Some("/crio-x.scope")),
            ("relative", None),
        ] {
            assert_eq!(from_spec(raw).as_deref(), want, "{raw}");
        }
    }

    #[test]
    fn the_cgroup_of_an_id_is_found_in_the_tree() {
        let root = tempfile::tempdir().unwrap();
        let path = format!("kubepods.slice/pod1.slice/docker-{ID}.scope");
        fs::create_dir_all(root.path().join(&path)).unwrap();
        assert_eq!(find(root.path(), ID), Some(format!("/{path}")));
        assert_eq!(find(root.path(), &"0".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn parsing_is_total_and_gives_a_part_of_the_text(text in ".{0,200}|([0-9]{1,2}:[a-z=,]{0,9}:/[a-z./:]{0,30}\n){0,5}") {
            if let Some(path) = parse(&text) {
                prop_assert!(text.contains(path));
            }
        }

        #[test]
        fn every_id_is_found_again_in_every_form_of_its_cgroup(
            id in "[0-9a-f]{64}", parents in "(/[a-z.-]{1,12}){0,4}", scope in 0..6_usize, below in "(/[a-z]{1,8}){0,2}"
        ) {
            let own = match SCOPES.get(scope) {
                Some(prefix) => format!("{parents}/{prefix}{id}.scope"),
                None => format!("{parents}/{id}"),
            };
            let path = format!("{own}{below}");
            prop_assert_eq!(containers(&path).next(), Some((id.as_str(), own.as_str())));
        }

        #[test]
        fn unfolding_is_total(raw in "[a-z:.-]{0,40}") {
            if let Some(path) = from_spec(&raw) {
                prop_assert!(path.starts_with('/'));
            }
        }
    }
}
