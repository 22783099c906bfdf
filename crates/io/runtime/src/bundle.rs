//! Identity before the first process.
//!
//! Every runtime writes the container's OCI specification into a bundle before it starts anything, and only then
//! makes the container's cgroup. Whoever hears of the new cgroup can therefore read there what it will hold. The
//! bundles are the runtime's own, below its state folder:
//!
//! | runtime | file |
//! |---|---|
//! | containerd | `<state>/io.containerd.runtime.v2.task/<namespace>/<id>/config.json` |
//! | Docker | the same in its containerd, namespace `moby` |
//! | CRI-O | `<state>/overlay-containers/<id>/userdata/config.json` |
//!
//! A container that may make cgroups could name one after another container, so a bundle counts only when its
//! specification asks for this very cgroup, and the outermost container of a path wins.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nv_model::workload::Workload;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::assemble::{Parts, PodIdentity, assemble};
use crate::containerd::runtime_of;
use crate::spec::{SPEC_BYTES, Spec};
use crate::{Host, cgroup};

const CONTAINERD: &str = "io.containerd.runtime.v2.task";
const CRIO: &str = "overlay-containers";
/// Namespaces of containerd that are looked through.
const NAMESPACES: usize = 64;
/// Components of a cgroup's path that may be a container.
const COMPONENTS: usize = 32;
/// Longest id that a runtime takes (containerd: 76, others 64).
const ID_BYTES: usize = 76;

/// The bundles of a runtime.
#[derive(Clone, Debug)]
pub struct Bundles {
    host: Arc<Host>,
    state_dirs: Vec<PathBuf>,
}

/// A bundle that was found for a cgroup.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// containerd's namespace, empty for CRI-O.
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) workload: Workload,
}

impl Bundles {
    /// The bundles below these state folders; folders that do not exist (yet) are fine.
    #[must_use]
    pub fn new(host: Arc<Host>, state_dirs: Vec<PathBuf>) -> Self {
        Self { host, state_dirs }
    }

    /// Which container a cgroup belongs to, from its bundle alone. `path` is the cgroup's path below the mount
    /// point of cgroup v2 (`/kubepods/burstable/pod…/<id>`); one inside of a container's gives that container.
    ///
    /// The workload is not running yet and has no pid. Of a container outside of pods the bundle tells neither
    /// image nor labels, so that its service is named after its id; [`crate::Identifier`] asks the runtime for these.
    #[must_use]
    pub fn identify(&self, path: &str) -> Option<Workload> {
        self.find(path).map(|bundle| bundle.workload)
    }

    pub(crate) fn find(&self, path: &str) -> Option<Bundle> {
        let mut end = 0_usize;
        for component in path.split('/').take(COMPONENTS) {
            end = end.saturating_add(component.len());
            let own = path.get(..end)?;
            end = end.saturating_add(1);
            let id = cgroup::container_id(component).unwrap_or(component);
            if !is_id(id) {
                continue;
            }
            let found = self.state_dirs.iter().find_map(|state| self.read(state, id, own));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn read(&self, state: &Path, id: &str, own: &str) -> Option<Bundle> {
        let crio = || {
            Some((String::new(), self.specification(state, Path::new(CRIO), &format!("{id}/userdata"), own)?))
        };
        let (namespace, spec) = self.containerd(state, id, own).or_else(crio)?;
        let pod = PodIdentity::read(&spec.annotations, &BTreeMap::new());
        let runtime = if namespace.is_empty() { "cri-o" } else { runtime_of(&namespace) };
        let parts = Parts { namespace: &namespace, id, runtime, pod, cgroup: Some(own), ..Parts::default() };
        let workload = assemble(&self.host, spec.traits(), parts).ok()?;
        Some(Bundle { id: id.to_owned(), workload, namespace })
    }

    fn containerd(&self, state: &Path, id: &str, own: &str) -> Option<(String, Spec)> {
        let tasks = state.join(CONTAINERD);
        fs::read_dir(&tasks).ok()?.flatten().take(NAMESPACES).find_map(|entry| {
            let namespace = entry.file_name().into_string().ok()?;
            let spec = self.specification(&tasks, Path::new(&namespace), id, own)?;
            Some((namespace, spec))
        })
    }

    /// Reads `<base>/<folder>/<bundle>/config.json`, when it asks for the cgroup `own`. Nothing below `base` may be
    /// a link: a bundle is no place to be led elsewhere from.
    fn specification(&self, base: &Path, folder: &Path, bundle: &str, own: &str) -> Option<Spec> {
        let base =
            rustix::fs::open(base, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let path = folder.join(bundle).join("config.json");
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = File::from(openat2(base, &path, flags, Mode::empty(), inside).ok()?);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut json = Vec::new();
        let most = u64::try_from(SPEC_BYTES).ok()?.saturating_add(1);
        file.take(most).read_to_end(&mut json).ok()?;
        let spec = Spec::parse(&json)?;
        // Seen from outside, the cgroups of a runtime that itself runs in a container have a longer path.
        let wanted = cgroup::from_spec(spec.cgroups_path())?;
        own.ends_with(&wanted).then_some(spec)
    }
}

/// What a runtime may call a container; never a path.
fn is_id(text: &str) -> bool {
    let letters = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
    !text.is_empty()
        && text.len() <= ID_BYTES
        && text.bytes().all(letters)
        && !text.starts_with('.')
        && !text.ends_with(".slice")
        && !text.ends_with(".service")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: &str = "30096ded6a8042e915108c59e719df59286b04435faccda7a7fbf5a81569bb1f";

    fn bundles(root: &Path) -> Bundles {
        let host = Host {
            node: "n1".parse().unwrap(),
            host_name: "node-1".into(),
            proc_root: root.join("proc"),
            cgroup_root: Some(root.join("cgroup")),
        };
        Bundles::new(Arc::new(host), vec![root.join("none"), root.join("state")])
    }

    fn put(root: &Path, folder: &str, config: &str) {
        let folder = root.join("state").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("config.json"), config).unwrap();
    }

    fn pod_config(cgroups_path: &str) -> String {
        format!(
            r#"{{"annotations":{{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.container-name":"web",
            "io.kubernetes.cri.image-name":"docker.io/library/web:1","io.kubernetes.cri.sandbox-id":"sandbox",
            "io.kubernetes.cri.sandbox-name":"web-7d9c5b8f6-x2x5z","io.kubernetes.cri.sandbox-namespace":"shop"}},
            "linux":{{"cgroupsPath":"{cgroups_path}","namespaces":[{{"type":"network"}}]}}}}"#
        )
    }

    #[test]
    fn a_new_cgroup_gives_the_whole_identity_of_a_pods_container() {
        let root = tempfile::tempdir().unwrap();
        let path = format!("/kubepods/burstable/pod1/{ID}");
        put(root.path(), &format!("{CONTAINERD}/k8s.io/{ID}"), &pod_config(&path));
        fs::create_dir_all(root.path().join(format!("cgroup{path}"))).unwrap();
        let found = bundles(root.path()).identify(&path).unwrap();
        assert_eq!(found.id.as_str(), ID);
        assert_eq!(found.learned_group().as_str(), "nv.web.shop");
        assert_eq!((found.name.as_str(), found.image.as_str()), ("web", "docker.io/library/web:1"));
        assert_eq!(found.cgroup, path);
        assert_ne!(found.cgroup_id, 0);
        assert!(!found.running && found.pid == 0);
    }

    #[test]
    fn the_systemd_driver_crio_and_plain_containers_are_found_too() {
        let root = tempfile::tempdir().unwrap();
        let scope = format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope");
        put(
            root.path(),
            &format!("{CRIO}/{ID}/userdata"),
            &pod_config(&format!("kubepods-pod1.slice:crio:{ID}")),
        );
        put(root.path(), &format!("{CONTAINERD}/default/c1"), r#"{"linux":{"cgroupsPath":"/default/c1"}}"#);
        let other = "c".repeat(64);
        let plain = format!("/kubepods/burstable/pod2/crio-{other}");
        put(root.path(), &format!("{CRIO}/{other}/userdata"), &pod_config(&plain));
        let bundles = bundles(root.path());
        let found = bundles.identify(&format!("{plain}/container")).unwrap();
        assert_eq!((found.id.as_str(), found.cgroup.as_str()), (other.as_str(), plain.as_str()), "cgroupfs");
        let found = bundles.identify(&scope).unwrap();
        assert_eq!((found.runtime.as_str(), found.cgroup.as_str()), ("cri-o", scope.as_str()));
        let found = bundles.identify("/default/c1/made/by/it").unwrap();
        assert_eq!((found.id.as_str(), found.cgroup.as_str()), ("c1", "/default/c1"));
        assert_eq!(found.service.as_str(), "c1");
    }

    #[test]
    fn a_cgroup_named_after_another_container_stays_with_the_one_that_made_it() {
        let root = tempfile::tempdir().unwrap();
        let (mine, other) = (format!("/kubepods/pod1/{ID}"), "b".repeat(64));
        put(root.path(), &format!("{CONTAINERD}/k8s.io/{ID}"), &pod_config(&mine));
        put(root.path(), &format!("{CONTAINERD}/k8s.io/{other}"), &pod_config(&format!("/{other}")));
        put(root.path(), &format!("{CONTAINERD}/default/c1"), r#"{"linux":{"cgroupsPath":"/default/c1"}}"#);
        let bundles = bundles(root.path());
        assert_eq!(bundles.identify(&format!("{mine}/{other}")).unwrap().id.as_str(), ID);
        assert_eq!(bundles.identify("/elsewhere/c1"), None);
    }

    #[test]
    fn neither_links_nor_folders_nor_broken_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let path = format!("/pods/{ID}");
        let bundle = root.path().join(format!("state/{CONTAINERD}/k8s.io/{ID}"));
        fs::create_dir_all(&bundle).unwrap();
        fs::write(root.path().join("elsewhere.json"), pod_config(&path)).unwrap();
        std::os::unix::fs::symlink(root.path().join("elsewhere.json"), bundle.join("config.json")).unwrap();
        let bundles = bundles(root.path());
        assert_eq!(bundles.identify(&path), None, "link");
        fs::remove_file(bundle.join("config.json")).unwrap();
        fs::create_dir(bundle.join("config.json")).unwrap();
        assert_eq!(bundles.identify(&path), None, "folder");
        fs::remove_dir(bundle.join("config.json")).unwrap();
        fs::write(bundle.join("config.json"), "{").unwrap();
        assert_eq!(bundles.identify(&path), None, "broken");
    }

    proptest! {
        #[test]
        fn identifying_is_total(path in ".{0,120}|(/[a-z./_-]{0,12}){0,6}") {
            let root = tempfile::tempdir().unwrap();
            prop_assert_eq!(bundles(root.path()).identify(&path), None);
        }
    }
}
