//! Names of users inside of a container, from its own `/etc/passwd`.

use std::io::Read as _;

use rustix::fs::{Mode, OFlags, ResolveFlags};

/// Most bytes read of a user list.
const MAX_LIST: u64 = 256 * 1024;

/// Name of user `uid` as process `pid` would see it; empty when it has none there. Links in the container's file
/// system are resolved inside of it (`openat2` with `RESOLVE_IN_ROOT`, Linux 5.6), so that none leads out.
pub(crate) fn name_of(pid: u32, uid: u32) -> String {
    let Ok(root) = rustix::fs::open(
        format!("/proc/{pid}/root"),
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return fallback(uid);
    };
    let list = rustix::fs::openat2(
        root,
        "etc/passwd",
        OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    let Ok(list) = list else { return fallback(uid) };
    let mut text = Vec::new();
    match std::fs::File::from(list).take(MAX_LIST).read_to_end(&mut text) {
        Ok(_) => find(&String::from_utf8_lossy(&text), uid).unwrap_or_else(|| fallback(uid)),
        Err(_) => fallback(uid),
    }
}

fn fallback(uid: u32) -> String {
    if uid == 0 { "root".to_owned() } else { String::new() }
}

/// The first line of a user list (`name:password:uid:…`, passwd(5)) with this number.
fn find(list: &str, uid: u32) -> Option<String> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid && name.len() <= 64).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_number() {
        let list = "root:x:0:0::/root:/bin/sh\nbroken\nweb:x:101:101::/:/bin/false\n";
        assert_eq!(find(list, 101), Some("web".to_owned()));
        assert_eq!(find(list, 7), None);
        assert_eq!(fallback(0), "root");
    }
}
