use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::LabError;

/// Where [`LabOptions::fresh`] keeps its labs and the locks of their numbers.
const FRESH: &str = "/var/tmp/nv-lab";
/// How many fresh labs may run at once on a machine.
const FRESH_LABS: u8 = 200;
/// Longest name of a network interface (`IFNAMSIZ` without its end mark).
const INTERFACE_NAME_BYTES: usize = 15;
/// Longest path of the folder: socket paths below it must stay within `sun_path`'s 108 bytes.
const DIRECTORY_BYTES: usize = 70;

/// What a lab is made of. Two labs may run at the same time when all of these differ.
#[derive(Clone, Debug)]
pub struct LabOptions {
    /// Folder for everything the lab writes; it is emptied at the start and removed at the end.
    pub dir: PathBuf,
    /// Addresses of the pods; the bridge takes the first.
    pub subnet: Ipv4Net,
    /// Name of the bridge, 1 to 15 bytes of `[A-Za-z0-9-]`; it also names the lab's cgroup `/nv-lab-<bridge>`.
    pub bridge: String,
    /// IPv6 addresses of the pods, when they shall have some.
    pub ipv6: Option<Ipv6Net>,
    /// Program and arguments of a hook for `createRuntime`, called for containers of pods whose handler is
    /// [`HOOKED`](crate::HOOKED).
    pub hook: Vec<String>,
    /// containerd takes plug-ins of NRI, at [`Lab::nri_socket`](crate::Lab::nri_socket), and waits ten seconds for them. It
    /// is one of its own then, unpacked beside the tests (`make setup-nri`): Debian 12's has no NRI of this kind.
    pub nri: bool,
    /// Holds the number of a fresh lab until the last copy of its options is gone.
    #[expect(dead_code, reason = "the open file is the lock")]
    number: Option<Arc<File>>,
}

impl LabOptions {
    /// A lab that no other process on this machine uses: bridge `nvlab<N>`, subnets `10.231.<N>.0/24` and
    /// `fd00:231:<N>::/64`, folder `/var/tmp/nv-lab/<N>`. The number stays locked while the options or the lab live.
    ///
    /// # Errors
    /// [`LabError::NoneFree`] when 200 labs run, [`LabError::Io`] when the lock files cannot be written.
    pub fn fresh() -> Result<Self, LabError> {
        let base = Path::new(FRESH);
        fs::create_dir_all(base).map_err(LabError::io("create", base))?;
        for number in 0..FRESH_LABS {
            let path = base.join(format!("{number}.lock"));
            let file = File::create(&path).map_err(LabError::io("create", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(source)) => return Err(LabError::io("lock", &path)(source)),
            }
            return Ok(Self {
                number: Some(Arc::new(file)),
                ..Self::new(
                    base.join(number.to_string()),
                    format!("nvlab{number}"),
                    Ipv4Net::new_assert([10, 231, number, 0].into(), 24),
                    Some(Ipv6Net::new_assert([0xfd00, 0x231, number.into(), 0, 0, 0, 0, 0].into(), 64)),
                )
            });
        }
        Err(LabError::NoneFree { labs: FRESH_LABS, directory: base.to_path_buf() })
    }

    /// A lab at a fixed place, for instance one that an operator shall look into.
    #[must_use]
    pub fn new(dir: PathBuf, bridge: String, subnet: Ipv4Net, ipv6: Option<Ipv6Net>) -> Self {
        Self { dir, subnet, bridge, ipv6, hook: Vec::new(), nri: false, number: None }
    }

    pub(crate) fn check(&self) -> Result<(), LabError> {
        let refuse = |option, reason: &str| Err(LabError::Option { option, reason: reason.to_owned() });
        if self.bridge.is_empty() || self.bridge.len() > INTERFACE_NAME_BYTES {
            return refuse("bridge", "must be 1 to 15 bytes long");
        }
        if self.bridge.chars().any(|c| !c.is_ascii_alphanumeric() && c != '-') {
            return refuse("bridge", "may only have letters, digits and '-'");
        }
        if !self.dir.is_absolute() || self.dir.as_os_str().len() > DIRECTORY_BYTES {
            return refuse("dir", "must be an absolute path of at most 70 bytes");
        }
        if self.dir.parent().is_none_or(|parent| parent.parent().is_none()) {
            return refuse("dir", "must be at least two folders below /, as it is emptied");
        }
        if self.subnet.prefix_len() > 29 {
            return refuse("subnet", "must have room for pods (/29 or wider)");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        let good =
            LabOptions::new("/var/tmp/x/lab".into(), "lab0".into(), "10.9.0.0/24".parse().unwrap(), None);
        assert!(good.check().is_ok());
        for (option, bad) in [
            ("bridge", LabOptions { bridge: "a-name-that-is-too-long".into(), ..good.clone() }),
            ("bridge", LabOptions { bridge: "a/b".into(), ..good.clone() }),
            ("dir", LabOptions { dir: "relative/path".into(), ..good.clone() }),
            ("dir", LabOptions { dir: "/etc".into(), ..good.clone() }),
            ("subnet", LabOptions { subnet: "10.9.0.0/30".parse().unwrap(), ..good.clone() }),
        ] {
            match bad.check() {
                Err(LabError::Option { option: named, .. }) => assert_eq!(named, option, "{bad:?}"),
                other => panic!("{bad:?} gave {other:?}"),
            }
        }
    }
}
